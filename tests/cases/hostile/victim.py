"""The neighbour: serves requests, and has secrets in every place a program may have some."""
import ctypes
import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TAG = os.environ["VICTIM_TAG"]
SECRET = os.environ["VICTIM_SECRET"]
KEY = int(os.environ["VICTIM_KEY"])
libc = ctypes.CDLL(None, use_errno=True)
kept, listeners = [], []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def write(path):
    """As a program that does not think of its neighbours."""
    os.umask(0)
    with open(path, "w") as file:
        file.write(SECRET)
    kept.append(path)


def end(*_):
    for path in kept:
        os.unlink(path)
    libc.shmctl(segment, 0, None)
    os._exit(0)


write(os.path.join(os.environ["STATE_DIRECTORY"], "secret"))
write(f"/tmp/watt-victim-{TAG}")
write(f"/dev/shm/watt-victim-{TAG}")
segment = libc.shmget(KEY, ctypes.c_size_t(4096), 0o1666)
for name in (f"\0watt-victim-{TAG}", os.path.join(os.environ["STATE_DIRECTORY"], "sock")):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    listeners.append(listener)
kept.append(os.path.join(os.environ["STATE_DIRECTORY"], "sock"))
signal.signal(signal.SIGTERM, end)
PORT = int(sys.argv[2])
server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
if PORT == 0:
    # On the host's network it is another one each time.
    with open("port", "w") as file:
        file.write(str(server.server_port))
server.serve_forever()
