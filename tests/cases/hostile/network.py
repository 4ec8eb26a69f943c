"""Attacks by the network: on what listens on the host, on the outside, and on what a policy forbids. The outside is the
host's own address, where the test listens: who reaches that reaches anything."""
import json
import os
import socket
import struct

from common import Contained, attack, call, first, in_child

OUTSIDE = os.environ.get("OUTSIDE", "")
PORT = int(os.environ.get("OUTSIDE_PORT", "0"))
TAG = os.environ.get("VICTIM_TAG", "")


def greeting(stream):
    """Whoever listens for the test says this."""
    if stream.recv(64) != b"outside":
        raise Contained("the connection was closed")
    return "reached"


def connect(address, prepare=lambda stream: None, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as stream:
        prepare(stream)
        stream.settimeout(5)
        stream.connect(address)
        if kind == socket.SOCK_DGRAM:
            stream.send(b"hello")
        return greeting(stream)


@attack
def host_localhost():
    """connects to a port of the host's localhost"""
    return connect(("127.0.0.1", PORT))


@attack
def host_abstract_socket():
    """connects to an abstract socket of the host"""
    return connect(f"\0watt-outside-{TAG}", family=socket.AF_UNIX)


@attack
def host_managers():
    """connects to who starts processes for others (Docker, Podman, D-Bus)"""
    places = ["/run/docker.sock", "/run/podman/podman.sock", f"/run/user/{os.getuid()}/bus"]

    def try_one(place):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(5)
            stream.connect(place)
        return place

    return first([lambda place=place: try_one(place) for place in places])


@attack
def egress_tcp():
    """connects to an address outside"""
    return connect((OUTSIDE, PORT))


@attack
def egress_udp():
    """sends UDP outside"""
    return connect((OUTSIDE, PORT), kind=socket.SOCK_DGRAM)


@attack
def egress_ipv6():
    """connects to the host by IPv6"""
    return connect((f"::ffff:{OUTSIDE}", PORT), family=socket.AF_INET6)


@attack
def egress_mark():
    """connects with a mark that could go around rules"""
    return connect((OUTSIDE, PORT), lambda stream: stream.setsockopt(socket.SOL_SOCKET, 36, 1))


@attack
def egress_device():
    """connects by a device of its choice"""
    return connect(("127.0.0.1", PORT), lambda stream: stream.setsockopt(socket.SOL_SOCKET, 25, b"lo\0"))


@attack
def egress_source():
    """connects from an address that is not its own (IP_TRANSPARENT)"""

    def prepare(stream):
        stream.setsockopt(socket.SOL_IP, 19, 1)
        stream.bind((OUTSIDE, 0))

    return connect((OUTSIDE, PORT), prepare)


@attack
def egress_fast_open():
    """sends with the first packet of a connection (MSG_FASTOPEN)"""
    with socket.socket() as stream:
        stream.sendto(b"hello", socket.MSG_FASTOPEN, (OUTSIDE, PORT))
        return greeting(stream)


@attack
def egress_raw():
    """makes a raw IP socket"""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "made"


@attack
def egress_packet():
    """makes a packet socket"""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    return "made"


@attack
def egress_vsock():
    """makes a socket to the virtual machine's host, which no network namespace holds"""
    socket.socket(socket.AF_VSOCK).close()
    return "made"


@attack
def egress_bluetooth_and_others():
    """makes sockets of families that no network namespace holds"""
    for family in (socket.AF_ALG, socket.AF_CAN, 42, 31, 30, 41):
        try:
            socket.socket(family, socket.SOCK_SEQPACKET if family == socket.AF_ALG else socket.SOCK_DGRAM).close()
            return "made"
        except OSError as error:
            last = error
    raise last


@attack
def network_rules():
    """changes devices and routes by netlink"""
    # RTM_DELLINK of a device that is not there: told only to who may.
    body = struct.pack("=BxHiII", 0, 0, 0x7FFFFFF0, 0, 0)
    head = struct.pack("=IHHII", 16 + len(body), 17, 5, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(5)
        link.send(head + body)
        error = -struct.unpack_from("=i", link.recv(4096), 16)[0]
    if error in (1, 13):
        raise OSError(error, "RTM_DELLINK")
    return "allowed"


@attack
def network_uevents():
    """listens to the host's devices by netlink"""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as link:
        link.bind((0, 1))
        # Events of devices come in the first network namespace alone.
        if os.stat("/proc/self/ns/net").st_ino != int(os.environ["HOST_NET"]):
            raise Contained("nothing comes in its network")
    return "listens"


@attack
def network_new():
    """leaves its network for a new one, and connects"""

    def act():
        # CLONE_NEWUSER and CLONE_NEWNET.
        call("unshare", 0x10000000 | 0x40000000)
        return connect((OUTSIDE, PORT))

    return in_child(act)


@attack
def network_of_host():
    """enters the host's network"""

    def act():
        descriptor = os.open("/proc/1/ns/net", os.O_RDONLY)
        if os.fstat(descriptor).st_ino == os.stat("/proc/self/ns/net").st_ino != int(os.environ["HOST_NET"]):
            raise Contained("there is no way to it")
        call("setns", descriptor, 0x40000000)
        return connect((OUTSIDE, PORT))

    return in_child(act)


def ask(request):
    """Through its own mesh socket: status, and the body."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(os.environ["WATT_MESH_SOCKET"])
        stream.sendall(request)
        answer = b""
        while more := stream.recv(65536):
            answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if b" " in head else 0, body


def must_be_refused(*requests):
    for request in requests:
        status, _ = ask(request)
        if status == 200:
            return "answered"
    raise Contained(f"{status}")


@attack
def policy_forbidden():
    """calls a service that a policy keeps from it"""
    return must_be_refused(b"GET / HTTP/1.1\r\nHost: forbidden.plt.local\r\nConnection: close\r\n\r\n")


@attack
def policy_host():
    """names the forbidden service in every other way"""
    names = (b"FORBIDDEN.plt.local", b"forbidden.plt.local.", b"forbidden.plt.local:80", b"forbidden")
    return must_be_refused(
        *(b"GET / HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n\r\n" for name in names),
        b"GET http://forbidden.plt.local/ HTTP/1.1\r\nHost: victim.plt.local\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: victim.plt.local\r\nHost: forbidden.plt.local\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: victim.plt.local\r\nConnection: close\r\nX-Forwarded-Host: forbidden.plt.local"
        b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: forbidden.plt.local\r\n\r\n",
    )


@attack
def policy_identity():
    """says by headers that it is another service"""
    status, body = ask(
        b"GET / HTTP/1.1\r\nHost: victim.plt.local\r\nConnection: close\r\nForwarded: for=_forbidden\r\n\r\n"
    )
    if status != 200:
        raise Contained(f"{status}")
    forwarded = [value for name, value in json.loads(body) if name.lower() == "forwarded"]
    # Whoever asks the last hop asks the proxy.
    if forwarded[-1].split(",")[-1].split(";")[0].strip() != f"for=_{os.environ['WATT_SERVICE']}":
        return "believed"
    raise Contained("its own name is added")
