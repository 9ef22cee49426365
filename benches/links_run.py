"""Runs across an emulated link: one transfer or several at once, and many such runs, as many at a time as do not
disturb each other. Every run becomes one line of JSON; links_report.py makes tables of them."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ATTEMPTS = 3
TIMED_OUT = "124"  # timeout(1)'s exit code
HEADERS = 28 + 40  # IPv4, UDP, our TCP header with timestamps and the extension
CURVE_S = 0.1


@dataclass(frozen=True)
class Link:
    """What a profile's downlink can carry."""

    rate: float  # Mbit/s; 0: no limit
    rtt_ms: float
    loss: float  # of all packets, corruption included
    mtu: int
    outage_s: float

    @classmethod
    def of(cls, profile):
        def way(end, key, otherwise=0):
            return profile.get(end, {}).get(key, profile.get(key, otherwise))

        def down(key, otherwise=0):
            return way("ab", key, otherwise)

        kept = (1 - down("loss")) * (1 - down("corrupt"))
        if down("ge_p"):
            kept *= 1 - down("ge_loss") * down("ge_p") / (down("ge_p") + down("ge_r"))
        if down("blip_every_s"):
            kept *= 1 - down("blip_loss") * down("blip_ms") / (1000 * down("blip_every_s"))
        return cls(
            rate=down("rate_mbit"),
            rtt_ms=down("delay_ms") + way("ba", "delay_ms"),
            loss=1 - kept,
            mtu=down("hole_mtu", 1500),
            outage_s=sum(end - start for start, end in down("blackouts", [])),
        )

    def bound(self, seconds):
        """Goodput in Mbit/s of whoever keeps the link busy with our headers, or None."""
        if not self.rate:
            return None
        share = 1 - min(self.outage_s / seconds, 1) if seconds else 1
        return self.rate * (self.mtu - HEADERS) / self.mtu * (1 - self.loss) * share


@dataclass(frozen=True)
class Cell:
    """One run: who sends over which link, and for how long."""

    group: str
    link: str  # a profile's name, or what a link made of flags is called
    seed: int
    flows: tuple  # rtcp-bbr, tcp-cubic, quinn, ...: all at once
    flags: tuple  # linkemu's
    path: Link
    seconds: int = 0
    bytes: int = 0
    limit: int = 0  # seconds after which the ends are told to stop
    weight: float = 0  # Mbit/s that the machine has to carry
    alone: bool = False
    arrivals: bool = True  # log them (not at rates where that costs)
    buffer: int = 0  # rtcp_perf --buffer; 0: the library's own choice
    late_ms: float = 20  # the emulator may fall this far behind its own link; else the run is repeated, alone
    moment: float = 0  # seconds after the start: when does the first byte after it arrive?

    def key(self):
        return (self.group, self.link, self.seed, self.flows)


def fail(message):
    sys.exit(f"links.py: {message}")


class Programs:
    """What is run. Nothing is looked for outside the places given."""

    def __init__(self, linkemu, programs, peers=None):
        if not linkemu:
            fail("where is linkemu? --linkemu DIR or LINKEMU=DIR: its source folder, after `cargo build --release`")
        self.source = Path(linkemu).resolve()
        release = self.source / "target/release"
        self.linkemu, self.tcp_xfer = release / "linkemu", release / "tcp_xfer"
        self.rtcp_perf = Path(programs).resolve() / "rtcp_perf"
        self.run_peer = Path(peers).resolve() / "run.sh" if peers else None
        for path, remedy in (
            (self.linkemu, "cargo build --release there"),
            (self.tcp_xfer, "cargo build --release there"),
            (self.rtcp_perf, "make -C c-examples, or --programs DIR"),
        ):
            if not os.access(path, os.X_OK):
                fail(f"{path} is not there: {remedy}")
        if os.geteuid() != 0:
            fail("network namespaces need root")

    def need_peers(self, names):
        if self.run_peer is None:
            fail("where are the peers? --peers DIR or PEERS=DIR: the folder with run.sh and bin/")
        missing = [name for name in names if not os.access(self.run_peer.parent / "bin" / name, os.X_OK)]
        if missing:
            fail(f"not built in {self.run_peer.parent}: {' '.join(missing)} (build.sh there makes them)")

    def profiles(self):
        return tomllib.loads((self.source / "profiles.toml").read_text())


# ---- one run ----


