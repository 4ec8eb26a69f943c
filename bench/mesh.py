"""(b) A call through the gateway, and one that goes on from service to service, against Platformatic Watt with the same Node
services. CPU is that of every process of the application: proxy or runtime, and the services' own. What plain Node takes
for the same handlers, without any proxy, is measured too; the mesh's own cost is what comes on top of it.
"""
import json
import os
import pathlib
import subprocess
import tempfile

from measure import NODE, PEERS, WATTCTL, Program, answers, cpu_us, median, memory, table, tree, wait, wrk

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "5"))
API = """
import { createServer } from 'node:http'
const users = process.env.USERS ?? 'http://users.plt.local/'
export function create () {
  return createServer(async (req, res) => {
    res.setHeader('content-type', 'application/json')
    if (req.url.endsWith('/via')) return res.end(await (await fetch(users)).text())
    res.end('{"hello":"world"}')
  })
}
"""
USERS = """
import { createServer } from 'node:http'
export function create () {
  return createServer((req, res) => {
    res.setHeader('content-type', 'application/json')
    res.end('{"users":[1,2,3]}')
  })
}
"""
# What Platformatic does for a service that exports `create`.
SERVE = """
const { create } = await import(process.cwd() + '/index.js')
create().listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
"""
SCHEMA = "https://schemas.platformatic.dev"


def write(folder):
    for name, code in {"api": API, "users": USERS}.items():
        service = folder / "web" / name
        service.mkdir(parents=True)
        (service / "index.js").write_text(code)
        (service / "package.json").write_text(json.dumps(
            {"name": name, "type": "module", "main": "index.js", "dependencies": {"@platformatic/node": "*"}}))
        (service / "watt.json").write_text(json.dumps({"$schema": f"{SCHEMA}/@platformatic/node/3.54.0.json"}))
    gateway = folder / "web" / "gateway"
    gateway.mkdir()
    (gateway / "package.json").write_text(json.dumps(
        {"name": "gateway", "type": "module", "dependencies": {"@platformatic/gateway": "*"}}))
    (gateway / "watt.json").write_text(json.dumps({
        "$schema": f"{SCHEMA}/@platformatic/gateway/3.54.0.json",
        "gateway": {"applications": [
            {"id": "api", "proxy": {"prefix": "/api"}}, {"id": "users", "proxy": {"prefix": "/users"}}]}}))
    (folder / "watt.json").write_text(json.dumps({
        "$schema": f"{SCHEMA}/wattpm/3.54.0.json", "server": {"hostname": "127.0.0.1", "port": 18142},
        "autoload": {"path": "web"}, "entrypoint": "gateway", "logger": {"level": "warn"}}))
    (folder / "node_modules").symlink_to(PEERS / "node_modules")
    (folder / "serve.mjs").write_text(SERVE)
    (folder / "watt.yaml").write_text(f"""
name: bench-mesh
server: {{ hostname: 127.0.0.1, port: 18143 }}
services:
  api: {{ path: web/api, command: "{NODE} {folder}/serve.mjs" }}
  users: {{ path: web/users, command: "{NODE} {folder}/serve.mjs" }}
gateway:
  routes: [{{ path: /api, service: api, strip: true }}, {{ path: /users, service: users, strip: true }}]
""")


def environment(folder):
    return dict(os.environ, PATH=f"{PEERS}/node_modules/node/bin:{os.environ['PATH']}", PLT_TELEMETRY_DISABLED="1",
                WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))


def watt_pids(folder, env):
    """Every process of the application but the `up` that shows its log."""
    status = json.loads(subprocess.run([WATTCTL, "status", "--json", "--file", folder / "watt.yaml"],
                                       env=env, capture_output=True, check=True).stdout)
    return tree(status["supervisor"]["spawner_pid"])


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        write(folder)
        env = environment(folder)
        plain = lambda name, port: Program(
            [NODE, folder / "serve.mjs"], cwd=folder / "web" / name,
            env=dict(env, PORT=str(port), USERS="http://127.0.0.1:18145/"))
        with Program([PEERS / "node_modules/.bin/wattpm", "start"], cwd=folder, env=env, log=folder / "wattpm.log") as wattpm, \
                Program([WATTCTL, "up", folder / "watt.yaml"], env=env, log=folder / "up.log"), \
                plain("api", 18144) as api, plain("users", 18145) as users:
            urls = {"watt": "http://127.0.0.1:18143/api", "wattpm": "http://127.0.0.1:18142/api", "plain Node": "http://127.0.0.1:18144"}
            for url in urls.values():
                wait(f"{url} answers", answers(url + "/via", "users"))
            pids = {
                "watt": lambda: watt_pids(folder, env),
                "wattpm": lambda: tree(wattpm.pid),
                "plain Node": lambda: [api.pid, users.pid],
            }
            measure(urls, pids)


def measure(urls, pids):
    for what, path in {"gateway → api": "/", "gateway → api → users": "/via"}.items():
        figures = {name: [] for name in urls}
        for _ in range(ROUNDS):
            for name, url in urls.items():
                wrk(url + path, 2, 32, pin="0,1")
                processes = pids[name]()
                before = cpu_us(processes)
                requests, rate, p99 = wrk(url + path, SECONDS, 32, pin="0,1")
                figures[name].append(((cpu_us(processes) - before) / requests, rate, p99))
        cost = {name: median([figure[0] for figure in rounds]) for name, rounds in figures.items()}
        above = {name: cost[name] - cost["plain Node"] for name in cost}
        rows = [[
            name,
            f"{median([figure[1] for figure in rounds]):.0f}",
            f"{median([figure[2] for figure in rounds]):.1f}",
            f"{cost[name]:.0f}",
            f"{above[name]:.0f}",
            f"{above[name] / above['wattpm']:.2f}",
            f"{memory(pids[name]()) / 2**20:.0f}",
        ] for name, rounds in figures.items()]
        table(f"(b) {what}", ["runs it", "requests/s", "p99 ms", "CPU µs/request, all processes", "above plain Node",
                              "× wattpm's", "memory under load, MB"], rows)


if __name__ == "__main__":
    main()
