#!/usr/bin/env python3
"""Instructions per segment and per event of fixed scenarios (benches/costs.rs), counted by callgrind: the same on an idle
and on a loaded machine. Needs valgrind and cargo.

    benches/costs.py            compares with benches/costs.txt; fails if anything costs over 5 % more, or grows with size
    benches/costs.py --bless    writes benches/costs.txt: after a change that is worth its price, or cheaper
    benches/costs.py --full     besides, a million holes and blocks each, natively, within a minute each

Each figure is the difference between a run with twice the events and one with once as many: beginnings do not count."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "benches" / "costs.txt"
TOLERANCE = 1.05
SEGMENTS = 2_000
PER_SEGMENT = ("send", "receive", "ack", "receive-holes", "ack-holes")
EVENTS = 300
PER_EVENT = ("holes-receiver", "holes-sender", "sack-flood")
# Holes, or segments in flight: the cost of an event may at most double from the first to the last.
SIZES = (1_000, 10_000)
GROWTH = 2.0
FULL = 1_000_000
FULL_LIMIT_S = 60


def build():
    command = ["cargo", "bench", "--no-default-features", "--bench", "costs", "--no-run", "--message-format=json"]
    # What is measured must keep its name; fat link-time optimisation takes a minute and changes little here.
    environment = {**os.environ, "CARGO_PROFILE_BENCH_LTO": "off", "CARGO_PROFILE_BENCH_CODEGEN_UNITS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "costs")


def instructions(program, *words):
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--toggle-collect=*measured*"]
        done = subprocess.run(command + [program, *map(str, words)], capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not collected or collected[1] == "0":
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr}")
    return int(collected[1])


def cost(program, scenario, events, *size):
    once, twice = (instructions(program, scenario, n, *size) for n in (events, 2 * events))
    return round((twice - once) / events)


def measure(program):
    cells = {name: (name, SEGMENTS) for name in PER_SEGMENT}
    cells |= {f"{name} {size}": (name, EVENTS, size) for name in PER_EVENT for size in SIZES}
    with ThreadPoolExecutor(2) as pool:
        results = {name: pool.submit(cost, program, *cell) for name, cell in cells.items()}
        return {name: result.result() for name, result in results.items()}


def judge(costs, budgets):
    complaints = [
        f"{name}: {now} instructions, the budget is {budgets.get(name, 0)}"
        for name, now in costs.items()
        if now > TOLERANCE * budgets.get(name, 0)
    ]
    for name in PER_EVENT:
        few, many = (costs[f"{name} {size}"] for size in SIZES)
        if many > GROWTH * few:
            complaints.append(f"{name}: an event costs {few} instructions at {SIZES[0]}, {many} at {SIZES[1]}")
    return complaints


def full(program):
    for name in PER_EVENT:
        print(f"{name} with {FULL:,}", flush=True)
        subprocess.run([program, name, str(EVENTS), str(FULL)], check=True, timeout=FULL_LIMIT_S)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bless", action="store_true")
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    program = build()
    costs = measure(program)
    lines = BUDGETS.read_text().splitlines() if BUDGETS.exists() else []
    budgets = {name.strip(): int(count) for name, _, count in (line.rpartition(" ") for line in lines) if count.isdigit()}
    print("| per segment, or event and size | instructions | budget |\n|---|---:|---:|")
    for name, now in costs.items():
        print(f"| {name} | {now:,} | {budgets.get(name, 0):,} |")
    if options.bless:
        head = "Instructions per segment or event; a budget is exceeded at 5 % more. Renewed by benches/costs.py --bless.\n\n"
        BUDGETS.write_text(head + "".join(f"{name:<24}{now:>10}\n" for name, now in costs.items()))
        budgets = costs
    if options.full:
        full(program)
    if complaints := judge(costs, budgets):
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main()
