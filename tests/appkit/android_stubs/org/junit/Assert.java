package org.junit;

import org.junit.function.ThrowingRunnable;

import java.util.Arrays;

public final class Assert {
    public static void assertTrue(String message, boolean condition) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    public static void assertArrayEquals(String message, byte[] expected, byte[] actual) {
        assertTrue(message, Arrays.equals(expected, actual));
    }

    public static <T extends Throwable> T assertThrows(Class<T> expected, ThrowingRunnable runnable) {
        try {
            runnable.run();
        } catch (Throwable thrown) {
            assertTrue("threw " + thrown, expected.isInstance(thrown));
            return expected.cast(thrown);
        }
        throw new AssertionError("threw nothing");
    }
}
