package android.graphics;

/** ARGB colors, rows first. */
public final class Bitmap {
    private final int[] colors;
    private final int width;

    public Bitmap(int[] colors, int width) {
        this.colors = colors;
        this.width = width;
    }

    public int getWidth() {
        return width;
    }

    public int getHeight() {
        return colors.length / width;
    }

    public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
        for (int row = 0; row < height; row++) {
            System.arraycopy(colors, (y + row) * this.width + x, pixels, offset + row * stride, width);
        }
    }
}
