"""(i) What other clients of the gateway see while some do what leads to nothing: hold connections, trickle heads and bodies, do not read, flood
it with what HTTP/2 has besides requests, send heads that grow when they are decoded. Each attack of floods_attack.py in turn.

The application is on processor 0 as a whole, proxy, services and all; clients and attackers are on processor 1. watt has its defaults. The
attacked service is another one than the steady client's: what is asked is whether the proxy serves others, not how much one service bears.
Requests of the steady client come at a pace, each by a connection of its own, from a process that the kernel runs before the attackers. One
that failed counts as one that took as long as it may, and those that were due while another one was waited for as if they had been sent.

Application and attackers have more weight than what else the machine does (nice(1)), where that may be had; on processors that others use it is
still not as if they were alone.

Memory is the proxy's resident set: before, its peak while the attack lasts (VmHWM, set back before), and once the attackers are gone.
"""
import collections
import contextlib
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time

from floods_attack import ATTACKS
from measure import HERE, ORIGIN, WATTCTL, Program, answers, table, wait
from neighbours import PACE, PATIENCE, quantile

PORT = 18170
SECONDS = float(os.environ.get("SECONDS_EACH", "4"))
QUIET_SECONDS = min(SECONDS, 4)
# How long the proxy has to let go of what the attackers left.
REST = 3
WEIGHT = ["nice", "-n", "-15"]
CONFIGURATION = """
name: bench-floods
server: {{ hostname: 127.0.0.1, port: {port} }}
services:
  steady:
    command: "{origin} unix {{socket}}"
    listen: unix
  target:
    command: [{python}, -B, target.py, "{{socket}}"]
    path: target
    listen: unix
gateway:
  listeners:
    tls: {{ hostname: 127.0.0.1, port: {tls_port}, tls: {{ certificate: certificate.pem, key: key.pem }} }}
  routes:
    - {{ path: /steady, service: steady }}
    - {{ path: /target, service: target }}
"""
# Reads the body of a request before it answers; `/target/N` is N bytes, `/target/bomb` a gigabyte of zeros in a megabyte; of
# `/target/hold` it reads nothing.
TARGET = """
import asyncio, re, sys
from floods_attack import BOMB

FILLER = b"x" * 65536

class Target(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.head, self.left, self.answer, self.paused = transport, b"", 0, None, False
    def data_received(self, data):
        if self.answer is None:
            self.head += data
            end = self.head.find(b"\\r\\n\\r\\n")
            if end < 0:
                return
            head, data, self.head = self.head[:end + 2].lower(), self.head[end + 4:], b""
            length = re.search(rb"\\ncontent-length: (\\d+)", head)
            self.left = int(length.group(1)) if length else -1 if b"\\ntransfer-encoding: chunked" in head else 0
            self.answer = re.match(rb"\\S+ /target/?(\\d+|bomb|hold)?", head).group(1) or b"13"
            if self.answer == b"hold":
                return self.transport.pause_reading()
        self.left = self.left - len(data) if self.left > 0 else 0 if data.endswith(b"0\\r\\n\\r\\n") else self.left
        if self.left == 0:
            self.respond(self.answer)
    def respond(self, what):
        bomb, self.answer = what == b"bomb", None
        size, self.size = len(BOMB) if bomb else int(what), 0 if bomb else int(what)
        kind = b"content-encoding: gzip\\r\\n" if bomb else b""
        self.transport.write(b"HTTP/1.1 200 OK\\r\\n%scontent-length: %d\\r\\n\\r\\n" % (kind, size))
        if bomb:
            self.transport.write(BOMB)
        else:
            self.pump()
    def pump(self):
        while self.size and not self.paused and not self.transport.is_closing():
            piece = min(self.size, len(FILLER))
            self.size -= piece
            self.transport.write(FILLER[:piece])
    def pause_writing(self):
        self.paused = True
    def resume_writing(self):
        self.paused = False
        self.pump()

async def main():
    loop = asyncio.get_running_loop()
    await (await loop.create_unix_server(Target, sys.argv[1], backlog=1024)).serve_forever()
asyncio.run(main())
"""


def more_descriptors():
    """As many as a unit of watt's has, or as there may be."""
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def write(folder):
    os.chmod(folder, 0o755)
    (folder / "target").mkdir()
    (folder / "target/target.py").write_text(TARGET)
    (folder / "target/floods_attack.py").write_bytes((HERE / "floods_attack.py").read_bytes())
    certificate(folder / "certificate.pem", folder / "key.pem")
    (folder / "watt.yaml").write_text(CONFIGURATION.format(
        port=PORT, tls_port=PORT + 1, origin=ORIGIN, python=sys.executable))


