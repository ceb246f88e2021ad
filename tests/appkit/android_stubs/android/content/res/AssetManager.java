package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;

/** The files of a folder; those that Android keeps compressed by default have no descriptor. */
public final class AssetManager {
    private final File folder;

    public AssetManager(File folder) {
        this.folder = folder;
    }

    public InputStream open(String name) throws IOException {
        return new FileInputStream(new File(folder, name));
    }

    public AssetFileDescriptor openFd(String name) throws IOException {
        if (!name.endsWith(".tflite") || Boolean.getBoolean("assets.compressed")) {
            throw new FileNotFoundException("This file can not be opened as a file descriptor; it is probably compressed");
        }
        return new AssetFileDescriptor(new File(folder, name));
    }
}
