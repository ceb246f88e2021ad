package org.tensorflow.lite;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;

/** LiteRT itself, in a process of its own: each message is a length and that many bytes. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setNumThreads(int threads) {
            return this;
        }
    }

    private final Process process;
    private final DataOutputStream to;
    private final DataInputStream from;

    public Interpreter(ByteBuffer model, Options options) {
        try {
            ProcessBuilder builder = new ProcessBuilder(System.getProperty("litert").split("\n"));
            process = builder.redirectError(ProcessBuilder.Redirect.INHERIT).start();
            to = new DataOutputStream(process.getOutputStream());
            from = new DataInputStream(process.getInputStream());
            send(model);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    public void run(Object input, Object output) {
        try {
            send((ByteBuffer) input);
            byte[] answer = new byte[from.readInt()];
            from.readFully(answer);
            ((ByteBuffer) output).put(answer);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() {
        process.destroy();
    }

    private void send(ByteBuffer buffer) throws IOException {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        to.writeInt(bytes.length);
        to.write(bytes);
        to.flush();
    }
}
