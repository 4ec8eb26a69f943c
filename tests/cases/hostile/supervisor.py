"""Attacks on watt itself: its processes, sockets and folders."""
import array
import errno
import os
import signal
import socket

import time

from common import Contained, attack, call, first, opened, past, supervisors, syscall

# The application's runtime folder.
PLACES = os.environ.get("WATT_MESH_SOCKET", "/").split("/workers/")[0]
STATUS = b"GET /v1/status HTTP/1.1\r\nHost: watt\r\nConnection: close\r\n\r\n"
CALL = b"GET / HTTP/1.1\r\nHost: forbidden.plt.local\r\nConnection: close\r\n\r\n"


def ask(folder, name, request=STATUS):
    """An answer with status 200 from a socket. Its path has 107 bytes at most, so one goes to its folder."""
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(name)
        stream.sendall(request)
        answer = stream.recv(4096)
    if b" 200 " not in answer[:40]:
        raise Contained(answer[9:12].decode(errors="replace") or "closed")
    return "answered"


@attack
def control_socket():
    """asks watt's control socket"""
    return ask(PLACES, "control.sock")


@attack
def control_socket_around():
    """asks it through the supervisor's own root folder"""
    return first([lambda pid=pid: ask(f"/proc/{pid}/root{PLACES}", "control.sock") for pid in supervisors()])


@attack
def operators_mesh_socket():
    """calls the forbidden service as an operator"""
    return first([lambda where=where: ask(where + PLACES, "mesh.sock", CALL) for where in [""] + roots()])


@attack
def proxy_socket():
    """gives the proxy orders as the daemon"""
    return first([lambda where=where: ask(where + PLACES, "proxy.sock") for where in [""] + roots()])


def roots():
    try:
        return [f"/proc/{pid}/root" for pid in supervisors()]
    except OSError:
        return []


@attack
def supervisor_signal():
    """sends the supervisor a signal"""
    return first([lambda pid=pid: os.kill(pid, signal.SIGWINCH) or "sent" for pid in supervisors()])


@attack
def supervisor_trace():
    """attaches a debugger to the supervisor"""
    # PTRACE_SEIZE.
    return first([lambda pid=pid: call("ptrace", 0x4206, pid, None, None) or "attached" for pid in supervisors()])


@attack
def supervisor_memory():
    """opens the supervisor's memory"""
    return first([lambda pid=pid: opened(f"/proc/{pid}/mem", os.O_RDWR) for pid in supervisors()])


@attack
def supervisor_descriptors():
    """takes a listener or pipe of the supervisor"""

    def take(pid):
        return syscall("pidfd_getfd", syscall("pidfd_open", pid, 0), 3, 0) and "taken"

    return first([lambda pid=pid: take(pid) for pid in supervisors()])


@attack
def supervisor_environment():
    """reads the supervisor's environment"""
    return first([lambda pid=pid: opened(f"/proc/{pid}/environ") for pid in supervisors()])


@attack
def leaked_descriptors():
    """uses open files that were not meant for it"""
    leaked = []
    for number in range(3, 1024):
        try:
            if not os.get_inheritable(number):
                continue
            leaked.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    if not leaked:
        raise Contained("there are none")
    return ", ".join(leaked)


def notify(messages, descriptors=()):
    """Sends to the socket of sd_notify(3), as a rights-carrying datagram where there are descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)
        sender.connect(os.environ["NOTIFY_SOCKET"])
        for message in messages:
            try:
                sender.sendmsg([message], rights)
            except OSError:
                pass


@attack
def notify_malformed():
    """sends what is no message of sd_notify(3)"""
    notify([
        b"",
        b"\0" * 100,
        b"=" * 60000,
        b"\n" * 60000,
        b"\xff\xfe=\xff\n",
        b"READY",
        b"READY=\xff",
        b"ERRNO=x",
        b"MAINPID=1\nMAINPID=-1",
        b"MAINPID=99999999999999999999\nSTOPPING=1\nRELOADING=1\nFDSTORE=1\nFDNAME=../../x\nFDPOLL=0\nBARRIER=1",
        b"WATCHDOG_USEC=99999999999999999999999",
        b"EXTEND_TIMEOUT_USEC=-1",
        b"STATUS=" + b"\x1b[2J" * 10000,
    ])
    notify([b"READY=1"])
    return "judged by watt's health"


@attack
def notify_rights():
    """sends watt thousands of open files with its messages"""
    reader, writer = os.pipe()
    notify([b"FDSTORE=1", b"BARRIER=1", b"READY=0"] * 100, [reader, writer] * 20)
    notify([b"READY=1"])
    # Nobody else has the reading end, or this would be no error.
    os.close(reader)
    try:
        while os.write(writer, b"x"):
            time.sleep(0.01)
    except BrokenPipeError:
        return "judged by watt's health"


@attack
def notify_as_neighbour():
    """says that its neighbour is stopping"""
    os.chdir(f"{PLACES}/workers/victim/0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("notify.sock")
        sender.send(b"STOPPING=1")
    return "sent"


def end_run():
    """The program ends, and with it all of its run."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


