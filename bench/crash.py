"""(e) A worker is killed -9: how long until its successor answers. The worker is a native program that is ready in a millisecond, so
what is measured is the supervisor. And what a spawn costs over a bare fork and exec.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

from measure import ORIGIN, PEERS, ROOT, WATTCTL, Program, median, name, table, tree, wait

ROUNDS = 20


def listens(port):
    def ask():
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    return ask


def watt(folder):
    # healthy_after is 30 s by default: a program that crashes sooner waits 200 ms first. Here it is 100 ms.
    (folder / "watt.yaml").write_text(f"""
name: bench-crash
services:
  origin:
    command: "{ORIGIN} tcp 127.0.0.1:18160"
    network: host
    restart: {{ healthy_after: 100ms, give_up: {{ failures: 1000, within: 1s }} }}
""")
    env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
    return [WATTCTL, "up", folder], env, lambda _: tree(int((folder / "run/bench-crash/lock").read_text()))


def supervisord(folder):
    conf = folder / "supervisord.conf"
    conf.write_text(f"[supervisord]\nnodaemon=true\nlogfile={folder}/log\npidfile={folder}/pid\n"
                    f"[program:origin]\ncommand={ORIGIN} tcp 127.0.0.1:18160\nautorestart=true\nstartsecs=0\n")
    return ["supervisord", "-c", conf], None, tree


def pm2(folder):
    apps = [{"name": "origin", "script": ORIGIN, "args": "tcp 127.0.0.1:18160", "interpreter": "none", "max_restarts": 1000}]
    (folder / "apps.json").write_text(json.dumps({"apps": apps}))
    env = dict(os.environ, PM2_HOME=str(folder / "pm2"), PATH=f"{PEERS}/node_modules/node/bin:{os.environ['PATH']}")
    return [PEERS / "node_modules/.bin/pm2-runtime", folder / "apps.json"], env, tree


def main():
    rows = []
    for contestant, prepare in {"watt": watt, "supervisord": supervisord, "PM2": pm2}.items():
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            folder = pathlib.Path(folder)
            command, env, processes = prepare(folder)
            with Program(command, env=env, cwd=folder, log=folder / "out") as program:
                wait("the origin answers", listens(18160))
                times = []
                for _ in range(ROUNDS):
                    time.sleep(0.5)
                    worker = next(pid for pid in processes(program.pid) if name(pid).startswith(ORIGIN))
                    killed = time.monotonic()
                    os.kill(worker, signal.SIGKILL)
                    wait("the origin is gone", lambda: not name(worker), every=0.0002)
                    wait("the origin answers again", listens(18160), every=0.0005)
                    times.append((time.monotonic() - killed) * 1000)
                rows.append([contestant, f"{median(times):.1f}", f"{max(times):.1f}"])
    table("(e) killed to answering again", ["supervisor", "median ms", "longest ms"], rows)
    subprocess.run(["cargo", "run", "--release", "--locked", "--quiet", "-p", "watt-spawner", "--example", "spawn_cost"],
                   cwd=ROOT, check=True)


main()
