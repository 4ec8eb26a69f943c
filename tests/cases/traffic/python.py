"""The same as node.js, in Python."""
import base64
import hashlib
import http.client
import os
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS = 60
EVENT_EVERY_S = 0.02
POSTS = os.open(os.environ["STATE_DIRECTORY"] + "/posts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        what, *rest = self.path.split("/")[1:]
        if what == "ws":
            return self.websocket()
        if what == "events":
            return self.stream()
        length = int(self.headers.get("content-length", 0))
        if what == "mesh":
            return self.onward(rest[0], "/" + "/".join(rest[1:]), self.rfile.read(length))
        left = length
        while left > 0:
            left -= len(self.rfile.read1(left))
        if what == "post":
            time.sleep(0.005)
            os.write(POSTS, f"{rest[0]}\n".encode())
        self.reply(200, f"{self.path} {length}".encode())

    do_GET = do_PUT = do_POST = answer

    def onward(self, service, path, body):
        try:
            call = http.client.HTTPConnection(f"{service}.plt.local", timeout=60)
            call.request(self.command, path, body)
            answer = call.getresponse()
            status, text = answer.status, answer.read()
            call.close()
        except (OSError, http.client.HTTPException) as error:
            status, text = 599, f"{service}: {error!r}".encode()
        self.reply(status, text)

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for nth in range(1, EVENTS + 1):
            time.sleep(EVENT_EVERY_S)
            data = f"data: {nth}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def websocket(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("connection", "Upgrade")
        self.send_header("upgrade", "websocket")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while len(head := self.rfile.read(6)) == 6:
            payload = bytes(byte ^ head[2 + at % 4] for at, byte in enumerate(self.rfile.read(head[1] & 127)))
            self.wfile.write(bytes([head[0], len(payload)]) + payload)
            if head[0] & 15 == 8:
                code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else "no code"
                print(f"closed by the other side: {code}", flush=True)
                return

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that has gone is none of its business."""


Server(("127.0.0.1", 3000), Handler).serve_forever()
