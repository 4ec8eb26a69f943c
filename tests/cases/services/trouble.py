"""A service in trouble, for tests. It listens on $PORT and does what the path says:
/busy         503 from worker 0, 200 from the others
/sleep/30     answers after so many seconds
/then/...     calls the service `back` through $WATT_MESH_SOCKET at the path behind it, and hands on how long its own caller waits
/             200 with the fields of the request, of a POST with its length once all of it is there"""
import http.client
import json
import os
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        worker = int(os.environ["WATT_WORKER"])
        fields = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/busy" and worker == 0:
            return self.reply(503, {"worker": worker})
        if self.path.startswith("/sleep/"):
            time.sleep(float(self.path[7:]))
        if self.path.startswith("/then/"):
            return self.reply(*self.then(self.path[5:], fields))
        self.reply(200, {"worker": worker, "fields": fields})

    def do_POST(self):
        length = int(self.headers["content-length"])
        self.reply(200, {"length": len(self.rfile.read(length))})

    def then(self, path, fields):
        connection = http.client.HTTPConnection("back.plt.local")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(os.environ["WATT_MESH_SOCKET"])
        left = fields.get("x-request-timeout-ms")
        connection.request("GET", path, headers={"X-Request-Timeout-Ms": left} if left else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            # Whoever asked has gone.
            self.close_connection = True

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("", int(os.environ["PORT"])), Handler).serve_forever()
