#!/usr/bin/env python3
"""The Linux kernel's TCP is the plain RFC 9293 peer: it talks to our programs through a TUN device.

A shim moves segments between a TUN device and UDP: it takes the IPv4 header off or puts one on, and makes the
checksum right for the other side's pseudo-header. The kernel knows nothing of our extension. Both roles:
a C program of ours sends a file to a kernel socket; a kernel socket sends a file to our echo server and back.
Our datagrams must grow to what the device and the kernel's MSS take, by the kernel's D-SACKs (docs/design.md).
The shim is a router, too: it carries the ECN field over, and marks some of what may be marked (RFC 3168).

    sudo tests/interop/kernel_tcp.py DIR_OF_PROGRAMS     # a_send and b2_echo of tests/api-programs, built there

Needs root and /dev/net/tun; exits 77 without them, 0 if every byte was right, 1 otherwise.
"""
import collections
import fcntl
import hashlib
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

MTUS = (1280, 1500)
BYTES = 4_000_000
MARK_EACH = 50  # of the datagrams that are ECN-capable
ECT0, CE = 2, 3
ECE, CWR = 0x40, 0x80


def fold(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_checksum(segment, src, dst):
    """The segment with the sum of RFC 9293 over this pseudo-header; zero addresses on our side."""
    bare = segment[:16] + b"\0\0" + segment[18:]
    pseudo = src + dst + struct.pack("!BBH", 0, 6, len(segment))
    return bare[:16] + struct.pack("!H", fold(pseudo + bare) or 0xFFFF) + bare[18:]


class Shim(threading.Thread):
    """UDP on one side, the kernel's IP on the other. `peer`: where our program's UDP socket is, once known."""

    def __init__(self, net, udp, peer=None):
        super().__init__(daemon=True)
        self.net, self.tun, self.udp, self.peer = net, net.tun, udp, peer
        self.ids = 0
        self.sizes = collections.Counter()  # of our program's datagrams
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)

    def run(self):
        while True:
            for ready in select.select([self.tun, self.udp], [], [])[0]:
                if ready is self.udp:
                    segment, ancillary, _, self.peer = self.udp.recvmsg(65535, 64)
                    self.sizes[len(segment)] += 1
                    tos = next((data[0] for _, kind, data in ancillary if kind == socket.IP_TOS), 0)
                    os.write(self.tun, self.packet(segment, self.mark("ours", tos & 3, segment)))
                else:
                    packet = os.read(self.tun, 65535)
                    if packet[0] >> 4 == 4 and packet[9] == 6 and self.peer:
                        segment = packet[(packet[0] & 15) * 4 : struct.unpack("!H", packet[2:4])[0]]
                        zero = bytes(4)
                        tos = self.mark("the kernel's", packet[1] & 3, segment)
                        ancillary = [(socket.IPPROTO_IP, socket.IP_TOS, struct.pack("i", tos))]
                        self.udp.sendmsg([with_checksum(segment, zero, zero)], ancillary, 0, self.peer)

    def mark(self, whose, ecn, segment):
        """The ECN field as it leaves; counts what ECN did."""
        seen, flags = self.net.seen, segment[13]
        if not flags & 2:  # in a SYN the bits negotiate
            seen[whose, "ECE"] += bool(flags & ECE)
            seen[whose, "CWR"] += bool(flags & CWR)
        seen[whose, "ECT"] += ecn == ECT0
        if ecn == ECT0 and seen[whose, "ECT"] % MARK_EACH == 0:
            seen[whose, "CE"] += 1
            return CE
        return ecn

    def packet(self, segment, tos):
        src, dst = socket.inet_aton(self.net.ours), socket.inet_aton(self.net.kernel)
        self.ids = (self.ids + 1) & 0xFFFF
        header = struct.pack("!BBHHHBBH4s4s", 0x45, tos, 20 + len(segment), self.ids, 0x4000, 64, 6, 0, src, dst)
        header = header[:10] + struct.pack("!H", fold(header)) + header[12:]
        return header + with_checksum(segment, src, dst)


