"""(f) What a service's clients see of the service next door: requests through the gateway to a Node and to a Python service, when
all is quiet and while a third one takes memory, processes, CPU, disk, log or connections as fast as it can. The attacker has
limits, without and with one of `cpu`.

Requests come at a steady pace, each by a connection of its own, from a process that the kernel runs before others: what it
sees is the services' and the proxy's, and not its own waiting. A request that failed counts as one that took as long as it may.

Beside them the same programs without watt, each in a cgroup of its own with the same limits, and asked without a proxy between:
what the kernel lets through by itself. Where cgroups are not those of version 1, whose trees anybody with the rights may add
to, these columns are left out.
"""
import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from measure import HERE, NODE, WATTCTL, answers, median, table, wait
from neighbours_attack import ATTACKS

PORT = 18160
SECONDS = float(os.environ.get("SECONDS_EACH", "5"))
PACE = 0.004
PATIENCE = 5
VICTIMS = ("node", "python")
LIMITS = {"": "memory: 128M, pids: 64, nofile: 1024", "cpu: 0.5": "memory: 128M, pids: 64, nofile: 1024, cpu: 0.5"}
NODE_SERVER = """
require('node:http').createServer((req, res) => { req.resume(); res.end('{"hello":"world"}') })
  .listen(Number(process.env.PORT), '127.0.0.1')
"""
PYTHON_SERVER = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "17")
        self.end_headers()
        self.wfile.write(b'{"hello":"world"}')
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
# The attacks that end what they take, or take what a plain program has as well.
WITHOUT = ("heap", "page-cache", "forks", "threads", "cpu", "disk", "log")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Keeps what comes in, as a log of two files of 10 MB would.
READER = """
import os, sys
while True:
    with open(sys.argv[1], "wb", buffering=0) as file:
        while file.tell() < 10 << 20:
            file.write(os.read(0, 65536) or sys.exit())
"""
CONFIGURATION = """
name: bench-neighbours
server: {{ hostname: 127.0.0.1, port: {port} }}
sandbox: standard
services:
  node: {{ path: node, command: {node} server.js }}
  python: {{ path: python, command: {python} -B server.py }}
  attacker:
    path: attacker
    command: {python} -B neighbours_attack.py {attack}
    listen: none
    ready: started
    restart: always
    env: {{ GATEWAY: "{port}" }}
    egress: {{ host_ports: [{port}] }}
    limits: {{ {limits} }}
gateway:
  routes: [{{ path: /node, service: node, strip: true }}, {{ path: /python, service: python, strip: true }}]
"""