def ends(programs, cell, who, port, arrivals):
    """The receiver's and the sender's command."""
    kind, _, cc = who.partition("-")
    size = (["--bytes", cell.bytes] if cell.bytes else []) + (["--seconds", cell.seconds] if cell.seconds else [])
    if kind == "tcp":
        program, extra, log = programs.tcp_xfer, ["--cc", cc], []
    else:
        program, log = programs.rtcp_perf, ["--log-arrivals", arrivals] if arrivals else []
        extra = ["--mtu", 0] + (["--cc", cc] if cc else []) + (["--buffer", cell.buffer] if cell.buffer else [])
    return (
        [program, "recv", "--listen", f"@:{port}", *extra, *log],
        [program, "send", "--to", f"@:{port}", *size, *extra],
    )


def words(command):
    """As the shell reads it; `@` stands for the receiver's address, which only the shell knows."""
    return " ".join('"$LINK_ADDR_B"' + w[1:] if w.startswith("@") else shlex.quote(w) for w in map(str, command))


# Until every receiver's socket is there, 10 s at most: ports 5000 to 5015 as the kernel's tables write them.
PORT = 5000
LISTENING = """for _ in $(seq 500); do
    there=$(ip netns exec $LINK_NS_B cat /proc/net/udp /proc/net/tcp | grep -Ec '^ *[0-9]+: [0-9A-F]+:13(8[89A-F]|9[0-7]) ')
    [ "$there" -ge {} ] && break
    sleep 0.02
done"""


def script(programs, cell, out):
    """What linkemu runs: all receivers, then all senders; a receiver whose sender failed is not waited for. Exit
    codes other than 0 of flow N end up in N.codes."""
    if cell.group == "peers" and not cell.flows[0].startswith("rtcp"):
        name, _, cc = cell.flows[0].partition("-")
        flags = ["--cc", cc] if cc else []
        command = [programs.run_peer, name, cell.bytes, *flags]
        return f"TIMEOUT={cell.limit} {words(command)} >{out}/0.recv 2>{out}/0.err\ncp {out}/0.recv {out}/0.send"
    stop = f"timeout -k 2 {cell.limit}"
    receivers, senders, waits = [], [], []
    for i, who in enumerate(cell.flows):
        receive, send = ends(programs, cell, who, PORT + i, f"{out}/{i}.arrivals" if cell.arrivals else None)
        receivers.append(
            f"ip netns exec $LINK_NS_B {stop} {words(receive)} >{out}/{i}.recv 2>{out}/{i}.err &\nr{i}=$!"
        )
        senders.append(
            f"{{ ip netns exec $LINK_NS_A {stop} {words(send)} >{out}/{i}.send 2>>{out}/{i}.err ||"
            f" {{ echo $? >>{out}/{i}.codes; kill $r{i}; }}; }} &"
        )
        waits.append(f"wait $r{i} || echo $? >>{out}/{i}.codes")
    return "\n".join([*receivers, LISTENING.format(len(cell.flows)), *senders, *waits, "wait"])


def text_of(path):
    return path.read_text() if path.exists() else ""


def line_of(path, role):
    """The JSON line of one end, or None."""
    for line in text_of(path).splitlines():
        if line.startswith("{") and (value := json.loads(line)).get("role") == role:
            return value
    return None


def arrivals_of(path, start, moment):
    """What rtcp_perf --log-arrivals tells: still good when the transfer was cut short."""
    pairs = [line.split() for line in text_of(path).splitlines()]
    times = [(float(t), int(n)) for t, n in (pair for pair in pairs if len(pair) == 2)]
    if not times:
        return None
    first, curve = times[0][0], []
    for t, n in times:  # bytes there after each tenth of a second since the first
        while len(curve) < int((t - first) / CURVE_S):
            curve.append(curve[-1] if curve else 0)
        curve[int((t - first) / CURVE_S):] = [n]
    summary = {"bytes": times[-1][1] - 8, "secs": times[-1][0] - first, "first": first, "curve": curve}
    if moment and start is not None:
        summary["after_moment"] = next((t - start - moment for t, _ in times if t >= start + moment), None)
    return summary


