"""The attacker of neighbours.py: waits for a file `go`, then takes one thing of what all share for as long as it lives."""
import ctypes
import fcntl
import http.client
import mmap
import os
import pathlib
import socket
import sys
import threading
import time

MEGABYTE = 1 << 20
CHUNK = b"x" * MEGABYTE
F_SETPIPE_SZ = 1031
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def again(act):
    """Does it over and over; what is refused is tried again a little later, as a program does that does not care."""
    while True:
        try:
            act()
        except (OSError, MemoryError, RuntimeError):
            time.sleep(0.001)


def heap():
    area = mmap.mmap(-1, MEGABYTE)
    area.write(CHUNK)
    kept.append(area)


def tmpfs():
    with open(f"/dev/shm/{time.monotonic_ns()}", "wb", buffering=0) as file:
        while file.write(CHUNK):
            pass


def page_cache():
    with open(os.path.join(os.environ["STATE_DIRECTORY"], "cache"), "wb", buffering=0) as file:
        for _ in range(256):
            file.write(CHUNK)


def shared():
    identity = libc.shmget(0, ctypes.c_size_t(MEGABYTE), 0o1600)
    libc.shmat.restype = ctypes.c_void_p
    place = libc.shmat(identity, None, 0)
    if place in (None, ctypes.c_void_p(-1).value):
        raise OSError("no more")
    ctypes.memset(place, 1, MEGABYTE)


def fill(descriptor):
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, CHUNK)
    except BlockingIOError:
        pass


def pipes():
    kept.append(os.pipe())
    try:
        fcntl.fcntl(kept[-1][1], F_SETPIPE_SZ, MEGABYTE)
    except PermissionError:
        pass
    fill(kept[-1][1])


def sockets():
    kept.append(socket.socketpair())
    for end in kept[-1]:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEGABYTE)
        fill(end.fileno())


def spin():
    while True:
        pass


def forks():
    if os.fork() == 0:
        # In a session of its own, so that each counts for itself where the kernel groups by session.
        os.setsid()
        again(forks)


def threads():
    threading.stack_size(64 << 10)
    threading.Thread(target=spin, daemon=True).start()


def cpu():
    for _ in range(2 * os.cpu_count()):
        if os.fork() == 0:
            spin()
    spin()


def descriptors():
    kept.append(os.open("/dev/null", os.O_RDONLY))
    watch = libc.inotify_init1(0)
    if watch < 0:
        raise OSError("no more")
    kept.append(watch)


def disk():
    with open(os.path.join(os.environ["STATE_DIRECTORY"], "disk"), "wb", buffering=0) as file:
        for _ in range(512):
            file.write(CHUNK)
        os.fsync(file.fileno())


def log():
    os.write(1, b"a line of the log that nobody will ever read\n" * 1000)


def mesh_connections():
    stream = socket.socket()
    kept.append(stream)
    stream.connect(("node.plt.local", 80))


def mesh_requests():
    connection = http.client.HTTPConnection("python.plt.local")
    while True:
        connection.request("GET", "/")
        connection.getresponse().read()


def gateway():
    return socket.create_connection(("127.0.0.1", int(os.environ["GATEWAY"])), 5)


def gateway_connections():
    kept.append(gateway())
    if len(kept) > 900:
        kept.clear()


def slow_post():
    stream = gateway()
    stream.sendall(b"POST /node HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n")
    kept.append(stream)
    # As many as may be, and a byte for one of them now and then.
    time.sleep(0.005)
    kept.append(kept.pop(0))
    kept[-1].send(b"x\r\n1\r\n")
    if len(kept) > 900:
        kept.pop(0).close()


ATTACKS = {
    act.__name__.replace("_", "-"): act
    for act in (heap, tmpfs, page_cache, shared, pipes, sockets, forks, threads, cpu, descriptors, disk, log,
                mesh_connections, mesh_requests, gateway_connections, slow_post)
}

if __name__ == "__main__":
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    again(ATTACKS[sys.argv[1]])
