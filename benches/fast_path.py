#!/usr/bin/env python3
"""librtcp, kernel TCP and other transports side by side in one run: one stream, every byte made and checked by the programs
themselves; CPU seconds and context switches of both ends as the kernel counts them. Needs `make -C c-examples`.

    benches/fast_path.py [loopback] [veth] [--linkemu DIR] [--peers DIR] [--bytes N] [--runs 5] [--only NAME,NAME]
    benches/fast_path.py pingpong [--runs 5]

Markdown on stdout. `veth`: two namespaces, MTU 1500, no offloads, so that nothing larger crosses: a wire's bound; needs root.
LINKEMU: linkemu's folder, for tcp_xfer and udp_limit; PEERS: a folder with bin/NAME that takes the same command line."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT_S = 120
ADDRESS = {"loopback": "127.0.0.1", "veth": "10.99.77.2"}
SPACES = ("rtcp-fast-a", "rtcp-fast-b")
PEERS = ("kcp", "libutp", "s2n", "msquic", "quiche", "quinn", "usrsctp", "ngtcp2")
# ETHTOOL_STXCSUM 0: without checksum offload a device loses all segmentation offload. ethtool(8) may not be there.
NO_OFFLOADS = """
import ctypes, fcntl, socket, struct
value = ctypes.create_string_buffer(struct.pack("II", 0x17, 0))
request = struct.pack("16sP", b"fast0", ctypes.addressof(value)).ljust(40, bytes(1))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
"""


def contestants(options):
    """Name, program, flags."""
    ours = options.perf
    rows = [("librtcp", ours, []), ("librtcp in place", ours, ["--in-place"]),
            ("librtcp cubic", ours, ["--cc", "cubic"]), ("librtcp, no GSO", ours, ["--no-gso"])]
    if options.linkemu:
        tcp = options.linkemu / "target/release/tcp_xfer"
        rows += [(f"kernel TCP {cc}", tcp, ["--cc", cc]) for cc in ("cubic", "bbr")]
    if options.peers:
        for name in PEERS:
            rows += [(name, options.peers / "bin" / name, []), (f"{name}, no GSO", options.peers / "bin" / name, ["--no-gso"])]
            if name == "msquic":
                rows.pop()  # has no such switch
    wanted = options.only.split(",") if options.only else [name for name, _, _ in rows]
    return [row for row in rows if row[1].exists() and row[0] in wanted]


def inside(place, end):
    return ["ip", "netns", "exec", SPACES[end]] if place == "veth" else []


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def transfer(place, program, flags, size):
    """Gbit/s, CPU seconds per GiB and context switches per MB of both ends together; None if it failed."""
    address = f"{ADDRESS[place]}:{free_port()}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    limit = ["timeout", "-k", "1", str(LIMIT_S)]
    receiver = subprocess.Popen([*inside(place, 1), *limit, program, "recv", "--listen", address, *flags], **quiet)
    time.sleep(0.5)  # until it listens
    begin = time.monotonic()
    sender = subprocess.Popen([*inside(place, 0), *limit, program, "send", "--to", address, "--bytes", str(size), *flags], **quiet)
    _, sent, used = os.wait4(sender.pid, 0)
    took = time.monotonic() - begin
    sender.returncode = sent
    if sent:
        receiver.terminate()
    _, received, more = os.wait4(receiver.pid, 0)
    receiver.returncode = received
    if sent or received:
        return None
    cpu = used.ru_utime + used.ru_stime + more.ru_utime + more.ru_stime
    switches = used.ru_nvcsw + used.ru_nivcsw + more.ru_nvcsw + more.ru_nivcsw
    return size * 8e-9 / took, cpu * 2**30 / size, switches * 1e6 / size


def bulk(place, options):
    rows = contestants(options)
    results = {name: [] for name, _, _ in rows}
    for turn in range(options.runs):
        for name, program, flags in rows[turn % len(rows) :] + rows[: turn % len(rows)]:  # whoever begins changes
            print(f"{place} {name} {turn + 1}/{options.runs}", file=sys.stderr)
            results[name].append(transfer(place, program, flags, options.bytes))
    gib = options.bytes / 2**30
    print(f"\n### One stream, {place}, {gib:.3g} GiB, medians of {options.runs}, connect to confirmation\n")
    print("| | Gbit/s | least..most | CPU s per GiB, both ends | context switches per MB |\n|---|---:|---:|---:|---:|")
    for name, runs in results.items():
        good = [run for run in runs if run]
        if not good:
            print(f"| {name} | failed | | | |")
            continue
        speed, cpu, switches = (statistics.median(column) for column in zip(*good))
        speeds = [run[0] for run in good]
        failed = f" ({len(runs) - len(good)} failed)" if len(good) < len(runs) else ""
        print(f"| {name}{failed} | {speed:.2f} | {min(speeds):.2f}..{max(speeds):.2f} | {cpu:.2f} | {switches:.1f} |")


def flood(options):
    """What the machine allows: a bare UDP flood, by the linkemu folder's own program, which prints Markdown."""
    program = options.linkemu / "target/release/udp_limit" if options.linkemu else None
    if program and program.exists():
        print("\n### Bare UDP in the same run\n", flush=True)
        subprocess.run([program, "net", "--secs", "3"], check=False, timeout=10 * LIMIT_S)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def link_up():
    link_down()
    for space in SPACES:
        ip("netns", "add", space)
    ip("link", "add", "fast0", "netns", SPACES[0], "mtu", "1500", "type", "veth", "peer", "fast0", "netns", SPACES[1])
    for number, space in enumerate(SPACES, 1):
        ip("-n", space, "address", "add", f"10.99.77.{number}/24", "dev", "fast0")
        ip("-n", space, "link", "set", "fast0", "up")
        ip("-n", space, "link", "set", "lo", "up")
        subprocess.run(["ip", "netns", "exec", space, sys.executable, "-c", NO_OFFLOADS], check=True)


