"""Long things for tests of what lives on: /stream sends a line every 20 ms for as long as somebody reads, /upload reads a body and says
how long it was, /echo changes to a protocol of its own (101) that gives back what it gets. Numbered lines go to the log."""
import itertools
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for number in itertools.count():
                    line = f"data: {number}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    time.sleep(0.02)
            except OSError:
                self.close_connection = True
            return
        if self.path == "/echo":
            self.send_response(101)
            self.send_header("connection", "upgrade")
            self.send_header("upgrade", "echo")
            self.end_headers()
            self.close_connection = True
            while data := self.connection.recv(65536):
                self.connection.sendall(data)
            return
        self.reply(str(os.getpid()))

    def do_POST(self):
        left = int(self.headers["content-length"])
        length = left
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        self.reply(f"{length} bytes")

    def reply(self, text):
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def count():
    for number in itertools.count():
        print(f"line {number}", flush=True)
        time.sleep(0.002)


if __name__ == "__main__":
    threading.Thread(target=count, daemon=True).start()
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
    sys.stderr.write("listening\n")
    server.serve_forever()
