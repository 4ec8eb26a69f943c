"""A web server whose checks fail while a file of its worker is there: `unready-0`, `sick-0`. Ill health is gone with the process."""
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORKER = os.environ["WATT_WORKER"]
if os.path.exists(f"sick-{WORKER}"):
    os.remove(f"sick-{WORKER}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        fails = {"/ready": f"unready-{WORKER}", "/healthz": f"sick-{WORKER}"}.get(self.path, "none")
        if self.path == "/healthz":
            with open(f"checked-{WORKER}", "a") as count:
                count.write(".")
        body = json.dumps({"worker": WORKER, "pid": os.getpid()}).encode()
        self.send_response(503 if os.path.exists(fails) else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
