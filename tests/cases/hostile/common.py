"""What the attacks share: their list, and the words in which one says what came of it.

An attack is a function. It returns what it got, in words, when it succeeded, and raises when it did not: `OSError` from the
kernel, or `Contained`. It never does more harm than it takes to see that it could: a call is made with arguments that fail
after the check of rights, a signal is one that is ignored, and what is filled has a bound.
"""
import ctypes
import errno
import os
import platform

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

ATTACKS = {}
# How much is taken of anything by those who take too much: more than their limit, and no harm to a machine.
TAKE = 128 << 20
MEGABYTE = 1 << 20
# Of unistd.h; those from 424 on are the same everywhere.
NUMBERS = {
    "x86_64": {
        "init_module": 175, "kexec_load": 246, "keyctl": 250, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "init_module": 105, "kexec_load": 104, "keyctl": 219, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282,
    },
}[platform.machine()] | {
    "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438,
}


class Contained(Exception):
    """It did not succeed, and why."""


def attack(function):
    """Enters an attack in the list, by its name in the table."""
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


def check(result, what=""):
    """The result of a C function that returns a negative number when it fails."""
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def call(name, *arguments):
    """A function of the C library."""
    return check(getattr(libc, name)(*arguments), name)


def syscall(name, *arguments):
    """A system call that the C library has no function for."""
    longs = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return check(libc.syscall(ctypes.c_long(NUMBERS[name]), *longs), name)


def past(passed, act, *arguments):
    """A call whose arguments make it fail with one of the errors `passed` once it was found to be allowed."""
    try:
        act(*arguments)
    except OSError as error:
        if error.errno not in passed:
            raise
    return "allowed"


def opened(path, flags=os.O_RDONLY):
    """Opens a file and closes it."""
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
    return "opened"


def first(acts):
    """The first of several that succeeds; else the last one's error."""
    last = Contained("there is none")
    for act in acts:
        try:
            return act()
        except (OSError, Contained) as error:
            last = error
    raise last


def in_child(act):
    """Does it in a child, for what there is no way back from. An error comes back as itself."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = "done " + (act() or "")
        except OSError as error:
            said = f"error {error.errno}"
        except Contained as error:
            said = f"contained {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        word, _, rest = lines.read().partition(" ")
    os.waitpid(pid, 0)
    if word == "error":
        raise OSError(int(rest), os.strerror(int(rest)))
    if word != "done":
        raise Contained(rest or "it was ended")
    return rest


def processes(*words):
    """Processes of this application whose command line has these words."""
    found = []
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().decode(errors="replace")
        except OSError:
            continue
        if int(pid) != os.getpid() and all(word in line for word in words):
            found.append(int(pid))
    if not found:
        raise OSError(errno.ESRCH, "it is not seen")
    return found


def victim():
    """The neighbour's process."""
    return processes("victim.py", os.environ["VICTIM_MARK"])[0]


def parent(pid):
    """0 when it has ended."""
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("PPid"))
    except OSError:
        return 0


def supervisors():
    """watt's own processes: the parent of the program, which this is a child of, and that one's other children."""
    spawner = parent(os.getppid())
    found = [pid for pid in processes("wattctl") if spawner in (pid, parent(pid))]
    if not found:
        raise OSError(errno.ESRCH, "it is not seen")
    return found