def certificate(path, key, name="bench.example"):
    """A new one that vouches for itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", path], check=True, capture_output=True)


def status(folder, env):
    return json.loads(subprocess.run(
        [WATTCTL, "status", "--json", "--file", folder], env=env, capture_output=True, check=True).stdout)


def megabytes(pid, field):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1)) / 1024


def request(failed):
    """How long a request took, in milliseconds. Why it failed is counted."""
    start = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", PORT), PATIENCE) as stream:
            stream.sendall(b"GET /steady HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            answer = b""
            while piece := stream.recv(4096):
                answer += piece
        if answer.startswith(b"HTTP/1.1 200 "):
            return (time.monotonic() - start) * 1e3
        failed[answer[9:12].decode() or "closed"] += 1
    except OSError as error:
        failed["no answer" if isinstance(error, TimeoutError) else type(error).__name__] += 1
    return PATIENCE * 1e3


def steady(seconds, alive=lambda: True):
    """p50 and p99 in milliseconds, why requests failed, and how many there were, for so long or as long as the attackers are there."""
    took, failed, asked = [], collections.Counter(), 0
    start = due = time.monotonic()
    while time.monotonic() - start < seconds and alive():
        time.sleep(max(0, due - time.monotonic()))
        asked, waited = asked + 1, request(failed)
        # Who would have come meanwhile waits for the rest of it.
        took += [waited - missed * PACE * 1e3 for missed in range(max(1, int(waited / 1e3 / PACE)))]
        due = max(due + PACE, time.monotonic() - 10 * PACE)
    return quantile(took, 0.5), quantile(took, 0.99), failed, asked


def measure(name, proxy):
    quiet = steady(QUIET_SECONDS)
    before = megabytes(proxy, "VmRSS")
    # The peak begins anew (proc_pid_clear_refs(5)).
    pathlib.Path(f"/proc/{proxy}/clear_refs").write_text("5")
    attackers = subprocess.Popen(
        [*WEIGHT, sys.executable, "-B", HERE / "floods_attack.py", name, str(PORT), str(PORT + 1), str(SECONDS)],
        stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        attacked = steady(SECONDS - 0.5, alive=lambda: attackers.poll() is None)
        outcome = json.loads(attackers.communicate(timeout=60)[0])
    finally:
        attackers.kill()
    peak = megabytes(proxy, "VmHWM")
    time.sleep(REST)
    return {"quiet": quiet, "attacked": attacked, "memory": (before, peak, megabytes(proxy, "VmRSS")), **outcome}


def words(counts):
    return ", ".join(f"{word} × {count:,}" for word, count in collections.Counter(counts).most_common())


def row(name, found):
    (p50, p99, _, _), (slow50, slow99, failed, asked) = found["quiet"], found["attacked"]
    memory = " / ".join(f"{each:.0f}" for each in found["memory"])
    return [f"`{name}`: {ATTACKS[name].what}", f"{p50:.2f} / {p99:.2f}", f"{slow50:.2f} / {slow99:.2f}", f"{slow99 / p99:.1f}",
            f"{words(failed) or 0} of {asked:,}", memory, f"{found['opened']:,}", words(found["answers"]) or "nothing", words(found["ends"])]


@contextlib.contextmanager
def application():
    """One that answers, and a function that says which process its proxy is."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        write(folder)
        env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
        with Program([*WEIGHT, WATTCTL, "up", folder], pin=0, env=env, log=folder / "up.log"):
            try:
                for path in ("steady", "target"):
                    wait(f"{path} answers", answers(f"http://127.0.0.1:{PORT}/{path}"))
            except TimeoutError:
                sys.exit((folder / "up.log").read_text())
            steady(0.5)
            yield lambda: status(folder, env)["supervisor"]["proxy_pid"]


def main():
    descriptors = more_descriptors()
    os.sched_setaffinity(0, {min(1, os.cpu_count() - 1)})
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    rows = []
    for name in sys.argv[1:] or ATTACKS:
        # A new one for each, so that its memory is what this attack takes.
        with application() as proxy:
            pid = proxy()
            rows.append(row(name, measure(name, pid)))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
            if proxy() != pid:
                sys.exit(f"the proxy did not outlive {name}")
    table(f"(i) other clients under attack, {SECONDS:.0f} s each, {descriptors:,} descriptors",
          ["attack", "quiet p50 / p99 ms", "attacked p50 / p99 ms", "p99 × quiet", "failed requests", "proxy's memory before / peak / after, MB",
           "connections made", "answers", "ends"], rows)


if __name__ == "__main__":
    main()
