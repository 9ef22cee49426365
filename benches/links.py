#!/usr/bin/env python3
"""librtcp beside kernel TCP and other transports, over emulated links, in one run. Needs root and linkemu's source folder
(`cargo build --release` there; it makes the network namespaces), `make -C c-examples`, and for `peers` a folder with run.sh.

    benches/links.py profiles --linkemu DIR     every profile of DIR/profiles.toml: ours and the kernel's CUBIC and BBR
    benches/links.py fairness --linkemu DIR     who gets how much of 50 Mbit/s, 40 ms, a drop-tail queue of 1 BDP
    benches/links.py blackout --linkemu DIR     how soon after an outage the first new byte is there
    benches/links.py peers --linkemu DIR --peers DIR
    benches/links.py seed                       benches/seed_link.sh, 5 seeds
    benches/links.py tables [--into FILE.md]    the tables again, from RESULTS/runs.jsonl; into the places FILE.md marks

Tables go to RESULTS/NAME.md (and to stdout), every run to RESULTS/runs.jsonl: the latest of each kind counts."""

import argparse
import dataclasses
import os
import subprocess
from pathlib import Path

import links_report
from links_run import HERE, Cell, Link, Programs, Schedule, commit, fail, keep

KERNEL = ("tcp-cubic", "tcp-bbr")
OURS = ("rtcp-bbr", "rtcp-cubic")
CLEAN = "clean"  # what reorder, dup and ackloss are compared with
CLEAN_LINK = {"rate_mbit": 100, "delay_ms": 20}
FAIR_LINK = {"rate_mbit": 50, "delay_ms": 20}
FAIR = (("rtcp-bbr", "tcp-cubic"), ("rtcp-bbr", "tcp-bbr"), ("rtcp-bbr",) * 8)
OUTAGES = (1, 2, 5, 10)
OUTAGE_AT = 2
PEERS = ("quinn-bbr", "quiche-bbr", "s2n-bbr", "msquic-bbr", "kcp", "libutp", "srt", "udt4")
SHY = ("tcp-cubic", "rtcp-cubic", "libutp", "srt", "udt4")
PEER_PROFILES = ("lossy5", "lossy20", "geo-satellite", "wifi-bad")
# Nothing is concluded from less than 20 s of random loss, from no blip, or from a blackout's first half.
TIMED = ("lossy", "starlink", "blackout")
GRACE_S = 15  # what was taken by the sender may still be under way when time is up
SLOW_MBIT = 4
SLOW_BUFFER = 256 * 1024  # the library's own 4 MiB would take longer to drain than the run lasts


def flags_of(link):
    return tuple(word for key, value in link.items() for word in ("--" + key.replace("_", "-"), str(value)))


def weight(link, who, alone):
    """The rate that `who` makes of the link; some back off from random loss."""
    return 0 if alone else link.rate * (0.2 if who in SHY and link.loss >= 0.01 else 1)


def chosen(options, programs, otherwise=None):
    known = {**programs.profiles(), CLEAN: CLEAN_LINK}
    names = options.profiles or list(otherwise or known)
    if unknown := [name for name in names if name not in known]:
        fail(f"no such profile: {' '.join(unknown)}; there are {' '.join(known)}")
    return {name: known[name] for name in names}


def transfer(options, group, name, profile, seed, flows, **more):
    link = Link.of(profile)
    flags = flags_of(profile) if name == CLEAN else ("--profile", name)
    alone = link.rate == 0 or link.rate > 300
    cell = {
        "seconds": options.seconds,
        "bytes": 0 if name.startswith(TIMED) else options.bytes,
        "limit": options.seconds + GRACE_S,
        "weight": max(weight(link, who, alone) for who in flows),
        "buffer": SLOW_BUFFER if 0 < link.rate <= SLOW_MBIT else 0,
    }
    return Cell(group, name, seed, tuple(flows), flags, link, alone=alone, arrivals=not alone, **{**cell, **more})


def interleaved(contestants, seed):
    """Whoever begins changes with the seed."""
    turn = seed % len(contestants)
    return contestants[turn:] + contestants[:turn]


def profiles(options, programs):
    chosen_profiles = chosen(options, programs)
    return [
        transfer(options, "profiles", name, profile, seed, [who])
        for seed in options.seeds
        for name, profile in chosen_profiles.items()
        for who in interleaved(options.cc or [*OURS, *KERNEL], seed)
    ]


def fairness(options, programs):
    mixes = [tuple(mix.split("+")) for mix in options.cc] if options.cc else FAIR
    return [
        Cell(
            "fairness", "fair", seed, mix, flags_of(FAIR_LINK), Link.of(FAIR_LINK), options.seconds,
            limit=options.seconds + GRACE_S, weight=FAIR_LINK["rate_mbit"],
        )
        for seed in options.seeds
        for mix in mixes
    ]


