"""Tries the sockets that are not its own, as another service and as an operator, and writes a line about each."""
import os
import socket

places = os.environ["WATT_MESH_SOCKET"].split("/workers/")[0]
GET = b"GET / HTTP/1.1\r\nHost: secret.plt.local\r\nConnection: close\r\n\r\n"
STATUS = b"GET /v1/status HTTP/1.1\r\nHost: watt\r\nConnection: close\r\n\r\n"


def ask(path, request):
    """The status of the answer, `closed`, or the error of connecting."""
    try:
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(30)
        stream.connect(path)
        stream.sendall(request)
        return stream.recv(4096).decode(errors="replace").split(" ")[1]
    except (IndexError, ConnectionResetError, BrokenPipeError):
        return "closed"
    except OSError as error:
        return type(error).__name__


supervisor = os.getppid()
for way, root in (("as it sees them", ""), ("as the supervisor sees them", f"/proc/{supervisor}/root")):
    for name, request in (
        ("workers/front/0/mesh.sock", GET),
        ("mesh.sock", GET),
        ("control.sock", STATUS),
        ("proxy.sock", b""),
    ):
        # The path of a socket has 107 bytes at most.
        try:
            os.chdir(f"{root}{places}")
            answer = ask(name, request)
        except OSError as error:
            answer = type(error).__name__
        print(f"{way}: {name}: {answer}", flush=True)
print("done", flush=True)
