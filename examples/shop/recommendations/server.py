"""What goes well with a product. Both workers listen on port 3000, like api's: each has a network of its own."""
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOES_WITH = {1: [2, 4], 2: [4, 5], 3: [1, 5], 4: [2, 1], 5: [2, 3]}


class Recommendations(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        match = re.fullmatch(r"/for/(\d+)", self.path)
        status, value = (200, GOES_WITH.get(int(match[1]), [])) if match else (404, {"error": "no such page"})
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(format % args, flush=True)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 3000), Recommendations).serve_forever()
