import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import org.junit.Test;

/** Runs the tests of a class: java RunTests edgepack.name.GoldenTest. */
public final class RunTests {
    public static void main(String[] arguments) throws Exception {
        Class<?> tests = Class.forName(arguments[0]);
        int failed = 0;
        for (Method method : tests.getDeclaredMethods()) {
            if (!method.isAnnotationPresent(Test.class)) {
                continue;
            }
            try {
                method.invoke(tests.getDeclaredConstructor().newInstance());
                System.out.println("ok " + method.getName());
            } catch (InvocationTargetException e) {
                failed++;
                System.out.println("not ok " + method.getName() + ": " + e.getCause());
            }
        }
        System.exit(failed);
    }
}
