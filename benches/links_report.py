"""Tables and verdicts from the runs that links.py wrote down: medians over the seeds, the least and the most beside them."""

import json
import platform
import statistics
import sys
from dataclasses import dataclass

from links_run import CURVE_S, Link

TCP_HEADERS = 52  # IPv4, TCP with timestamps: what the kernel puts before its data
AT_RATE = 0.93  # of the bound: the link, not the sender, is the limit
RESUME_MS = 300  # and two round trips
MARKS = {"cut": "†", "at most": "≤", "failed": "✗"}


def read(path):
    """The latest run of each kind."""
    latest = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        record = json.loads(line)
        latest[key(record)] = record
    return list(latest.values())


def key(record):
    if record["group"] == "seed":
        return ("seed",)
    return (record["group"], record["link"], record["seed"], tuple(record["flows"]))


# ---- what one run says ----


def rate(record, i=0):
    """Goodput in Mbit/s at the receiver, first byte to end of stream, and how good the figure is: "" or a key of MARKS. Stopped
    at the limit, ours counts to its last byte, others with all that the link handed over; an error of ours counts nothing."""
    flow = record["results"][i]
    if flow["recv"] and flow["send"]:
        return flow["recv"]["bytes"] * 8e-6 / max(flow["recv"]["secs"], 1e-9), ""
    if not flow["who"].startswith("rtcp"):
        return record["stats"]["ab"]["bytes_out"] * 8e-6 / record["stats"]["secs"], "at most"
    if not (flow["stopped"] and flow["arrivals"]):
        return 0.0, "failed"
    return flow["arrivals"]["bytes"] * 8e-6 / max(flow["arrivals"]["secs"], 1e-9), "cut"


def rate_to_last_byte(record):
    received = record["results"][0]["recv"]
    if received and received.get("data_secs"):
        return received["bytes"] * 8e-6 / received["data_secs"]
    return rate(record)[0]


def rate_within(record, i, seconds):
    """Goodput of the first `seconds`: of flows that share a link, the slower ones have it to themselves at the end."""
    flow = record["results"][i]
    if not flow["arrivals"] or rate(record, i)[1] == "failed":
        return rate(record, i)[0]
    curve = flow["arrivals"]["curve"]
    ticks = min(len(curve), round(seconds / CURVE_S))
    return curve[ticks - 1] * 8e-6 / seconds


def sent(name):
    return lambda record: (record["results"][0]["send"] or {}).get(name)


def handshake_ms(record):
    seconds = sent("handshake_s")(record)
    return None if seconds is None else seconds * 1e3


def queue_ms(record):
    return record["stats"]["ab"]["queue_delay_mean_ms"]


def delivered(record):
    flow = record["results"][0]
    return flow["recv"]["bytes"] if flow["recv"] and flow["send"] else None


def waste(record):
    """Stream bytes sent for each delivered: ours by its own counters, the kernel's by what entered the link."""
    flow, down, size = record["results"][0], record["stats"]["ab"], delivered(record)
    if not size:
        return None
    if flow["who"].startswith("tcp"):
        return (down["bytes_in"] - TCP_HEADERS * down["packets_in"]) / size
    again = flow["send"].get("bytes_retransmitted")
    return None if again is None else (flow["send"]["bytes"] + again) / flow["send"]["bytes"]


def wire(record):
    size = delivered(record)
    return record["stats"]["ab"]["bytes_in"] / size if size else None


def cpu_s(record):
    flow = record["results"][0]
    return flow["send"]["cpu_s"] + flow["recv"]["cpu_s"] if flow["send"] and flow["recv"] else None


# ---- medians ----


class Runs:
    """The single-flow runs of one experiment."""

    def __init__(self, records):
        self.by = {}
        for record in records:
            self.by.setdefault((record["link"], record["flows"][0]), []).append(record)
        self.links = list(dict.fromkeys(record["link"] for record in records))
        self.contestants = list(dict.fromkeys(record["flows"][0] for record in records))

    def get(self, link, who):
        return self.by.get((link, who), [])

    def values(self, link, who, metric):
        return [value for value in map(metric, self.get(link, who)) if value is not None]

    def median(self, link, who, metric):
        values = self.values(link, who, metric)
        return statistics.median(values) if values else None

    def goodput(self, link, who):
        return self.median(link, who, lambda record: rate(record)[0])

    def ours(self, link):
        return next((who for who in ("rtcp-bbr", "rtcp-cubic") if self.get(link, who)), None)


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def goodput_text(records):
    rates = [rate(record) for record in records]
    values = sorted(value for value, _ in rates)
    digits = 1 if values[-1] >= 10 else 2
    mark = "".join(MARKS[kind] for kind in dict.fromkeys(kind for _, kind in rates) if kind)
    text = f"{mark}{statistics.median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({values[0]:.{digits}f}..{values[-1]:.{digits}f})"


