"""Attacks on the service next door: its processes, files, sockets and shared memory."""
import ctypes
import os
import signal
import socket
import time

from common import Contained, attack, call, first, opened, syscall, victim

SECRET_FILE = os.environ.get("VICTIM_SECRET_FILE", "")
STATE = os.environ.get("VICTIM_STATE", "")
TAG = os.environ.get("VICTIM_TAG", "")


def read(path):
    with open(path, "rb") as file:
        if not file.read(1):
            raise Contained("it is empty")
    return "read it"


def connect(family, address):
    with socket.socket(family) as stream:
        stream.settimeout(5)
        stream.connect(address)
    return "connected"


@attack
def neighbour_signal():
    """sends it a signal"""
    os.kill(victim(), signal.SIGWINCH)
    return "sent"


@attack
def neighbour_trace():
    """attaches a debugger to it"""
    # PTRACE_SEIZE does not stop it, and ends with this process.
    return call("ptrace", 0x4206, victim(), None, None) or "attached"


@attack
def neighbour_environment():
    """reads its environment"""
    return read(f"/proc/{victim()}/environ")


@attack
def neighbour_memory():
    """opens its memory in /proc"""
    return opened(f"/proc/{victim()}/mem", os.O_RDWR)


@attack
def neighbour_memory_call():
    """reads its memory by process_vm_readv"""
    pid = victim()
    with open(f"/proc/{pid}/maps") as lines:
        start = int(lines.readline().split("-")[0] or "400000", 16)
    buffer = ctypes.create_string_buffer(16)
    own = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 16)
    other = (ctypes.c_size_t * 2)(start, 16)
    call("process_vm_readv", pid, own, ctypes.c_ulong(1), other, ctypes.c_ulong(1), ctypes.c_ulong(0))
    return "read it"


@attack
def neighbour_descriptors():
    """opens what it has open by /proc"""
    return opened(f"/proc/{victim()}/fd/1", os.O_WRONLY)


@attack
def neighbour_take_descriptor():
    """takes an open file of it by pidfd_getfd"""
    return syscall("pidfd_getfd", syscall("pidfd_open", victim(), 0), 1, 0) and "taken"


@attack
def neighbour_root():
    """goes to its files through /proc/PID/root"""
    return read(f"/proc/{victim()}/root{SECRET_FILE}")


@attack
def neighbour_priority():
    """makes the kernel run it last"""
    os.setpriority(os.PRIO_PROCESS, victim(), os.getpriority(os.PRIO_PROCESS, victim()))
    return "set"


@attack
def neighbour_limits():
    """changes its resource limits"""
    pair = (ctypes.c_ulong * 2)()
    call("prlimit", victim(), 7, None, pair)
    call("prlimit", victim(), 7, pair, None)
    return "set"


@attack
def neighbour_oom_score():
    """makes the kernel kill it first"""
    path = f"/proc/{victim()}/oom_score_adj"
    return opened(path, os.O_WRONLY)


@attack
def neighbour_files():
    """reads a file in its folder"""
    return read(SECRET_FILE)


@attack
def neighbour_secret():
    """reads the file that a secret of its comes from"""
    return read(os.path.join(os.environ["WATT_ROOT"], "keys/token"))


@attack
def neighbour_secret_replaced():
    """waits until that file is replaced by another of its name, and reads it"""
    path = os.path.join(os.environ["WATT_ROOT"], "keys/replaced")
    end = time.monotonic() + 8
    while True:
        try:
            return read(path)
        except (OSError, Contained):
            if time.monotonic() > end:
                raise
        time.sleep(0.05)


@attack
def neighbour_credentials():
    """reads the secret where it is given to it"""
    return read(os.environ["WATT_MESH_SOCKET"].split("/workers/")[0] + "/credentials/victim/0/token")


@attack
def neighbour_state():
    """reads what it keeps in its $STATE_DIRECTORY"""
    return read(os.path.join(STATE, "secret"))


@attack
def neighbour_tmp():
    """reads its file in /tmp"""
    return read(f"/tmp/watt-victim-{TAG}")


@attack
def neighbour_shm_file():
    """reads its POSIX shared memory"""
    return read(f"/dev/shm/watt-victim-{TAG}")


@attack
def neighbour_shm():
    """finds its System V shared memory"""
    call("shmget", int(os.environ["VICTIM_KEY"]), ctypes.c_size_t(4096), 0)
    return "found"


@attack
def neighbour_keyring():
    """uses the keyring of the user both run as"""
    # KEYCTL_GET_KEYRING_ID of KEY_SPEC_USER_KEYRING.
    syscall("keyctl", 0, -4, 1)
    return "there"


@attack
def neighbour_abstract_socket():
    """connects to its abstract socket"""
    return connect(socket.AF_UNIX, f"\0watt-victim-{TAG}")


@attack
def neighbour_socket():
    """connects to its socket in the file system"""
    os.chdir(STATE)
    return connect(socket.AF_UNIX, "sock")


@attack
def neighbour_port():
    """connects to its port on localhost, past the mesh"""
    try:
        with open(os.path.join(os.path.dirname(SECRET_FILE), "port")) as file:
            port = int(file.read())
    except (OSError, ValueError):
        port = int(os.environ["VICTIM_PORT"])
    return connect(socket.AF_INET, ("127.0.0.1", port))


@attack
def neighbour_mesh_socket():
    """speaks for it at its mesh socket"""
    os.chdir(os.environ["WATT_MESH_SOCKET"].split("/workers/")[0] + "/workers/victim/0")
    return connect(socket.AF_UNIX, "mesh.sock")


@attack
def neighbour_cgroup():
    """freezes or kills it by its cgroup"""
    with open(f"/proc/{victim()}/cgroup") as lines:
        rows = [line.strip().split(":", 2) for line in lines]
    places = [
        f"/sys/fs/cgroup/{folder}{path}/{file}"
        for _, names, path in rows
        for folder in (names.removeprefix("name="), "unified", "")
        for file in ("cgroup.kill", "cgroup.freeze", "freezer.state", "cgroup.procs")
    ]
    existing = [place for place in places if os.path.exists(place)]
    if not existing:
        raise Contained("it is not seen")
    return first([lambda place=place: opened(place, os.O_WRONLY) for place in existing])
