"""(a) The proxy pinned to one core, client and origin on the other: gateway -> worker on a Unix socket.

nginx and HAProxy stand before the same origin program. Rounds are interleaved, so that a slow moment of the machine hits
everybody; what counts is CPU time per request, and the ratio within this run.
"""
import json
import os
import pathlib
import subprocess
import tempfile

from measure import ORIGIN, WATTCTL, Program, answers, cpu_us, median, table, tree, wait, wrk

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = int(os.environ.get("SECONDS_EACH", "4"))
BODIES = {"13 B": "/", "1 KB": "/1024", "64 KB": "/65536"}

NGINX = """
worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log {dir}/nginx.err; user root;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; tcp_nodelay on;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream origin {{ server unix:{dir}/origin.sock; keepalive 128; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:18110; location / {{
    proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; }} }}
}}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend front
  bind 127.0.0.1:18120
  default_backend back
backend back
  server origin unix@{dir}/origin.sock pool-max-conn 128
"""
WATT = """
name: bench-proxy
server: {{ hostname: 127.0.0.1, port: 18130 }}
services:
  origin:
    command: "{origin} unix {{socket}}"
    listen: unix
gateway: {{ routes: [{{ path: /, service: origin }}] }}
"""


def main():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        os.chmod(folder, 0o755)
        (folder / "nginx.conf").write_text(NGINX.format(dir=folder))
        (folder / "haproxy.cfg").write_text(HAPROXY.format(dir=folder))
        (folder / "watt.yaml").write_text(WATT.format(origin=ORIGIN))
        env = dict(os.environ, WATT_RUNTIME_DIR=str(folder / "run"), WATT_STATE_DIR=str(folder / "state"))
        with Program([ORIGIN, "unix", folder / "origin.sock"], pin=1), \
                Program(["nginx", "-c", folder / "nginx.conf", "-p", folder], pin=0) as nginx, \
                Program(["haproxy", "-f", folder / "haproxy.cfg"], pin=0) as haproxy, \
                Program([WATTCTL, "up", folder], pin=0, env=env, log=folder / "up.log"):
            urls = {"watt": "http://127.0.0.1:18130", "nginx": "http://127.0.0.1:18110", "haproxy": "http://127.0.0.1:18120"}
            for url in urls.values():
                wait(f"{url} answers", answers(url + "/"))
            status = json.loads(subprocess.run(
                [WATTCTL, "status", "--json", "--file", folder], env=env, capture_output=True, check=True).stdout)
            worker = status["services"][0]["workers"][0]["pid"]
            subprocess.run(["taskset", "-acp", "1", str(worker)], check=True, stdout=subprocess.DEVNULL)
            pids = {"watt": [status["supervisor"]["proxy_pid"]], "nginx": tree(nginx.pid), "haproxy": tree(haproxy.pid)}
            measure(urls, pids)


def measure(urls, pids):
    for size, path in BODIES.items():
        figures = {name: [] for name in urls}
        for _ in range(ROUNDS):
            for name, url in urls.items():
                wrk(url + path, 1)
                before = cpu_us(pids[name])
                requests, rate, p99 = wrk(url + path, SECONDS)
                figures[name].append(((cpu_us(pids[name]) - before) / requests, rate, p99))
        cost = {name: median([figure[0] for figure in rounds]) for name, rounds in figures.items()}
        rows = [[
            name,
            f"{median([figure[1] for figure in rounds]):.0f}",
            f"{median([figure[2] for figure in rounds]):.2f}",
            f"{cost[name]:.2f}",
            f"{cost[name] / cost['nginx']:.2f}",
            f"{cost[name] / cost['haproxy']:.2f}",
        ] for name, rounds in figures.items()]
        table(f"(a) gateway, one core, {size} body",
              ["proxy", "requests/s", "p99 ms", "CPU µs/request", "× nginx", "× HAProxy"], rows)


if __name__ == "__main__":
    main()
