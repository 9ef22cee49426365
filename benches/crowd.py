#!/usr/bin/env python3
"""100,000 connections to one receiver over loopback, in processes of their own: set-up, idle memory, wake-ups, and the share that
each of 10,000 gets when all send 1,000 bytes each second at the same moment.

    cargo build --release && benches/crowd.py [--connections N] [--busy N] [--seconds S]

Both ends share the machine's cores. Memory is the receiver's: connection, slot, handle, tables, without keys."""
import argparse
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")) / "release"


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--connections", type=int, default=100_000)
    args.add_argument("--busy", type=int, default=10_000)
    args.add_argument("--seconds", type=int, default=10)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        program = str(pathlib.Path(scratch) / "crowd")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", f"-I{HERE.parent / 'include'}", str(HERE / "crowd.c"),
                        str(TARGET / "librtcp.a"), "-lpthread", "-ldl", "-lm", "-o", program], check=True)
        command = [program, *map(str, (args.connections, args.seconds, args.busy, args.seconds))]
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    established, held, woken, least, mean = map(float, line.split())
    print("| connections | figure | value |\n|---:|---|---:|")
    print(f"| {args.connections:,} | established within, s | {established:.1f} |")
    print(f"| {args.connections:,} | established per second, both ends on this machine | {args.connections / established:,.0f} |")
    print(f"| {args.connections:,} | resident bytes of the receiver for each, idle | {held:,.0f} |")
    print(f"| {args.connections:,} | wake-ups per second of the receiver's threads, all idle | {woken / args.seconds:.1f} |")
    print(f"| {args.busy:,} | bytes delivered of {1000 * args.seconds:,}, the mean | {mean:,.0f} |")
    print(f"| {args.busy:,} | the same, the slowest | {least:,.0f} |")


if __name__ == "__main__":
    main()
