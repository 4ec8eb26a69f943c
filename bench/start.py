"""(c) From the command to the first 200 through everything, and the memory of it all when idle: two Node services that call each
other behind a gateway. supervisord has no gateway: it starts the same two services on ports of their own.
"""
import pathlib
import tempfile
import time

from measure import NODE, PEERS, WATTCTL, Program, answers, median, memory, table, tree, wait
from mesh import environment, watt_pids, write

ROUNDS = 3
SUPERVISORD = """
[supervisord]
nodaemon=true
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
[program:api]
command={node} {dir}/serve.mjs
directory={dir}/web/api
environment=PORT="18154",USERS="http://127.0.0.1:18155/"
[program:users]
command={node} {dir}/serve.mjs
directory={dir}/web/users
environment=PORT="18155"
"""


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        write(folder)
        (folder / "supervisord.conf").write_text(SUPERVISORD.format(dir=folder, node=NODE))
        env = environment(folder)
        # runs it: (command, address, the processes that count)
        contestants = {
            "watt": ([WATTCTL, "up", folder / "watt.yaml"], "http://127.0.0.1:18143/api/via", lambda _: watt_pids(folder, env)),
            "wattpm": ([PEERS / "node_modules/.bin/wattpm", "start"], "http://127.0.0.1:18142/api/via", tree),
            "supervisord": (["supervisord", "-c", folder / "supervisord.conf"], "http://127.0.0.1:18154/via", tree),
        }
        figures = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, (command, url, processes) in contestants.items():
                started = time.monotonic()
                with Program(command, cwd=folder, env=env, log=folder / "log") as program:
                    wait(f"{name} answers", answers(url, "users"), every=0.001)
                    took = time.monotonic() - started
                    pids = processes(program.pid)
                    own = [pid for pid in pids if pid not in node_services(pids)]
                    figures[name].append((took, memory(pids), memory(own)))
        middle = {name: [median(column) for column in zip(*rounds)] for name, rounds in figures.items()}
        rows = [[
            name, f"{took:.2f}", f"{took / middle['wattpm'][0]:.2f}",
            f"{total / 2**20:.0f}", f"{total / middle['wattpm'][1]:.2f}",
            f"{own / 2**20:.1f}" if name != "wattpm" else "the same process",
        ] for name, (took, total, own) in middle.items()]
        table("(c) start and memory, two Node services", ["runs it", "first 200 after s", "× wattpm", "memory MB", "× wattpm",
                                                          "of that its own, without the services"], rows)


def node_services(pids):
    from measure import name
    return {pid for pid in pids if "serve.mjs" in name(pid) and "wattctl" not in name(pid)}


main()
