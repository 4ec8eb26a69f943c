"""A web server whose checks fail while a file of its worker is there: `unready-0`, `sick-0`. Ill health is gone with the process, and what
is in the file is the process that is meant, any when it is empty. It begins when there is no file `hold`, if HOLD is set. Asked to stop it closes its
door, says so by a file `closed`, and stays until there is a file `leave`, if LINGER is set."""
import json
import os
import signal
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORKER = os.environ["WATT_WORKER"]
HEALTHY = int(os.environ.get("HEALTHY", "200"))
if os.path.exists(f"sick-{WORKER}"):
    os.remove(f"sick-{WORKER}")
while "HOLD" in os.environ and os.path.exists("hold"):
    time.sleep(0.01)


def is_meant(file):
    try:
        with open(file) as meant:
            return meant.read() in ("", str(os.getpid()))
    except FileNotFoundError:
        return False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        fails = {"/ready": f"unready-{WORKER}", "/healthz": f"sick-{WORKER}"}.get(self.path, "none")
        if self.path == "/healthz":
            with open(f"checked-{WORKER}", "a") as count:
                count.write(".")
        body = json.dumps({"worker": WORKER, "pid": os.getpid()}).encode()
        self.send_response(503 if is_meant(fails) else HEALTHY if self.path == "/healthz" else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def leave(*_):
    server.socket.close()
    open("closed", "w").close()
    while not os.path.exists("leave"):
        time.sleep(0.01)
    os._exit(0)


server = ThreadingHTTPServer(("127.0.0.1", 3000), Handler)
if "LINGER" in os.environ:
    signal.signal(signal.SIGTERM, leave)
server.serve_forever()
