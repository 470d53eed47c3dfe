// Java's FileChannel.lock, in the language of tests/tests/interop. Prints its version first. It has no
// timeout: it tries once, or waits indefinitely.

import static java.nio.file.StandardOpenOption.CREATE;
import static java.nio.file.StandardOpenOption.WRITE;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.channels.FileChannel;
import java.nio.file.Path;

class Peers {
    public static void main(String[] args) throws Exception {
        System.out.println(Runtime.version().feature());
        var input = new BufferedReader(new InputStreamReader(System.in));
        FileChannel channel = null;
        for (String line; (line = input.readLine()) != null; ) {
            var words = line.split(" ");
            try {
                if (words[0].equals("release")) {
                    channel.close();
                    System.out.println("released");
                    continue;
                }
                channel = FileChannel.open(Path.of(words[words.length - 1]), CREATE, WRITE);
                var lock = words[0].equals("wait") ? channel.lock() : channel.tryLock();
                if (lock == null) {
                    channel.close();
                }
                System.out.println(lock == null ? "busy" : "got");
            } catch (Exception e) {
                System.out.println("error " + e);
            }
        }
    }
}
