"""Attacks that take what all share. What is made in a file system has no name, and is gone with the process."""
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import sys
import tempfile
import threading
import time

from common import MEGABYTE, TAKE, Contained, attack, call, libc

CHUNK = b"x" * MEGABYTE
F_SETPIPE_SZ = 1031


def raise_limit(which, value):
    """The soft limit as high as one may, to a bound."""
    hard = resource.getrlimit(which)[1]
    soft = value if hard == resource.RLIM_INFINITY else min(hard, value)
    resource.setrlimit(which, (soft, hard))


def fill(folder, size=TAKE):
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(size // MEGABYTE):
            file.write(CHUNK)
        return f"{size // MEGABYTE} MB in it"


@attack
def memory_heap():
    """takes twice its memory"""
    kept = [bytearray(CHUNK) for _ in range(TAKE // MEGABYTE)]
    return f"{len(kept)} MB"


@attack
def memory_tmpfs():
    """takes memory as files in /dev/shm"""
    return fill("/dev/shm")


@attack
def memory_shared():
    """takes memory as a System V segment"""
    identity = call("shmget", 0, ctypes.c_size_t(TAKE), 0o1600)
    libc.shmat.restype = ctypes.c_void_p
    place = libc.shmat(identity, None, 0)
    call("shmctl", identity, 0, None)
    if place == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "shmat")
    ctypes.memset(place, 1, TAKE)
    return f"{TAKE // MEGABYTE} MB"


@attack
def memory_memfd():
    """takes memory as a file without a file system"""
    descriptor = os.memfd_create("hog")
    for _ in range(TAKE // MEGABYTE):
        os.write(descriptor, CHUNK)
    return f"{TAKE // MEGABYTE} MB"


def is_cached(file, place):
    try:
        return os.preadv(file.fileno(), [bytearray(1)], place, os.RWF_NOWAIT)
    except BlockingIOError:
        return 0


@attack
def memory_page_cache():
    """fills the page cache with a file of its own"""
    with tempfile.TemporaryFile(dir=os.environ["STATE_DIRECTORY"], buffering=0) as file:
        for _ in range(TAKE // MEGABYTE):
            file.write(CHUNK)
        os.fsync(file.fileno())
        kept = sum(is_cached(file, place) for place in range(0, TAKE, MEGABYTE // 4)) // 4
    if kept <= TAKE // MEGABYTE // 2:
        raise Contained("no more stays in memory than its limit")
    return "all of it stays in memory"


def stuff(descriptor):
    """How many bytes go in before it is full."""
    os.set_blocking(descriptor, False)
    count = 0
    try:
        while True:
            count += os.write(descriptor, CHUNK)
    except BlockingIOError:
        return count


@attack
def memory_pipes():
    """takes memory as the content of pipes"""
    raise_limit(resource.RLIMIT_NOFILE, 4096)
    taken, kept = 0, []
    while taken < TAKE:
        kept.append(os.pipe())
        try:
            fcntl.fcntl(kept[-1][1], F_SETPIPE_SZ, MEGABYTE)
        except PermissionError:
            # All of a user's pipes are large enough together.
            pass
        taken += stuff(kept[-1][1])
    return f"{TAKE // MEGABYTE} MB"


@attack
def memory_sockets():
    """takes memory as what nobody reads from sockets"""
    raise_limit(resource.RLIMIT_NOFILE, 4096)
    taken, kept = 0, []
    while taken < TAKE:
        kept.append(socket.socketpair())
        for end in kept[-1]:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MEGABYTE)
            taken += stuff(end.fileno())
    return f"{TAKE // MEGABYTE} MB"


@attack
def fork_bomb():
    """forks 200 times"""
    reader, writer = os.pipe()
    for _ in range(200):
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    return "200 processes"


@attack
def thread_bomb():
    """starts 200 threads"""
    threading.stack_size(64 << 10)
    done = threading.Event()
    try:
        for _ in range(200):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError as error:
        raise Contained("EAGAIN") from error
    return "200 threads"


@attack
def cpu_spin():
    """computes without end"""
    end = time.monotonic() + 6
    while time.monotonic() < end:
        if throttled():
            raise Contained("it is throttled")
    return "as much as it wants"


def throttled():
    """Whether the kernel has made its cgroup wait (cpu.stat)."""
    with open("/proc/self/cgroup") as lines:
        rows = [line.strip().split(":", 2) for line in lines]
    for _, names, path in rows:
        try:
            with open(f"/sys/fs/cgroup/{names}{path}/cpu.stat") as lines:
                counts = dict(line.split() for line in lines)
        except OSError:
            continue
        if int(counts.get("nr_throttled", 0)):
            return True
    return False


@attack
def descriptors():
    """opens 2000 files"""
    raise_limit(resource.RLIMIT_NOFILE, 2100)
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
    return f"{len(kept)} files"


@attack
def inotify():
    """makes 50 inotify instances, of the 128 that a user has"""
    raise_limit(resource.RLIMIT_NOFILE, 200)
    kept = [call("inotify_init1", 0) for _ in range(50)]
    return f"{len(kept)} instances"


@attack
def disk_tmp():
    """fills /tmp"""
    return fill("/tmp")


@attack
def disk_state():
    """fills the folder it may keep things in"""
    return fill(os.environ["STATE_DIRECTORY"], 64 * MEGABYTE)


@attack
def disk_log():
    """writes 16 MB of log in short lines, and 4 MB without an end of line"""
    sys.stdout.flush()
    lines = b"a line of the flood\n" * 50_000
    for text in [lines] * 16 + [CHUNK] * 4 + [b"\n"]:
        while text:
            text = text[os.write(1, text):]
    return "judged by what is kept"


@attack
def realtime():
    """asks to run before all others"""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    return "realtime"


@attack
def lock_memory():
    """locks its memory in RAM"""
    area = mmap.mmap(-1, 32 * MEGABYTE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    try:
        call("mlock", ctypes.c_void_p(address), ctypes.c_size_t(32 * MEGABYTE))
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise Contained("ENOMEM") from error
    return "32 MB"
