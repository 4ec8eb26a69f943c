"""A small Internet for one test, in network and mount namespaces of its own: every address outside answers.

argv[1] is a folder with the file that becomes /etc/resolv.conf. Each name that is asked for is written to `asked` there. Says
"ready", and ends with its standard input.
"""
import os
import socket
import subprocess
import sys
import threading

folder = sys.argv[1]

# The host's own addresses: a private one, and one of the Internet.
SETUP = f"""
set -e
ip link set lo up
ip link add outside0 type bridge
ip address add 10.9.9.1/24 dev outside0
ip address add 93.184.216.99/32 dev outside0
ip link set outside0 up
ip route add default via 10.9.9.2
mount --bind {folder}/resolv.conf /etc/resolv.conf
nft -f - <<RULES
table ip outside {{
    chain out {{
        type nat hook output priority -100;
        ip daddr 127.0.0.0/8 accept
        ip daddr {{ 10.9.9.1, 93.184.216.99 }} accept
        meta l4proto tcp redirect to :18080
        udp dport 53 redirect to :53
    }}
}}
RULES
"""

NAMES = {
    b"db.example.org": "93.184.216.34",
    b"www.example.net": "93.184.216.35",
    b"xn--bcher-kva.example.net": "93.184.216.35",
    b"private.example.net": "10.1.2.3",
    b"metadata.example.net": "169.254.169.254",
    b"host.example.net": "10.9.9.1",
    b"public-host.example.net": "93.184.216.99",
    b"evil.net": "93.184.216.66",
}


def name_of(question):
    labels, at = [], 12
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size])
        at += 1 + size
    return b".".join(labels).lower(), at + 5


def names(server):
    with open(os.path.join(folder, "asked"), "ab", buffering=0) as asked:
        while True:
            question, client = server.recvfrom(4096)
            name, end = name_of(question)
            asked.write(name + b"\n")
            address = NAMES.get(name)
            flags, answers = (b"\x81\x80", b"\0\1") if address else (b"\x81\x83", b"\0\0")
            reply = question[:2] + flags + b"\0\1" + answers + b"\0\0\0\0" + question[12:end]
            if address:
                reply += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
            server.sendto(reply, client)


def everything(server):
    while True:
        client, _ = server.accept()
        client.settimeout(10)
        try:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\noutside")
        except OSError:
            pass
        client.close()


if subprocess.run(["sh", "-c", SETUP], stdin=subprocess.DEVNULL).returncode != 0:
    sys.exit(77)
resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
resolver.bind(("0.0.0.0", 53))
threading.Thread(target=names, args=(resolver,), daemon=True).start()
for address in (("0.0.0.0", 18080), ("10.9.9.1", 80), ("93.184.216.99", 80)):
    listener = socket.create_server(address, backlog=100)
    threading.Thread(target=everything, args=(listener,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