def table(titles, rows):
    """Markdown; the first columns are text, those whose title starts with > are numbers."""
    head = "| " + " | ".join(title.lstrip(">") for title in titles) + " |"
    rule = "|" + "|".join("---:" if title.startswith(">") else "---" for title in titles) + "|"
    return "\n".join([head, rule, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


# ---- verdicts ----


@dataclass
class Line:
    """One line of what was asked for, on one link."""

    link: str
    what: str
    value: float
    least: float = None
    most: float = None

    def holds(self):
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def row(self):
        wanted = " and ".join(
            f"{sign} {limit:.4g}" for sign, limit in ((">=", self.least), ("<=", self.most)) if limit is not None
        )
        measured = "> 1000" if self.value > 1000 else f"{self.value:.4g}"
        return (self.link, self.what, wanted, measured, "yes" if self.holds() else "**no**")


def verdicts(lines):
    lines = [line for line in lines if line.value is not None]
    if not lines:
        return ""
    summary = f"{sum(line.holds() for line in lines)} of {len(lines)} hold.\n"
    return table(["link", "line", ">wanted", ">measured", "holds"], [line.row() for line in lines]) + "\n" + summary


def profile_lines(runs):
    for link in runs.links:
        who = runs.ours(link)
        if who is None or link == "clean":
            continue
        records, mine = runs.get(link, who), runs.goodput(link, who)
        ended = len(runs.values(link, who, delivered)) / len(records)
        if ended < 1:
            yield Line(link, "runs that came to their end, of all", ended, least=1)
        path = Link(**records[0]["path"])
        bound = path.bound(records[0]["seconds"])
        kernels = {name: runs.goodput(link, name) for name in ("tcp-cubic", "tcp-bbr") if runs.get(link, name)}
        if kernels:
            name = max(kernels, key=kernels.get)
            saturated = bound is not None and min(mine, kernels[name]) >= AT_RATE * bound
            factor = 0.97 if saturated and link not in ("starlink", "wifi-bad") else 1
            yield Line(link, f"goodput, of {name}'s", mine / kernels[name], least=factor)
        if link.startswith("lossy"):
            yield Line(link, "goodput, of the bound", runs.median(link, who, rate_to_last_byte) / bound, least=0.9)
        if link in ("ackloss", "reorder", "dup") and (clean := runs.goodput("clean", who)):
            yield Line(link, "goodput, of the clean link's", mine / clean, least=0.95)
        if link in ("reorder", "dup") and (spurious := runs.values(link, who, sent("rto_spurious"))):
            yield Line(link, "needless timeouts, all seeds", sum(spurious), most=0)
        if link in ("bufferbloat", "lte") and (theirs := runs.median(link, "tcp-cubic", queue_ms)):
            yield Line(link, "queueing delay, of tcp-cubic's", runs.median(link, who, queue_ms) / theirs, most=0.5)
            yield Line(link, "goodput, of tcp-cubic's", mine / kernels["tcp-cubic"], least=0.95)
        if link != "ideal" and (runs.median(link, who, delivered) or 0) >= 1e6:
            yield Line(link, "bytes sent for each delivered", runs.median(link, who, waste), most=1.1 / (1 - path.loss))


def profiles(records):
    runs, rows = Runs(records), []
    for link in runs.links:
        for i, who in enumerate(sorted(w for w in runs.contestants if runs.get(link, w))):
            group = runs.get(link, who)
            bound = Link(**group[0]["path"]).bound(group[0]["seconds"])
            mine, timeouts = runs.goodput(link, who), runs.median(link, who, sent("rto_count"))
            rows.append((
                link if i == 0 else "", who, goodput_text(group), number(mine / bound if bound else None),
                number(runs.median(link, who, queue_ms), 1), number(runs.median(link, who, waste), 3),
                number(runs.median(link, who, wire), 3), number(runs.median(link, who, handshake_ms), 0),
                "–" if timeouts is None else f"{timeouts:g} ({runs.median(link, who, sent('rto_spurious')):g})",
                number(runs.median(link, who, cpu_s)), "*" if any(record["disturbed"] for record in group) else "",
            ))
    titles = ["link", "sender", ">goodput Mbit/s", ">of bound", ">queue ms", ">sent/delivered", ">wire/delivered",
              ">handshake ms", ">RTOs (needless)", ">CPU s", ""]
    return verdicts(profile_lines(runs)) + "\n" + table(titles, rows)


def peer_lines(runs):
    for link in runs.links:
        who = runs.ours(link)
        others = {name: runs.goodput(link, name) for name in runs.contestants if name != who and runs.get(link, name)}
        if who is None or not others:
            continue
        mine, flood = runs.goodput(link, who), others.pop("kcp", None)
        if others:
            best = max(others, key=others.get)
            yield Line(link, f"goodput, of {best}'s", mine / others[best], least=1)
        if flood:
            yield Line(link, "goodput, of kcp's", mine / flood, least=0.95)


def peers(records):
    runs, rows = Runs(records), []
    for link in runs.links:
        ranked = sorted((w for w in runs.contestants if runs.get(link, w)), key=lambda w: -runs.goodput(link, w))
        for i, who in enumerate(ranked):
            group = runs.get(link, who)
            rows.append((
                link if i == 0 else "", who, goodput_text(group), number(runs.median(link, who, queue_ms), 1),
                number(runs.median(link, who, wire), 3), number(runs.median(link, who, cpu_s)),
                "*" if any(record["disturbed"] for record in group) else "",
            ))
    titles = ["link", "sender", ">goodput Mbit/s", ">queue ms", ">wire/delivered", ">CPU s", ""]
    return verdicts(peer_lines(runs)) + "\n" + table(titles, rows)


def fairness(records):
    mixes = {}
    for record in records:
        mixes.setdefault(tuple(record["flows"]), []).append(record)
    lines, rows = [], []
    for mix, group in mixes.items():
        rates = [[rate_within(record, i, record["seconds"]) for i in range(len(mix))] for record in group]
        name = " + ".join(mix) if len(set(mix)) > 1 else f"{len(mix)} × {mix[0]}"
        if len(set(mix)) == 1:
            figures = [sum(run) ** 2 / (len(run) * sum(rate**2 for rate in run)) for run in rates]
            lines.append(Line(name, "Jain's index", statistics.median(figures), least=0.95))
        else:
            figures = [run[0] / sum(run) for run in rates]
            least, most = (0.35, 0.65) if "tcp-cubic" in mix else (0.3, 0.7)
            lines.append(Line(name, f"{mix[0]}'s share", statistics.median(figures), least, most))
        for record, run, figure in zip(group, rates, figures):
            queue = number(queue_ms(record), 1)
            rows.append((name, record["seed"], " ".join(f"{rate:.1f}" for rate in run), number(figure, 3), queue))
    titles = ["flows", ">seed", ">goodput of each, Mbit/s", ">share or index", ">queue ms"]
    return verdicts(lines) + "\n" + table(titles, rows)


def blackout(records):
    runs, lines, rows = Runs(records), [], []
    for link in runs.links:
        for who in runs.contestants:
            group = runs.get(link, who)
            if not group:
                continue
            waits = [(record["results"][0]["arrivals"] or {}).get("after_moment") for record in group]
            waits = [float("inf") if wait is None else wait * 1e3 for wait in waits]  # inf: never
            most = RESUME_MS + 2 * Link(**group[0]["path"]).rtt_ms
            lines.append(Line(f"{link}, {who}", "ms to the first new byte, median", statistics.median(waits), most=most))
            rows.append((link, who, " ".join(f"{wait:.0f}" for wait in waits)))
    return verdicts(lines) + "\n" + table(["outage", "sender", ">ms, each seed"], rows)


def seed(records):
    """Of seed_link.sh's table: case | bound | median | least | most | identical."""
    text, lines = records[-1]["table"], []
    for row in text.splitlines()[2:]:
        case, bound, median, _, _, identical = (cell.strip() for cell in row.strip("| ").split("|"))
        whole = identical.split(" of ")[0] == identical.split(" of ")[1]
        lines.append(Line(case, "seconds, median", float(median) if median and whole else float("inf"), most=float(bound)))
    return verdicts(lines) + "\n" + text


TABLES = {"profiles": profiles, "fairness": fairness, "blackout": blackout, "peers": peers, "seed": seed}


def machine(records):
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        cpus = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    commits = ", ".join(dict.fromkeys(r["commit"] for r in records if r.get("commit")))
    dates = sorted(r["when"] for r in records if r.get("when"))
    when = f", {dates[0]} to {dates[-1]}" if dates else ""
    seeds = len({r["seed"] for r in records if "seed" in r})
    return (
        f"{len(cpus)} × {cpus[0]}, Linux {platform.release()}{when}{', commit ' + commits if commits else ''}"
        + (f", {seeds} seed{'s' if seeds > 1 else ''}.\n" if seeds else ".\n")
    )


def write(options):
    """Makes a file of every experiment that has runs, and puts the tables where a document marks their place."""
    records = read(options.results / "runs.jsonl")
    for name, make in TABLES.items():
        group = [record for record in records if record["group"] == name]
        if not group:
            continue
        text = machine(group) + "\n" + make(group)
        (options.results / f"{name}.md").write_text(text, encoding="utf-8")
        if options.what in (name, "tables"):
            print(text)
        if options.into is not None:
            insert(options.into, name, text)


def insert(document, name, text):
    """Between <!-- NAME --> and <!-- /NAME -->."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    whole = document.read_text(encoding="utf-8")
    if start not in whole or end not in whole:
        print(f"links.py: {document} has no place for {name}", file=sys.stderr)
        return
    head, rest = whole.split(start, 1)
    document.write_text(head + start + text + end + rest.split(end, 1)[1], encoding="utf-8")
