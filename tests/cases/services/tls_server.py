"""A server outside of the application that speaks TLS: `tls_server.py CERTIFICATE`, with its key in the same file. Writes its port to its output, and answers each request
with a line of JSON: how many came on the connection before it, the name that was asked for, and how long the body was."""
import http.server
import json
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.before = 0

    def do_GET(self):
        length = len(self.rfile.read(int(self.headers.get("content-length", 0))))
        asked = names.get(self.connection)
        says = {"before": self.before, "sni": asked, "host": self.headers["host"], "length": length}
        self.before += 1
        body = json.dumps(says).encode()
        if self.path.startswith("/large/"):
            body = b"x" * int(self.path.rsplit("/", 1)[1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, address):
        pass

    def finish_request(self, request, address):
        # Here, and not where it is accepted: one that turns us away would end all.
        super().finish_request(context.wrap_socket(request, server_side=True), address)


names = {}
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.sni_callback = lambda connection, name, _: names.__setitem__(connection, name)
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