@attack
def crash_loop():
    """ends as soon as it is started, to keep the spawner busy"""
    mark = os.path.join(os.environ["STATE_DIRECTORY"], "starts")
    with open(mark, "a+") as file:
        file.write(f"{time.monotonic()}\n")
        file.seek(0)
        starts = [float(line) for line in file]
    if len(starts) < 4:
        end_run()
    os.unlink(mark)
    if starts[-1] - starts[0] < 1:
        return "it is started without a pause"
    raise Contained("it is started later each time")


@attack
def mesh_rights():
    """sends the proxy open files with its requests"""
    pair = os.pipe()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pair * 20))]
    request = b"GET / HTTP/1.1\r\nHost: victim.plt.local\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(os.environ["WATT_MESH_SOCKET"])
        for _ in range(20):
            stream.sendmsg([request], rights)
            if not stream.recv(65536):
                break
    # Nobody else has the reading end, or this would be no error.
    os.close(pair[0])
    try:
        os.write(pair[1], b"x")
    except BrokenPipeError:
        raise Contained("they are dropped") from None
    return "they are kept"


@attack
def folder_links():
    """puts links to others' files where watt makes its own, and starts again"""
    target = os.environ["VICTIM_SECRET_FILE"]
    mark = os.path.join(os.environ["STATE_DIRECTORY"], "second")
    own = os.path.dirname(os.environ["WATT_MESH_SOCKET"])
    if os.path.exists(mark):
        os.unlink(mark)
        return "judged by the files"
    with open(mark, "w"):
        pass
    for name in ("worker.sock", "mesh.sock", "notify.sock", "x"):
        path = os.path.join(own, name)
        try:
            os.unlink(path)
        except OSError:
            pass
        try:
            os.symlink(target, path)
        except OSError:
            pass
    os.symlink(target, os.path.join(os.environ["STATE_DIRECTORY"], "link"))
    end_run()


@attack
def supervisor_files():
    """changes logs and state of watt, or of other services"""
    state = os.path.dirname(os.path.dirname(os.environ["STATE_DIRECTORY"]))
    return first([lambda name=name: opened(f"{state}/{name}", os.O_WRONLY) for name in ("logs/watt.log", "services/x")])


@attack
def configuration():
    """changes watt.yaml, to be without a sandbox after the next reload"""
    return opened(os.path.join(os.environ["WATT_ROOT"], "watt.yaml"), os.O_WRONLY)


@attack
def configuration_replace():
    """puts another file in the place of watt.yaml"""
    path = os.path.join(os.environ["WATT_ROOT"], "watt.yaml")
    os.rename(path, path + ".old")
    os.rename(path + ".old", path)
    return "replaced"


@attack
def configuration_folder():
    """moves the application's folder away, to put another one in its place"""
    root = os.environ["WATT_ROOT"]
    beside = os.path.join(os.path.dirname(root), "beside")
    # That one is not empty, as is found out after whether it may be renamed.
    return past((errno.ENOTEMPTY, errno.EEXIST), os.rename, root, beside)


@attack
def configuration_variables():
    """makes the .env that there is not, with variables for all services at the next start"""
    path = os.path.join(os.environ["WATT_ROOT"], ".env")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.unlink(path)
    return "made"