def blackout(options, programs):
    cells = []
    for seed in options.seeds:
        for outage in OUTAGES:
            back = OUTAGE_AT + outage
            link = {**CLEAN_LINK, "blackouts": f"[[{OUTAGE_AT}, {back}]]"}
            for who in options.cc or [OURS[0]]:
                cells.append(Cell(
                    "blackout", f"{outage} s", seed, (who,), flags_of(link), Link.of(CLEAN_LINK), back + 5,
                    limit=back + 5 + GRACE_S, weight=70, moment=back,
                ))
    return cells


def peers(options, programs):
    contestants = options.cc or [OURS[0], *PEERS]
    programs.need_peers(sorted({who.partition("-")[0] for who in contestants if not who.startswith("rtcp")}))
    chosen_profiles = chosen(options, programs, PEER_PROFILES)

    def size(profile):  # peers have no clock: what the link carries in that time
        return min(options.bytes, int(Link.of(profile).bound(0) * options.seconds / 8e-6))

    return [
        transfer(options, "peers", name, profile, seed, [who], seconds=0, bytes=size(profile), limit=options.peer_limit)
        for seed in options.seeds
        for name, profile in chosen_profiles.items()
        for who in interleaved(contestants, seed)
    ]


EXPERIMENTS = {"profiles": (profiles, 20), "fairness": (fairness, 60), "blackout": (blackout, 0), "peers": (peers, 20)}


def seed_link(options):
    """The seed's own link has a script of its own; its table is kept with the others."""
    command = [HERE / "seed_link.sh", str(len(options.seeds)), str(options.jobs or 4)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "BIN": options.programs})
    if done.returncode != 0:
        fail(f"{command[0]} ended with {done.returncode}")
    keep(options.results / "runs.jsonl", {"group": "seed", "table": done.stdout}, commit())


def measure(name, options):
    make, seconds = EXPERIMENTS[name]
    options.seconds = options.seconds or seconds
    programs = Programs(options.linkemu, options.programs, options.peers)
    log = options.results / "runs.jsonl"
    cells = [dataclasses.replace(cell, late_ms=options.late_ms) for cell in make(options, programs)]
    if options.resume and log.exists():
        there = {links_report.key(record) for record in links_report.read(log) if record["group"] == name}
        cells = [cell for cell in cells if cell.key() not in there]
    Schedule(programs, cells, log, options.jobs or 3, options.capacity).run()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    parser.add_argument("what", choices=[*EXPERIMENTS, "seed", "tables"])
    parser.add_argument("--linkemu", metavar="DIR", default=os.environ.get("LINKEMU"), help="(or LINKEMU=)")
    parser.add_argument("--peers", metavar="DIR", default=os.environ.get("PEERS"), help="(or PEERS=)")
    parser.add_argument("--programs", metavar="DIR", default=str(target / "c-examples"), help="with rtcp_perf (%(default)s)")
    parser.add_argument("--results", metavar="DIR", type=Path, default=target / "links", help="(%(default)s)")
    parser.add_argument("--profiles", metavar="A,B", type=lambda text: text.split(","))
    parser.add_argument("--cc", metavar="A,B", type=lambda text: text.split(","),
                        help="contestants: rtcp-bbr, tcp-cubic, quinn-bbr; for fairness those of one run joined by +")
    parser.add_argument("--seeds", metavar="1,2", type=lambda text: [int(seed) for seed in text.split(",")],
                        help="(1,2,3; for `seed` only their number counts: 5)")
    parser.add_argument("--seconds", type=int, default=0, help="of sending (20; fairness 60)")
    parser.add_argument("--bytes", type=int, default=64_000_000, help="of sending, if sooner (64,000,000)")
    parser.add_argument("--peer-limit", type=int, default=40, help="seconds after which a peer is stopped (40)")
    parser.add_argument("--jobs", type=int, default=0, help="runs at once, at most (3; 1: one after the other)")
    parser.add_argument("--capacity", type=float, default=150, help="Mbit/s of all runs at once (150)")
    parser.add_argument("--late-ms", type=float, default=20, help="lateness of the emulator that makes a run be repeated (20)")
    parser.add_argument("--resume", action="store_true", help="only what is not in RESULTS yet")
    parser.add_argument("--into", metavar="FILE.md", type=Path)
    options = parser.parse_args()
    options.seeds = options.seeds or list(range(1, 6 if options.what == "seed" else 4))
    options.results.mkdir(parents=True, exist_ok=True)
    if options.what == "seed":
        seed_link(options)
    elif options.what != "tables":
        measure(options.what, options)
    links_report.write(options)


if __name__ == "__main__":
    main()