def run(programs, cell, slot, concurrent):
    """Runs one cell; the record says all that was seen."""
    with tempfile.TemporaryDirectory(prefix="links-") as out:
        command = [programs.linkemu, "run", *cell.flags, "--seed", cell.seed, "--subnet", slot + 1]
        command += ["--duration-limit", cell.limit + 15, "--stats", f"{out}/link", "--", "sh", "-c"]
        done = subprocess.run(
            [*map(str, command), script(programs, cell, out)], capture_output=True, text=True, check=False
        )
        out = Path(out)
        flows = []
        for i, who in enumerate(cell.flows):
            send, received = line_of(out / f"{i}.send", "send"), line_of(out / f"{i}.recv", "recv")
            start = send.get("start") if send else None
            flow = {"who": who, "send": send, "recv": received}
            flow["arrivals"] = arrivals_of(out / f"{i}.arrivals", start, cell.moment)
            if not (send and received):
                flow["error"] = text_of(out / f"{i}.err")[-500:]
                flow["stopped"] = TIMED_OUT in text_of(out / f"{i}.codes").split()
            elif send["bytes"] != received["bytes"]:
                fail(f"{who} over {cell.link}: {send['bytes']} bytes sent, {received['bytes']} received")
            flows.append(flow)
        if not (out / "link").exists():
            fail(f"linkemu ended with {done.returncode}: {done.stderr.strip()}")
        link = json.loads((out / "link").read_text())["linkemu"]
    lanes = (link["ab"], link["ba"])
    disturbed = [f"{name} {value:.0f}" for name, value, most in (
        ("tun_drops", max(lane["tun_drops"] for lane in lanes), 0),
        ("late_max_us", max(lane["late_max_us"] for lane in lanes), cell.late_ms * 1e3),
    ) if value > most]
    return {**dataclasses.asdict(cell), "results": flows, "stats": link, "disturbed": disturbed, "at_once": concurrent}


# ---- many runs ----


def commit():
    """What was measured, as far as git knows."""
    command = ["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def keep(log, record, tree):
    with open(log, "a", encoding="utf-8") as lines:
        lines.write(json.dumps({**record, "when": time.strftime("%Y-%m-%d %H:%M"), "commit": tree}) + "\n")


class Schedule:
    """Runs cells in their order, several side by side while `jobs` and `capacity` (Mbit/s) allow."""

    LOOK_AHEAD = 12  # a light cell may pass this many that do not fit: runs stay interleaved

    def __init__(self, programs, cells, log, jobs, capacity):
        self.programs, self.pending, self.log = programs, list(cells), log
        self.jobs, self.capacity = jobs, capacity
        self.running, self.attempts, self.done, self.total = {}, {}, 0, len(self.pending)
        self.changed, self.started = threading.Condition(), time.monotonic()
        self.error, self.commit = None, commit()  # of now: what is run was built before

    def fits(self, cell):
        others = self.running.values()
        if not others:
            return True
        weight = cell.weight + sum(other.weight for other in others)
        return not cell.alone and not any(o.alone for o in others) and len(others) < self.jobs and weight <= self.capacity

    def next(self):
        for i, cell in enumerate(self.pending[: self.LOOK_AHEAD]):
            if self.fits(cell):
                return self.pending.pop(i)
            if cell.alone and i == 0:
                return None  # let the others finish
        return None

    def run(self):
        with self.changed:
            while (self.pending or self.running) and self.error is None:
                cell = self.next()
                if cell is None:
                    self.changed.wait()
                    continue
                slot = next(i for i in range(self.jobs) if i not in self.running)
                self.running[slot] = cell
                threading.Thread(target=self.work, args=(slot, cell, len(self.running)), daemon=True).start()
            if self.error is not None:
                raise self.error

    def work(self, slot, cell, concurrent):
        record = error = None
        try:
            record = run(self.programs, cell, slot, concurrent)
        except (Exception, SystemExit) as caught:
            error = caught
        with self.changed:
            del self.running[slot]
            self.error = self.error or error
            if record is not None:
                self.finish(cell, record)
            self.changed.notify()

    def finish(self, cell, record):
        attempt = self.attempts[cell.key()] = self.attempts.get(cell.key(), 0) + 1
        keep(self.log, {**record, "attempt": attempt}, self.commit)
        repeat = record["disturbed"] and not (cell.alone and attempt > 1) and attempt < ATTEMPTS and cell.link != "ideal"
        if repeat:
            self.pending.insert(0, dataclasses.replace(cell, alone=True))
        else:
            self.done += 1
        rates = [f"{f['recv']['mbps']:.2f}" if f["recv"] else "cut" for f in record["results"]]
        note = f"  ({', '.join(record['disturbed'])}{': again' if repeat else ''})" if record["disturbed"] else ""
        print(
            f"{time.monotonic() - self.started:6.0f} s  {self.done}/{self.total}  {cell.link} seed {cell.seed}  "
            f"{'+'.join(cell.flows)}  {' '.join(rates)} Mbit/s{note}",
            file=sys.stderr,
            flush=True,
        )
