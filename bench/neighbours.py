"""(f) What a service's clients see of the service next door: requests through the gateway to a Node and to a Python service, when
all is quiet and while a third one takes memory, processes, CPU, disk, log or connections as fast as it can. The attacker has
limits, without and with one of `cpu`.

Requests come at a steady pace, each by a connection of its own, from a process that the kernel runs before others: what it
sees is the services' and the proxy's, and not its own waiting. A request that failed counts as one that took as long as it may.
"""
import contextlib
import os
import pathlib
import shutil
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


def request(path):
    """How long one request took, in milliseconds."""
    start = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", PORT), PATIENCE) as stream:
            stream.sendall(f"GET /{path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while piece := stream.recv(4096):
                answer += piece
        if not answer.startswith(b"HTTP/1.1 200 "):
            return PATIENCE * 1e3
    except OSError:
        return PATIENCE * 1e3
    return (time.monotonic() - start) * 1e3


def load(seconds):
    """p50 and p99 in milliseconds, by victim."""
    took = {victim: [] for victim in VICTIMS}
    start = due = time.monotonic()
    while due - start < seconds and time.monotonic() - start < 4 * seconds:
        for victim in VICTIMS:
            time.sleep(max(0, due - time.monotonic()))
            took[victim].append(request(victim))
            due = max(due + PACE, time.monotonic() - 10 * PACE)
    return {victim: (quantile(all, 0.5), quantile(all, 0.99)) for victim, all in took.items()}


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def write(folder, attack, limits):
    for name, file, text in (("node", "server.js", NODE_SERVER), ("python", "server.py", PYTHON_SERVER)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / file).write_text(text)
    (folder / "attacker").mkdir(exist_ok=True)
    shutil.copy(HERE / "neighbours_attack.py", folder / "attacker")
    (folder / "attacker/go").unlink(missing_ok=True)
    node = NODE if os.path.exists(NODE) else shutil.which("node")
    (folder / "watt.yaml").write_text(
        CONFIGURATION.format(port=PORT, node=node, python=sys.executable, attack=attack, limits=limits))


def measure(attack, limits):
    """Quiet, and under attack."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        os.chmod(folder, 0o755)
        write(folder, attack, limits)
        env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
        subprocess.run([WATTCTL, "up", "-d", "--file", folder], env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            for victim in VICTIMS:
                wait(f"{victim} answers", answers(f"http://127.0.0.1:{PORT}/{victim}"))
            load(0.5)
            quiet = load(SECONDS)
            (folder / "attacker/go").write_text("")
            time.sleep(1)
            return quiet, load(SECONDS)
        finally:
            subprocess.run([WATTCTL, "down", "--file", folder], env=env, stdout=subprocess.DEVNULL)


def main():
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    found = {}
    for attack in sys.argv[1:] or ATTACKS:
        for name, limits in LIMITS.items():
            found[attack, name] = measure(attack, limits)
            print(attack, name, *found[attack, name], file=sys.stderr, flush=True)
    # A machine has its moments: what is quiet is the median over all the times before an attack.
    quiet = {
        victim: [median([before[victim][part] for before, _ in found.values()]) for part in (0, 1)]
        for victim in VICTIMS}
    rows = [["quiet", ""]]
    for victim in VICTIMS:
        rows[0] += [f"{quiet[victim][0]:.2f}", f"{quiet[victim][1]:.2f}", "1"]
    for (attack, name), (_, under) in found.items():
        row = [attack, name or "none"]
        for victim in VICTIMS:
            p50, p99 = under[victim]
            row += [f"{p50:.2f}", f"{p99:.2f}", f"{p99 / quiet[victim][1]:.1f}"]
        rows.append(row)
    head = ["attack", "`cpu` limit"]
    for victim in VICTIMS:
        head += [f"{victim} p50 ms", "p99 ms", "× quiet"]
    table("(f) a neighbour's requests under attack", head, rows)


if __name__ == "__main__":
    main()