class Net:
    """A TUN device of its own: the kernel is `kernel` there, and routes `ours` to us."""

    def __init__(self, number, mtu):
        self.mtu = mtu
        self.kernel, self.ours = f"10.99.{number}.1", f"10.99.{number}.2"
        self.seen = collections.Counter()
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        name = f"rtcptest{number}"
        flags = 0x1001  # IFF_TUN | IFF_NO_PI
        fcntl.ioctl(self.tun, 0x400454CA, struct.pack("16sH", name.encode(), flags))  # TUNSETIFF
        for command in (
            f"addr add {self.kernel}/24 dev {name}",
            f"link set {name} mtu {mtu} up",
            f"route replace {self.ours}/32 dev {name} features ecn",  # when the kernel dials, it asks for ECN
        ):
            subprocess.run(["ip", *command.split()], check=True)


def has_grown(net, shim):
    """Data used the largest size, and nothing was larger: a probe alone would be one datagram of it."""
    largest = max(shim.sizes)
    ours = min(net.mtu - 20, 1472)  # the kernel's MSS is its MTU less 40, our datagram 20 more; what UDP takes of 1500
    if largest != ours or shim.sizes[largest] <= 100:
        print(f"largest {largest}, expected {ours}: {shim.sizes}")
        return False
    return True


def ecn_works(net, sender, receiver):
    """Data left as ECT, some was marked, the receiver said so, the sender heard it."""
    seen = net.seen
    counts = {f"{whose} {what}": count for (whose, what), count in sorted(seen.items()) if count}
    print(f"     {counts}", flush=True)
    return all((seen[sender, "ECT"], seen[sender, "CE"], seen[receiver, "ECE"], seen[sender, "CWR"]))


def read_all(sock):
    digest = hashlib.sha256()
    while data := sock.recv(65536):
        digest.update(data)
    return digest.hexdigest()


def wait_until_bound(port):
    """A SYN that comes too early is sent again, but without asking for ECN."""
    for _ in range(500):
        with open("/proc/net/udp") as sockets:
            if f":{port:04X} " in sockets.read():
                return
        time.sleep(0.01)


def ours_to_kernel(programs, net, data, path):
    listener = socket.create_server((net.kernel, 0))
    listener.settimeout(60)
    port = listener.getsockname()[1]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", port))  # our program's inner destination port is its UDP destination port
    shim = Shim(net, udp)
    shim.start()
    sender = subprocess.Popen([f"{programs}/a_send", path, "127.0.0.1", str(port)])
    connection, _ = listener.accept()
    connection.settimeout(60)
    digest = read_all(connection)
    connection.close()
    return digest == hashlib.sha256(data).hexdigest() and sender.wait(30) == 0 and has_grown(net, shim)


def kernel_to_ours(programs, net, data):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([f"{programs}/b2_echo", str(port)])
    wait_until_bound(port)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    shim = Shim(net, udp, ("127.0.0.1", port))
    shim.start()
    try:
        client = socket.create_connection((net.ours, port), timeout=60)
        client.settimeout(60)
        writer = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        writer.start()
        digest = read_all(client)
        writer.join()
        return digest == hashlib.sha256(data).hexdigest() and has_grown(net, shim)
    finally:
        server.kill()


def main():
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        print("skipped: needs root and /dev/net/tun")
        return 77
    programs, data = sys.argv[1], os.urandom(BYTES)
    results = {}
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        for number, mtu in enumerate(MTUS):
            net = Net(71 + 2 * number, mtu)
            results[f"ours to the kernel, MTU {mtu}"] = ours_to_kernel(programs, net, data, file.name)
            results[f"ECN, ours to the kernel, MTU {mtu}"] = ecn_works(net, "ours", "the kernel's")
            net = Net(72 + 2 * number, mtu)
            name = f"the kernel to our echo server and back, MTU {mtu}"
            results[name] = kernel_to_ours(programs, net, data)
            results[f"ECN, the kernel to ours, MTU {mtu}"] = ecn_works(net, "the kernel's", "ours")
            results[f"ECN, and back, MTU {mtu}"] = ecn_works(net, "ours", "the kernel's")
    for name, ok in results.items():
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {BYTES} bytes", flush=True)
    os._exit(0 if all(results.values()) else 1)  # the shims are threads that never end


if __name__ == "__main__":
    sys.exit(main())
