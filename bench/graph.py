"""(h) 200 services in ten layers, each of which waits for two of the layer below to have started: how long until all run, against
process-compose and systemd with the same graph. systemd only where it runs: its units are made in /run and removed again.
"""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from measure import PEERS, WATTCTL, Program, median, table, wait

ROUNDS = 3
LAYERS, WIDTH = 10, 20
NAMES = [f"s{layer}-{nth}" for layer in range(LAYERS) for nth in range(WIDTH)]


def needs(name):
    layer, nth = map(int, name[1:].split("-"))
    return [f"s{layer - 1}-{other % WIDTH}" for other in (nth, nth + 1)] if layer else []


def command(folder, name):
    return ["/bin/sh", "-c", f"echo > {folder}/done/{name}; exec sleep 1000"]


# Each prepares what it needs, and gives a function that starts it: what comes before is not measured.
@contextlib.contextmanager
def watt(folder):
    services = {name: {"command": command(folder, name), "listen": "none", "network": "host", "sandbox": "off",
                       "depends_on": {on: "started" for on in needs(name)}} for name in NAMES}
    (folder / "watt.json").write_text(json.dumps({"name": "bench-graph", "services": services}))
    env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
    with contextlib.ExitStack() as stack:
        # `up` may have gone before all of them have.
        stack.callback(subprocess.run, [WATTCTL, "down", "--now"], env=env, cwd=folder, capture_output=True, check=False)
        yield lambda: stack.enter_context(Program([WATTCTL, "up", folder], env=env, cwd=folder, log=folder / "out"))


def process_compose(folder):
    program = shutil.which("process-compose", path=f"{PEERS}:{os.environ['PATH']}")
    return "is not installed" if program is None else composed(folder, program)


@contextlib.contextmanager
def composed(folder, program):
    processes = {name: {"command": " ".join(command(folder, name)[2:]),
                        "depends_on": {on: {"condition": "process_started"} for on in needs(name)}} for name in NAMES}
    # A JSON text is a YAML one.
    (folder / "process-compose.yaml").write_text(json.dumps({"version": "0.5", "processes": processes}))
    command_line = [program, "up", "--tui=false", "--no-server", "-f", folder / "process-compose.yaml"]
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Program(command_line, cwd=folder, log=folder / "out"))


def systemd(folder):
    # sd_booted(3)
    if not pathlib.Path("/run/systemd/system").is_dir() or os.geteuid() != 0:
        return "does not run here, or not for us"
    return units(folder)


@contextlib.contextmanager
def units(folder):
    made = []
    try:
        for name in NAMES:
            path = pathlib.Path(f"/run/systemd/system/watt-bench-{name}.service")
            on = " ".join(f"watt-bench-{other}.service" for other in needs(name))
            order = f"Requires={on}\nAfter={on}\n" if on else ""
            program = command(folder, name)[2]
            path.write_text(f"[Unit]\nDefaultDependencies=no\n{order}[Service]\nType=exec\nExecStart=/bin/sh -c '{program}'\n")
            made.append(path)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        yield lambda: subprocess.Popen(["systemctl", "start", "--no-block", *(path.name for path in made)])
    finally:
        subprocess.run(["systemctl", "stop", *(path.name for path in made)], check=False)
        for path in made:
            path.unlink()
        subprocess.run(["systemctl", "daemon-reload"], check=False)


def main():
    rows, base = [], None
    for contestant, prepare in {"watt": watt, "process-compose": process_compose, "systemd": systemd}.items():
        times = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir="/tmp") as folder:
                folder = pathlib.Path(folder)
                (folder / "done").mkdir()
                prepared = prepare(folder)
                if isinstance(prepared, str):
                    rows.append([contestant, prepared, ""])
                    break
                with prepared as start:
                    started = time.monotonic()
                    start()
                    wait("all run", lambda: len(os.listdir(folder / "done")) == len(NAMES), seconds=120)
                    times.append(time.monotonic() - started)
        else:
            took = median(times)
            base = base or took
            rows.append([contestant, f"{took:.2f}", f"{took / base:.2f}"])
    table(f"(h) start of {len(NAMES)} services in {LAYERS} layers", ["runs it", "all run after s", "× watt"], rows)


main()