def link_down():
    for space in SPACES:
        subprocess.run(["ip", "netns", "del", space], check=False, stderr=subprocess.DEVNULL)


def placements():
    """Name, and what runs the server and the client where: left alone, the scheduler moves them, and the figures with them."""
    cpus = sorted(os.sched_getaffinity(0))
    on = [["taskset", "-c", str(cpu)] for cpu in (cpus[0], cpus[-1])]
    yield "scheduler's choice", [], []
    yield "one processor", on[0], on[0]
    if len(cpus) > 1:
        yield "two processors", on[0], on[1]


def exchange(program, flags, serve_on, ask_on):
    """What the client of one ping-pong says of it."""
    address = f"127.0.0.1:{free_port()}"
    server = subprocess.Popen([*serve_on, program, "serve", "--listen", address, *flags], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.2)  # until it listens
        ask = [*ask_on, program, "ask", "--to", address, "--count", "5000", *flags]
        answer = subprocess.run(ask, check=True, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S).stdout
        server.wait(timeout=LIMIT_S)
    finally:
        server.kill()
    return json.loads(answer.splitlines()[-1])


def ping_pong(options):
    """64 bytes there and back between two processes, for each placement in turns with plain UDP: medians of the rounds."""
    program, bare, results = options.perf.with_name("rtcp_pingpong"), "bare UDP", {}
    kinds = ((bare, ["--bare"]), ("librtcp", []), ("librtcp, caller-driven", ["--no-thread"]))
    for _ in range(options.runs):
        for place, *where in placements():
            for title, flags in kinds:
                results.setdefault((place, title), []).append(exchange(program, flags, *where))
    print(f"\n### Ping-pong, 64 bytes, medians of {options.runs}; ratios to bare UDP of the same round and place\n")
    print("| | | p50, us | ratio | p99, us | ratio |\n|---|---|---:|---:|---:|---:|")
    for (place, title), runs in results.items():
        cells = []
        for key in ("p50_us", "p99_us"):
            ratios = [run[key] / plain[key] for run, plain in zip(runs, results[place, bare])]
            cells += [f"{statistics.median(run[key] for run in runs):.1f}", f"{statistics.median(ratios):.2f}"]
        print(f"| {place} | {title} | {' | '.join(cells)} |", flush=True)


def further(options):
    ping_pong(options)
    print("\n### Many connections\n", flush=True)
    subprocess.run([sys.executable, HERE / "crowd.py"], check=True, timeout=LIMIT_S)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", metavar="loopback|veth|pingpong", default=["loopback"])
    parser.add_argument("--linkemu", type=Path, default=os.environ.get("LINKEMU"))
    parser.add_argument("--peers", type=Path, default=os.environ.get("PEERS"))
    parser.add_argument("--bytes", type=int, default=4 << 30)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="contestants, by their names in the table")
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    parser.add_argument("--perf", type=Path, default=target / "c-examples/rtcp_perf", help="our program")
    options = parser.parse_args()
    options.linkemu, options.peers = (path and Path(path) for path in (options.linkemu, options.peers))
    if options.places == ["pingpong"]:
        return ping_pong(options)
    if unknown := set(options.places) - set(ADDRESS):
        parser.error(f"no such place: {' '.join(unknown)}")
    if not options.perf.exists():
        sys.exit(f"{options.perf} is not there: make -C c-examples")
    for place in options.places:
        if place == "veth":
            link_up()
        try:
            bulk(place, options)
        finally:
            if place == "veth":
                link_down()
    flood(options)
    further(options)


if __name__ == "__main__":
    main()
