import java.io.IOException;
import javax.servlet.http.*;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.*;

class OfJetty {
    public static void main(String[] arguments) throws Exception {
        var server = new Server(Integer.parseInt(System.getenv("PORT")));
        var context = new ServletContextHandler();
        context.addServlet(new ServletHolder(new HttpServlet() {
            protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
                response.getWriter().print("hello from jetty");
            }
        }), "/");
        server.setHandler(context);
        server.start();
        server.join();
    }
}
