"""Takes the requests of jobs, one line of ticks.log for each as soon as it is here: job, instant, attempt, method, path, body.

/hang waits until there is a file `release`, /status/N answers with that status, /flood answers with 100 MB, everything else with `done PATH`.
"""
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOG = os.open("ticks.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        fields = [self.headers.get(name, "-") for name in ("X-Watt-Job", "X-Watt-Instant", "X-Retry-Attempt")]
        line = " ".join(fields + [self.command, self.path, body]).strip() + "\n"
        if "X-Watt-Job" in self.headers:
            os.write(LOG, line.encode())
        status, answer = 200, f"done {self.path}".encode()
        if self.path.startswith("/status/"):
            status = int(self.path.rsplit("/", 1)[1])
        elif self.path == "/hang":
            while not os.path.exists("release"):
                time.sleep(0.02)
        elif self.path == "/flood":
            answer = b"x" * (100 << 20)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        try:
            self.wfile.write(answer)
        except OSError:
            pass

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1000


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
