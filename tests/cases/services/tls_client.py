"""A client of the gateway that speaks TLS: `tls_client.py ADDRESS CA [NAME [CERTIFICATE [BEFORE]]]`. BEFORE is sent ahead of everything. For each line of its input, which is a path, it
asks for that over the one connection that it has, and writes a line of JSON: what came, and who was at the other end."""
import json
import socket
import ssl
import sys

address, ca, *rest = sys.argv[1:]
name = rest[0] if rest else "shop.example"
host, port = address.rsplit(":", 1)
context = ssl.create_default_context(cafile=ca)
# Whom one asks for may be none that the certificate is for: what is shown then is what is of interest.
context.check_hostname = False
if len(rest) > 1 and rest[1]:
    context.load_cert_chain(rest[1])


def response(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            raise EOFError("no answer")
        head += line
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
    body = stream.read(int(fields.get("content-length", 0))).decode()
    return head.decode().split(" ")[1], fields.get("connection") == "close", body


try:
    plain = socket.create_connection((host, int(port)), timeout=30)
    if len(rest) > 2:
        plain.sendall(f"{rest[2]}\r\n".encode())
    connection = context.wrap_socket(plain, server_hostname=name)
    stream = connection.makefile("rb")
    names = [value for _, value in connection.getpeercert()["subjectAltName"]]
    for path in map(str.strip, sys.stdin):
        fields = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nX-Client-Cert-Subject: CN=root\r\nX-Client-Cert-San: \"dns:root\"\r\nClient-Cert: :AAAA:\r\n\r\n"
        connection.sendall(fields.encode())
        status, closes, body = response(stream)
        said = {"status": status, "closes": closes, "body": body, "names": names, "version": connection.version()}
        print(json.dumps(said), flush=True)
except (OSError, EOFError) as error:
    print(json.dumps({"error": str(error)}), flush=True)
