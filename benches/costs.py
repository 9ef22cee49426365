#!/usr/bin/env python3
"""Instructions per segment and per event of fixed scenarios (benches/costs.rs), counted by callgrind: the same on an idle
and on a loaded machine. Needs valgrind and cargo.

    benches/costs.py            compares with benches/costs.txt: fails if anything costs over 10 % more, or grows with size
    benches/costs.py --bless    writes benches/costs.txt: after a change that is worth its price, or cheaper

What goes before the events that count is not counted; it runs at a fraction of callgrind's price."""

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
TOLERANCE = 1.10
PER_SEGMENT = {"send": 2_000, "receive": 2_000, "ack": 2_000, "receive-holes": 2_000, "ack-holes": 2_000}
# Scenario: events, sizes (holes, segments in flight, timers, connections), what the last may cost in terms of the first.
# Those that take longest come first, and begin first.
BY_SIZE = {
    "holes-receiver": (300, (1_000, 1_000_000), 2.0),
    "holes-sender": (300, (1_000, 1_000_000), 2.0),
    "in-turn": (2_000, (10, 100_000), 1.3),
    "timers": (1_000, (1_000, 1_000_000), 2.0),
    "sack-flood": (300, (1_000, 1_000_000), 2.0),
    "active": (2_000, (10, 100_000), 1.3),
    "from-rest": (2_000, (10, 100_000), 1.3),
}


def build():
    command = ["cargo", "bench", "--no-default-features", "--bench", "costs", "--no-run", "--message-format=json"]
    # What is measured must keep its name; fat link-time optimisation takes a minute and changes little here.
    profile = {"LTO": "off", "CODEGEN_UNITS": "1", "DEBUG": "0"}
    environment = {**os.environ, **{f"CARGO_PROFILE_BENCH_{key}": value for key, value in profile.items()}}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "costs")


def cost(program, name, events):
    """Instructions per event."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--toggle-collect=*measured*",
                   f"--callgrind-out-file={folder}/out", program]
        scenario, *size = name.split()
        done = subprocess.run([*command, scenario, str(events), *size], capture_output=True, text=True)
        parts = [part.read_text() for part in Path(folder).iterdir()]
    # One part has the title that the program gave it: its name, and how many events it is for.
    found = (re.search(rf"Client Request: {name}/(\d+)$.*^totals: (\d+)$", part, re.M | re.S) for part in parts)
    counts = [(int(match[1]), int(match[2])) for match in found if match]
    if done.returncode or len(counts) != 1 or 0 in counts[0]:
        sys.exit(f"{name}: {done.stderr}")
    return round(counts[0][1] / counts[0][0])


def measure(program):
    cells = dict(PER_SEGMENT)
    for scenario, (events, sizes, _) in BY_SIZE.items():
        cells |= {f"{scenario} {size}": events for size in sizes}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        largest = {f"{scenario} {sizes[-1]}" for scenario, (_, sizes, _) in BY_SIZE.items()}
        longest_first = sorted(cells, key=lambda name: name not in largest)
        results = {name: pool.submit(cost, program, name, cells[name]) for name in longest_first}
        return {name: results[name].result() for name in cells}


def complaints(costs, budgets):
    for name, now in costs.items():
        if now > TOLERANCE * budgets.get(name, 0):
            yield f"{name}: {now} instructions, the budget is {budgets.get(name, 0)}"
    for scenario, (_, sizes, growth) in BY_SIZE.items():
        few, many = (costs[f"{scenario} {size}"] for size in sizes)
        if many > growth * few:
            yield f"{scenario}: {few} instructions at {sizes[0]}, {many} at {sizes[1]}: over {growth} times as many"


def read_budgets():
    lines = BUDGETS.read_text().splitlines() if BUDGETS.exists() else []
    return {name.strip(): int(count) for name, _, count in (line.rpartition(" ") for line in lines) if count.isdigit()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bless", action="store_true")
    options = parser.parse_args()
    costs, budgets = measure(build()), read_budgets()
    print("| per segment, or event and size | instructions | budget |\n|---|---:|---:|")
    for name, now in costs.items():
        print(f"| {name} | {now:,} | {budgets.get(name, 0):,} |")
    if options.bless:
        head = "Instructions per segment or event; a budget is exceeded at 10 % more. Renewed by benches/costs.py --bless.\n\n"
        BUDGETS.write_text(head + "".join(f"{name:<24}{now:>10}\n" for name, now in costs.items()))
        budgets = costs
    if wrong := list(complaints(costs, budgets)):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
