"""What the benchmarks share: processes with their CPU and memory, load, and tables."""
import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / ".peers"
WATTCTL = os.environ.get("WATTCTL", str(ROOT / "target/release/wattctl"))
ORIGIN = os.environ.get("ORIGIN", str(ROOT / "target/release/origin"))
NODE = str(PEERS / "node_modules/node/bin/node")


def tree(pid):
    """A process and everything below it."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children = pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            for child in children:
                found += tree(int(child))
    return found


def cpu_us(pids):
    """CPU time of processes over all their threads, in microseconds, from the scheduler's own nanoseconds."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{pid}/task"):
                total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e3


def memory(pids, field="Pss"):
    """Memory of processes in bytes. Pss counts shared pages in parts, so that a sum over processes is right."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1)) * 1024
    return total


def name(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def wait(what, ask, seconds=60, every=0.002):
    """Asks until the answer is true; returns it with the time it took."""
    start = time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            answer = ask()
            if answer:
                return answer, time.monotonic() - start
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"waited {seconds} s in vain until {what}")
        time.sleep(every)


def answers(url, text=None):
    """Whether a GET is answered with 200 (and this text)."""
    def ask():
        with urllib.request.urlopen(url, timeout=2) as response:
            body = response.read().decode()
            return response.status == 200 and (text is None or text in body)
    return ask


class Program:
    """A program that runs for the time of a `with` and is gone afterwards, with everything below it."""

    def __init__(self, command, cwd=None, env=None, log=None, pin=None):
        command = [str(part) for part in command]
        if pin is not None:
            command = ["taskset", "-c", str(pin), *command]
        out = open(log, "wb") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        below = tree(self.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def wrk(url, seconds=5, connections=64, pin=1):
    """Load from one thread: requests, requests a second, p99 in ms, errors."""
    text = subprocess.run(
        ["taskset", "-c", str(pin), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url],
        capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    errors = re.search(r"Non-2xx.*|Socket errors.*", text)
    if errors:
        print(f"  {url}: {errors.group(0)}")
    return requests, rate, float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def median(values):
    return statistics.median(values)


def table(title, head, rows):
    """A markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)
