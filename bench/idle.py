"""(d) Idle services: time until all run, memory and CPU of the supervisor's own processes, for 1, 100 and 1,000 times `sleep`.

watt is measured on the host's network, which is what the peers give a service, and with a private network for each. Its time
is that of `wattctl up -d`, which returns when every service is ready. The peers do not tell; they are watched, and each
process is looked at until it was once seen to be a `sleep`, so that watching a thousand of them costs some 50 ms in all.

watt's sockets are on a tmpfs, as /run is; its logs and all files of the peers are on the disk. No folder is removed before the
end: ext4 keeps what was removed a short time ago from being used again, which made each folder of the next contestant cost a
quarter of a millisecond.
"""
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

from measure import PEERS, WATTCTL, Program, cpu_us, memory, name, table, tree, wait

SIZES = [int(size) for size in os.environ.get("SIZES", "1 100 1000").split()]
IDLE_SECONDS = 5


class Sleeps:
    """The `sleep` processes below another one, as far as they were seen."""

    def __init__(self):
        self.seen = set()
        self.finished = set()

    def count(self, root):
        left = [root]
        while left:
            parent = left.pop()
            try:
                children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            except OSError:
                continue
            for child in map(int, children):
                if child in self.seen or child in self.finished:
                    continue
                if is_sleep(child):
                    self.seen.add(child)
                    # A process with one service has no other.
                    self.finished.update({parent} - {root})
                else:
                    left.append(child)
        return len(self.seen)


def is_sleep(pid):
    return name(pid).split(" ")[0].rsplit("/")[-1] == "sleep"


class Watt:
    """An application that `wattctl up -d` started, until the end of a `with`."""

    def __init__(self, folder, size, network):
        services = "\n".join(f"  s{n}: {{ command: sleep 1000000, listen: none, network: {network} }}" for n in range(size))
        (folder / "watt.yaml").write_text(f"name: bench-idle\nservices:\n{services}\n")
        self.runtime = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.file = ["--file", folder]
        self.env = dict(os.environ, WATT_RUNTIME_DIR=self.runtime.name, WATT_STATE_DIR=str(folder / "state"))
        self.run("up", "-d", folder)
        self.pid = int(pathlib.Path(self.runtime.name, "bench-idle/lock").read_text())

    def run(self, *arguments):
        subprocess.run([WATTCTL, *arguments], env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def status(self):
        started = time.monotonic()
        self.run("status", "--json", *self.file)
        return time.monotonic() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run("down", *self.file)
        self.runtime.cleanup()


def watt(network):
    return lambda folder, size: Watt(folder, size, network)


def s6(folder, size):
    scan = folder / "scan"
    for n in range(size):
        service = scan / f"s{n}"
        service.mkdir(parents=True)
        (service / "run").write_text("#!/bin/sh\nexec sleep 1000000\n")
        (service / "run").chmod(0o755)
    return Program(["s6-svscan", "-c", str(size + 10), scan], cwd=folder, log=folder / "out")


def supervisord(folder, size):
    programs = "\n".join(f"[program:s{n}]\ncommand=sleep 1000000\nstdout_logfile=NONE\nstderr_logfile=NONE" for n in range(size))
    conf = folder / "supervisord.conf"
    conf.write_text(f"[supervisord]\nnodaemon=true\nminfds=8192\nlogfile={folder}/log\npidfile={folder}/pid\n{programs}\n")
    return Program(["supervisord", "-c", conf], cwd=folder, log=folder / "out")


def pm2(folder, size):
    apps = [{"name": f"s{n}", "script": "sleep", "args": "1000000", "interpreter": "none"} for n in range(size)]
    (folder / "apps.json").write_text(json.dumps({"apps": apps}))
    env = dict(os.environ, PM2_HOME=str(folder / "pm2"), PATH=f"{PEERS}/node_modules/node/bin:{os.environ['PATH']}")
    command = [PEERS / "node_modules/.bin/pm2-runtime", folder / "apps.json"]
    return Program(command, env=env, cwd=folder, log=folder / "out")


CONTESTANTS = {"watt": watt("host"), "watt, private networks": watt("private"), "s6": s6, "supervisord": supervisord, "PM2": pm2}


def measure(contestant, start, folder, size):
    started = time.monotonic()
    with start(folder, size) as program:
        sleeps = Sleeps()
        wait(f"{size} sleep under {contestant}", lambda: sleeps.count(program.pid) >= size, 120, 0.02)
        took = time.monotonic() - started
        time.sleep(2)
        own = [pid for pid in tree(program.pid) if pid not in sleeps.seen]
        before, at = cpu_us(own), time.monotonic()
        time.sleep(IDLE_SECONDS)
        cpu = (cpu_us(own) - before) / (time.monotonic() - at) / 1e6 * 100
        answer = f"{program.status() * 1000:.0f} ms" if isinstance(program, Watt) else ""
        return [contestant, f"{took:.2f}", f"{memory(own) / 2**20:.1f}", f"{memory(own) / size / 1024:.0f}", f"{cpu:.2f} %",
                answer]


def main():
    head = ["supervisor", "all run after s", "own memory MB", "KB a service", "CPU idle", "status takes"]
    with contextlib.ExitStack() as folders:
        for size in SIZES:
            rows = []
            for contestant, start in CONTESTANTS.items():
                folder = pathlib.Path(folders.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
                rows.append(measure(contestant, start, folder, size))
            table(f"(d) {size} idle services", head, rows)


main()
