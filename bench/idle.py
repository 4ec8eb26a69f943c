"""(d) Idle services: time until all run, memory and CPU of the supervisor's own processes, for 1, 100 and 1,000 times `sleep`.

watt is measured on the host's network, which is what the peers give a service, and with a private network for each.
"""
import json
import os
import pathlib
import subprocess
import tempfile
import time

from measure import PEERS, WATTCTL, Program, cpu_us, memory, name, table, tree, wait

SIZES = [int(size) for size in os.environ.get("SIZES", "1 100 1000").split()]
IDLE_SECONDS = 5


def sleeps(pids):
    return [pid for pid in pids if name(pid).split(" ")[0].rsplit("/")[-1] == "sleep"]


def watt(network):
    def contestant(folder, size):
        services = "\n".join(f"  s{n}: {{ command: sleep 1000000, listen: none, network: {network} }}" for n in range(size))
        (folder / "watt.yaml").write_text(f"name: bench-idle\nservices:\n{services}\n")
        env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
        def processes(_):
            info = folder / "run/bench-idle/lock"
            return tree(int(info.read_text())) if info.exists() and info.read_text().strip() else []
        def status():
            started = time.monotonic()
            subprocess.run([WATTCTL, "status", "--json", "--file", folder], env=env, check=True, stdout=subprocess.DEVNULL)
            return time.monotonic() - started
        return [WATTCTL, "up", folder], env, processes, status
    return contestant


def s6(folder, size):
    scan = folder / "scan"
    for n in range(size):
        service = scan / f"s{n}"
        service.mkdir(parents=True)
        (service / "run").write_text("#!/bin/sh\nexec sleep 1000000\n")
        (service / "run").chmod(0o755)
    return ["s6-svscan", "-c", str(size + 10), scan], None, tree, None


def supervisord(folder, size):
    programs = "\n".join(f"[program:s{n}]\ncommand=sleep 1000000\nstdout_logfile=NONE\nstderr_logfile=NONE" for n in range(size))
    conf = folder / "supervisord.conf"
    conf.write_text(f"[supervisord]\nnodaemon=true\nminfds=8192\nlogfile={folder}/log\npidfile={folder}/pid\n{programs}\n")
    return ["supervisord", "-c", conf], None, tree, None


def pm2(folder, size):
    apps = [{"name": f"s{n}", "script": "sleep", "args": "1000000", "interpreter": "none"} for n in range(size)]
    (folder / "apps.json").write_text(json.dumps({"apps": apps}))
    env = dict(os.environ, PM2_HOME=str(folder / "pm2"), PATH=f"{PEERS}/node_modules/node/bin:{os.environ['PATH']}")
    return [PEERS / "node_modules/.bin/pm2-runtime", folder / "apps.json"], env, tree, None


CONTESTANTS = {"watt": watt("host"), "watt, private networks": watt("private"), "s6": s6, "supervisord": supervisord, "PM2": pm2}


def main():
    for size in SIZES:
        rows = []
        for contestant, prepare in CONTESTANTS.items():
            with tempfile.TemporaryDirectory(dir="/tmp") as folder:
                folder = pathlib.Path(folder)
                command, env, processes, status = prepare(folder, size)
                started = time.monotonic()
                with Program(command, env=env, cwd=folder, log=folder / "out") as program:
                    wait(f"{size} sleep under {contestant}", lambda: len(sleeps(processes(program.pid))) >= size, 120, 0.02)
                    took = time.monotonic() - started
                    time.sleep(2)
                    own = [pid for pid in processes(program.pid) if pid not in sleeps([pid])]
                    before, at = cpu_us(own), time.monotonic()
                    time.sleep(IDLE_SECONDS)
                    cpu = (cpu_us(own) - before) / (time.monotonic() - at) / 1e6 * 100
                    answer = f"{status() * 1000:.0f} ms" if status else ""
                    rows.append([contestant, f"{took:.2f}", f"{memory(own) / 2**20:.1f}",
                                 f"{memory(own) / size / 1024:.0f}", f"{cpu:.2f} %", answer])
        table(f"(d) {size} idle services", ["supervisor", "all run after s", "own memory MB", "KB a service", "CPU idle",
                                            "status takes"], rows)


main()
