#!/usr/bin/env python3
"""What RTCP_OPT_SHARDS is worth on this machine: several processes send into one receiver handle over loopback.

    cargo build --release && benches/shards.py [--runs N] [--seconds S]

For each number of shards, in turn: goodput of 8 senders (every byte checked by the one thread that polls), and connections
established per second by 2 processes with 8 sockets each. CPU is the receiving process's. The senders share the cores with
the receiver, so on two cores the rates tell what shards cost rather than what they bring; that is in the CPU time of the busiest
of its threads, the program's included, which is the limit of a machine with cores enough."""
import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")) / "release"


def build(into):
    program = str(pathlib.Path(into) / "shards")
    subprocess.run(["cc", "-O2", "-Wall", "-D_GNU_SOURCE", f"-I{HERE.parent / 'include'}", str(HERE / "shards.c"),
                    str(TARGET / "librtcp.a"), "-lpthread", "-ldl", "-lm", "-o", program], check=True)
    return program


def run(program, shards, clients):
    server = subprocess.Popen([program, "serve", str(shards)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = server.stdout.readline().strip()
    running = [subprocess.Popen([program, kind, port, *rest]) for kind, *rest in clients]
    if any(client.wait() for client in running):
        raise SystemExit("a client failed")
    figures, _ = server.communicate()
    return map(float, figures.split())


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--runs", type=int, default=5)
    args.add_argument("--seconds", type=float, default=4)
    args.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    args = args.parse_args()
    length = str(args.seconds)
    results = {shards: ([], [], [], [], [], []) for shards in args.shards}
    with tempfile.TemporaryDirectory() as scratch:
        program = build(scratch)
        for _ in range(args.runs):
            for shards, (goodput, bulk_cpu, bulk_most, rate, dial_cpu, dial_most) in results.items():
                received, _, seconds, cpu, most = run(program, shards, [("bulk", length)] * 8)
                goodput.append(received * 8 / seconds / 1e9)
                bulk_cpu.append(cpu / (received / 2**30))
                bulk_most.append(most / (received / 2**30))
                _, accepted, seconds, cpu, most = run(program, shards, [("dial", length, "8")] * 2)
                rate.append(accepted / seconds)
                dial_cpu.append(cpu / accepted * 1e6)
                dial_most.append(most / accepted * 1e6)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {args.runs} runs of {length} s\n")
    print("| shards | goodput, Gbit/s | CPU, s/GiB | busiest thread, s/GiB | handshakes/s | CPU, µs each | busiest thread, µs each |")
    print("|---|---|---|---|---|---|---|")
    for shards, columns in results.items():
        cells = zip(columns, (".2f", ".2f", ".2f", ",.0f", ".0f", ".1f"))
        print(f"| {shards} | " + " | ".join(format(statistics.median(column), form) for column, form in cells) + " |")


if __name__ == "__main__":
    main()