def request(port, path):
    """How long one request took, in milliseconds."""
    start = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
            stream.sendall(f"GET /{path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := stream.recv(4096):
                answer += piece
        if not answer.startswith(b"HTTP/1.1 200 "):
            return PATIENCE * 1e3
    except OSError:
        return PATIENCE * 1e3
    return (time.monotonic() - start) * 1e3


def load(seconds, ports):
    """p50 and p99 in milliseconds, by victim."""
    took = {victim: [] for victim in VICTIMS}
    start = due = time.monotonic()
    while due - start < seconds and time.monotonic() - start < 4 * seconds:
        for victim in VICTIMS:
            time.sleep(max(0, due - time.monotonic()))
            took[victim].append(request(ports[victim], victim))
            due = max(due + PACE, time.monotonic() - 10 * PACE)
    return {victim: (quantile(all, 0.5), quantile(all, 0.99)) for victim, all in took.items()}


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def write(folder, attack, limits):
    """The programs, and the application that they are; what to start each of them with."""
    for name, file, text in (("node", "server.js", NODE_SERVER), ("python", "server.py", PYTHON_SERVER)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file).write_text(text)
    (folder / "attacker").mkdir(exist_ok=True)
    shutil.copy(HERE / "neighbours_attack.py", folder / "attacker")
    (folder / "attacker/go").unlink(missing_ok=True)
    node = NODE if os.path.exists(NODE) else shutil.which("node")
    (folder / "watt.yaml").write_text(
        CONFIGURATION.format(port=PORT, node=node, python=sys.executable, attack=attack, limits=limits))
    return {
        "node": [node, "server.js"], "python": [sys.executable, "-B", "server.py"],
        "attacker": [sys.executable, "-B", "neighbours_attack.py", attack]}


@contextlib.contextmanager
def programs(attack, limits):
    """A folder with everything in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        os.chmod(folder, 0o755)
        yield folder, write(folder, attack, limits)


def quiet_and_attacked(folder, ports):
    for victim in VICTIMS:
        wait(f"{victim} answers", answers(f"http://127.0.0.1:{ports[victim]}/{victim}"))
    load(0.5, ports)
    quiet = load(SECONDS, ports)
    (folder / "attacker/go").write_text("")
    time.sleep(1)
    return quiet, load(SECONDS, ports)


def measure(attack, limits):
    """Quiet, and under attack."""
    with programs(attack, limits) as (folder, _):
        env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
        subprocess.run([WATTCTL, "up", "-d", "--file", folder], env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            return quiet_and_attacked(folder, dict.fromkeys(VICTIMS, PORT))
        finally:
            subprocess.run([WATTCTL, "down", "--file", folder], env=env, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def by_hand(name, values):
    """A cgroup for one program; a function that takes it there, and everything in it killed at the end."""
    places = [CGROUPS / controller / f"watt-bench-{os.getpid()}-{name}" for controller in ("cpu", "memory", "pids")]
    for place in places:
        place.mkdir()
    try:
        for place in places:
            for file, value in values.items():
                if (place / file).exists():
                    (place / file).write_text(value)

        def enter():
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
            for place in places:
                (place / "cgroup.procs").write_text(str(os.getpid()))
        yield enter
    finally:
        while pids := (places[0] / "cgroup.procs").read_text().split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)
        for place in places:
            wait(f"{place} is empty", lambda: not (place / "cgroup.procs").read_text())
            place.rmdir()


def measure_without(attack, limits):
    """The same with no watt at all. `None` for attacks on what only watt has."""
    if attack not in WITHOUT or not (CGROUPS / "cpu/cgroup.procs").exists():
        return None
    ports = {"node": PORT + 1, "python": PORT + 2}
    walls = {"memory.limit_in_bytes": str(128 << 20), "pids.max": "64"}
    if "cpu" in limits:
        walls["cpu.cfs_quota_us"] = "50000"
    with contextlib.ExitStack() as end:
        folder, commands = end.enter_context(programs(attack, limits))
        reader = end.enter_context(subprocess.Popen([sys.executable, "-c", READER, folder / "log"], stdin=subprocess.PIPE))
        end.callback(reader.kill)
        for name, command in commands.items():
            enter = end.enter_context(by_hand(name, walls if name == "attacker" else {}))
            env = dict(os.environ, PORT=str(ports.get(name, 0)), STATE_DIRECTORY=str(folder), GATEWAY="0")
            # Killed with its cgroup.
            subprocess.Popen(
                command, cwd=folder / name, env=env, preexec_fn=enter, stdin=subprocess.DEVNULL,
                stdout=reader.stdin, stderr=subprocess.DEVNULL)
        return quiet_and_attacked(folder, ports)


def main():
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    found = {}
    for attack in sys.argv[1:] or ATTACKS:
        for name, limits in LIMITS.items():
            found[attack, name] = measure(attack, limits), measure_without(attack, limits)
            print(attack, name, *found[attack, name], file=sys.stderr, flush=True)
    # A machine has its moments: what is quiet is the median over all the times before an attack.
    quiet = [quiets(found, with_watt) for with_watt in (0, 1)]
    rows = [["quiet", "", *cells(quiet[0], quiet[0]), *cells(quiet[1], quiet[1])]]
    for (attack, name), (watt, without) in found.items():
        rows.append([attack, name or "none", *cells(watt[1], quiet[0]), *cells(without and without[1], quiet[1])])
    head = ["attack", "`cpu` limit"]
    for victim in (*VICTIMS, *(f"{victim} without watt" for victim in VICTIMS)):
        head += [f"{victim} p50 ms", "p99 ms", "× quiet"]
    table("(f) a neighbour's requests under attack", head, rows)


def quiets(found, which):
    """The median of what was quiet, in p50 and p99 by victim."""
    before = [pair[which][0] for pair in found.values() if pair[which]]
    return before and {
        victim: [median([each[victim][part] for each in before]) for part in (0, 1)] for victim in VICTIMS}


def cells(took, quiet):
    row = []
    for victim in VICTIMS:
        row += [f"{took[victim][0]:.2f}", f"{took[victim][1]:.2f}", f"{took[victim][1] / quiet[victim][1]:.1f}"] if took else [""] * 3
    return row


if __name__ == "__main__":
    main()
