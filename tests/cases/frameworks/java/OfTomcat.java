import jakarta.servlet.http.*;
import java.io.IOException;
import java.nio.file.Files;
import org.apache.catalina.startup.Tomcat;

class OfTomcat {
    public static void main(String[] arguments) throws Exception {
        var tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setPort(Integer.parseInt(System.getenv("PORT")));
        var context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "hello", new HttpServlet() {
            protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
                response.getWriter().print("hello from tomcat");
            }
        });
        context.addServletMappingDecoded("/", "hello");
        tomcat.getConnector();
        tomcat.start();
        tomcat.getServer().await();
    }
}
