"""(g) What a sandbox costs at a start: a worker of each profile is killed, and a request that waits for its successor is timed. The
worker is a native program that is ready in a millisecond; the profiles take turns.
"""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from measure import ORIGIN, WATTCTL, Program, answers, table, wait

PORT = 18161
ROUNDS = int(os.environ.get("ROUNDS", "40"))
PROFILES = ("off", "standard", "strict")
# healthy_after is 30 s by default: a program that crashes sooner waits 200 ms first.
SERVICE = """
  {profile}:
    command: "{origin} unix {{socket}}"
    listen: unix
    sandbox: {profile}
    restart: {{ healthy_after: 50ms, give_up: {{ failures: 1000, within: 1s }} }}
"""
ROUTE = "{{ path: /{profile}, service: {profile}, strip: true }}"


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        os.chmod(folder, 0o755)
        services = "".join(SERVICE.format(profile=profile, origin=ORIGIN) for profile in PROFILES)
        routes = ", ".join(ROUTE.format(profile=profile) for profile in PROFILES)
        (folder / "watt.yaml").write_text(
            f"name: bench-walls\nserver: {{ hostname: 127.0.0.1, port: {PORT} }}\nservices:{services}"
            f"gateway: {{ routes: [{routes}] }}\n")
        env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
        with Program([WATTCTL, "up", folder], env=env, log=folder / "out"):
            for profile in PROFILES:
                wait(f"{profile} answers", answers(f"http://127.0.0.1:{PORT}/{profile}/"))
            times = {profile: [] for profile in PROFILES}
            for _ in range(ROUNDS):
                for profile in PROFILES:
                    times[profile].append(restart(folder, env, profile))
    # The fastest of ten is what it costs when the machine has nothing else to do.
    rows = []
    for profile, all in times.items():
        middle, fast = (quantile(all, part) - quantile(times["off"], part) for part in (0.5, 0.1))
        rows.append([profile, f"{quantile(all, 0.5):.1f}", f"{middle:.1f}", f"{quantile(all, 0.1):.1f}", f"{fast:.1f}"])
    table("(g) killed to answering again, by sandbox",
          ["sandbox", "median ms", "over `off`", "fastest of ten", "over `off`"], rows)


def quantile(values, part):
    return sorted(values)[int(len(values) * part)]


def restart(folder, env, profile):
    time.sleep(0.1)
    status = json.loads(subprocess.run(
        [WATTCTL, "status", "--json", "--file", folder], env=env, capture_output=True, check=True).stdout)
    service = next(service for service in status["services"] if service["id"] == profile)
    killed = time.monotonic()
    os.kill(service["workers"][0]["pid"], signal.SIGKILL)
    wait(f"{profile} answers again", answers(f"http://127.0.0.1:{PORT}/{profile}/"), every=0.0005)
    return (time.monotonic() - killed) * 1000


main()
