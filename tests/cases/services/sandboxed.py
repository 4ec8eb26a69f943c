"""Tries what a sandbox may forbid, and writes a line about each attempt."""
import ctypes
import errno
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)


def say(what, answer):
    print(f"{what}: {answer}", flush=True)


def attempt(what, act):
    try:
        act()
        say(what, "done")
    except OSError as error:
        say(what, errno.errorcode.get(error.errno, str(error)))


def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def write_in(folder):
    """A file without a name: nothing is left of it."""
    os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))


def others_process():
    """The process of another service, if it is seen."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == b"sleep\0" + os.environ["OTHERS_ARGUMENT"].encode() + b"\0":
                    return pid
        except OSError:
            continue
    return None


def look_into_other():
    """Reads the environment of another service's process, as far as one is seen."""
    pid = others_process()
    if pid is None:
        raise OSError(errno.ESRCH, "no such process")
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def status(key):
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(key))


root = os.environ["WATT_ROOT"]
say("bounding", status("CapBnd"))
say("no new privileges", status("NoNewPrivs"))
say("umask", f"{os.umask(0):03o}")
say("user", "watt's" if os.getuid() in (0, 65534) else "own")
say("processes", "all" if others_process() else "own")
say("kmsg", "seen" if os.path.exists("/dev/kmsg") else "none")
attempt("write /usr", lambda: write_in("/usr"))
attempt("write root", lambda: write_in(root))
attempt("write state", lambda: write_in(os.environ["STATE_DIRECTORY"]))
attempt("write tmp", lambda: write_in("/tmp"))
attempt("read other", lambda: os.close(os.open(os.path.join(root, "other/secret"), os.O_RDONLY)))
attempt("look into other", look_into_other)
attempt("open sysctl", lambda: os.close(os.open("/proc/sys/kernel/ctrl-alt-del", os.O_WRONLY)))
attempt("raw socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
attempt("mount", lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None))
attempt("new namespace", lambda: call("unshare", 0x10000000))
print("end of attempts", flush=True)
