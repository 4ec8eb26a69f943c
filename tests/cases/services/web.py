"""A web server for tests. It listens as its arguments say and answers every request with what it knows of itself and of the
request, as JSON. Paths starting with /call/<service>/ are passed on to that service by its name."""
import http.client
import json
import os
import socket
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path
        if path.startswith("/call/"):
            _, _, service, rest = path.split("/", 3)
            return self.call(f"http://{service}.plt.local/{rest}")
        if path.startswith("/fetch?"):
            return self.call(path[7:])
        if path.startswith("/mesh/"):
            _, _, service, rest = path.split("/", 3)
            return self.mesh(service, "/" + rest)
        if path.startswith("/slow/"):
            time.sleep(float(path[6:]))
        if path.startswith("/burn/"):
            until = time.thread_time() + float(path[6:])
            while time.thread_time() < until:
                pass
        if path.startswith("/large/"):
            return self.reply(200, "x" * (int(path[7:]) - 2))
        if path == "/exit":
            os._exit(3)
        if path == "/env":
            return self.reply(200, dict(os.environ))
        self.reply(200, {
            "service": os.environ.get("WATT_SERVICE"), "worker": os.environ.get("WATT_WORKER"), "pid": os.getpid(),
            "language": "python", "path": path, "headers": {k.lower(): v for k, v in self.headers.items()},
        })

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.reply(200, {"length": len(body), "path": self.path})

    def call(self, url):
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                self.reply(200, {"status": answer.status, "body": answer.read().decode()})
        except urllib.error.HTTPError as error:
            self.reply(200, {"status": error.code, "body": error.read().decode()})
        except OSError as error:
            self.reply(200, {"error": str(error)})

    def mesh(self, service, path):
        """The same call over $WATT_MESH_SOCKET."""
        connection = http.client.HTTPConnection(f"{service}.plt.local")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(os.environ["WATT_MESH_SOCKET"])
        connection.request("GET", path)
        answer = connection.getresponse()
        self.reply(200, {"status": answer.status, "body": answer.read().decode()})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "client"

    def log_message(self, format, *arguments):
        print(format % arguments, flush=True)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        """Without the look-up of the host's name that the standard one does."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "web", 0


def listener(how):
    if how == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.bind(os.environ["WATT_SOCKET"])
        made.listen(128)
        return made
    if how == "fd":
        assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid()), dict(os.environ)
        return socket.socket(fileno=3)
    return None


how = sys.argv[1] if len(sys.argv) > 1 else "3000"
made = listener(how)
if made is None:
    host, port = "127.0.0.1", how
    if how == "port":
        port = os.environ["PORT"]
    elif how.startswith("["):
        # [::1]:3000
        host, port = how[1:].split("]:")
        Server.address_family = socket.AF_INET6
    server = Server((host, int(port)), Handler)
else:
    server = Server(("", 0), Handler, bind_and_activate=False)
    server.socket = made
    # BaseHTTPRequestHandler wants an address of two parts.
    server.get_request = lambda: (made.accept()[0], ("unix", 0))
print("listening", flush=True)
server.serve_forever()
