#!/usr/bin/env python3
"""Draws a trace of librtcp connections (RTCP_TRACE=file; docs/tracing.md) as a PNG. Needs matplotlib."""

import argparse
import csv
import os
import sys

# Moments that matter to every panel: (colour, line, what the legend calls it).
LINES = {
    "rto": ("#d62728", "-", "RTO"),
    "undo": ("#2ca02c", "--", "undo"),
    "mtu": ("#7f7f7f", ":", "MTU"),
}
PHASE_COLOURS = {
    "slow-start": "#fff3c4", "css": "#ffe0b2", "avoidance": "#ffffff",
    "startup": "#fff3c4", "drain": "#ffd7d0", "probe-bw-down": "#dcefff", "probe-bw-cruise": "#ffffff",
    "probe-bw-refill": "#e6f5e1", "probe-bw-up": "#c9ecbf", "probe-rtt": "#eadcf7",
}
BINS = 200  # of the goodput curve, at most


def number(text):
    return float(text) if text else float("nan")


def read(path):
    """{connection: [row, ...]}, in the order of their appearance."""
    connections = {}
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        missing = {"time_us", "conn", "event", "delivered_bytes"} - set(rows.fieldnames or [])
        if missing:
            sys.exit(f"{path}: not a trace: no column {', '.join(sorted(missing))}")
        for row in rows:
            # A second header, of a process that began at the same moment; a last line that was cut.
            if row["conn"] != "conn" and None not in row.values():
                connections.setdefault(row["conn"], []).append(row)
    return connections


def summary(rows):
    begin, end = rows[0], rows[-1]
    secs = (int(end["time_us"]) - int(begin["time_us"])) / 1e6
    sent, received = int(end["delivered_bytes"]), max(int(end["rcv_nxt"]) - 1, 0)
    peer = begin["detail"] if begin["event"] == "open" else ""
    return (f"{begin['conn']} {peer}: {secs:.2f} s, {sent:,} bytes delivered, {received:,} received, "
            f"{end['lost_segments']} lost, {end['retransmitted_segments']} sent again, {end['rtos']} RTO")


def moved(rows):
    """Bytes that the connection moved, whichever way: what makes it worth drawing."""
    return int(rows[-1]["delivered_bytes"]) + int(rows[-1]["rcv_nxt"])


def rate(times, total, span, shortest):
    """Mbit/s of a growing byte count over equal intervals, none shorter than `shortest`: their middles, the rates."""
    bins = max(min(BINS, int(span / shortest)), 1)
    width, at, edges = span / bins, 0, []
    for index in range(bins + 1):
        edge = times[0] + index * width
        while at + 1 < len(times) and times[at + 1] <= edge + 1e-9:
            at += 1
        edges.append((edge, total[at]))
    middles = [(a[0] + b[0]) / 2 for a, b in zip(edges, edges[1:])]
    return middles, [(b[1] - a[1]) * 8 / width / 1e6 for a, b in zip(edges, edges[1:])]


class Plot:
    """One connection: a column of four panels over one time axis."""

    def __init__(self, rows, axes, origin):
        self.rows, self.axes = rows, axes
        self.t = [int(row["time_us"]) / 1e6 - origin for row in rows]
        self.is_sender = int(rows[-1]["delivered_bytes"]) >= int(rows[-1]["rcv_nxt"]) - 1
        self.span = max(self.t[-1] - self.t[0], 1e-6)

    def column(self, name, scale=1.0):
        return [number(row[name]) * scale for row in self.rows]

    def has(self, name):
        return any(row.get(name) for row in self.rows)

    def step(self, axis, name, scale, colour, label, **style):
        axis.plot(self.t, self.column(name, scale), color=colour, label=label, drawstyle="steps-post", **style)

    def draw(self):
        progress, window, speed, delay = self.axes
        self.phases()
        self.progress(progress)
        self.window(window)
        self.speed(speed)
        self.delay(delay)
        self.events()
        for axis in self.axes:
            axis.grid(True, color="#e4e4e4", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.set_xlim(self.t[0], self.t[-1] if self.t[-1] > self.t[0] else self.t[0] + 1e-3)
            axis.set_ylim(bottom=0)
            axis.legend(loc="upper left", fontsize=7, ncol=4, framealpha=0.85)
        delay.set_xlabel("seconds")

    def progress(self, axis):
        if self.is_sender:
            self.step(axis, "snd_nxt", 1e-6, "#9ecae1", "sent", linewidth=1)
            self.step(axis, "delivered_bytes", 1e-6, "#1f77b4", "delivered", linewidth=1.2)
            self.step(axis, "snd_una", 1e-6, "#08306b", "acknowledged", linewidth=0.8)
        else:
            self.step(axis, "rcv_nxt", 1e-6, "#1f77b4", "received in order", linewidth=1.2)
        axis.set_ylabel("MB")

    def window(self, axis):
        self.step(axis, "cwnd_bytes", 1 / 1024, "#1f77b4", "cwnd", linewidth=1.2)
        self.step(axis, "inflight_bytes", 1 / 1024, "#ff7f0e", "in flight", linewidth=0.8)
        top = max([max(cwnd, flight) for cwnd, flight in zip(
            self.column("cwnd_bytes", 1 / 1024), self.column("inflight_bytes", 1 / 1024))])
        # Only where they would bind: a window of 16 MiB would flatten everything else.
        if self.has("ssthresh_bytes"):
            self.step(axis, "ssthresh_bytes", 1 / 1024, "#8c564b", "ssthresh", linewidth=0.8, linestyle="--")
        if min(self.column("peer_window_bytes", 1 / 1024)[len(self.rows) // 10:]) < 1.5 * top:
            self.step(axis, "peer_window_bytes", 1 / 1024, "#7f7f7f", "peer window", linewidth=0.8)
        axis.set_ylim(0, top * 1.25)
        axis.set_autoscaley_on(False)
        axis.set_ylabel("KiB")

    def speed(self, axis):
        total = self.column("delivered_bytes" if self.is_sender else "rcv_nxt")
        trips = sorted(value for value in self.column("srtt_us", 1e-6) if value == value) or [0.05]
        # Over less than a few round trips a rate says more of the sampling than of the path.
        middles, rates = rate(self.t, total, self.span, max(4 * trips[len(trips) // 2], 0.01))
        axis.plot(middles, rates, color="#1f77b4", linewidth=1.2, label="goodput")
        top = max(rates)
        for name, colour, label in (("pacing_bytes_per_s", "#2ca02c", "pacing rate"),
                                    ("bandwidth_bytes_per_s", "#d62728", "bandwidth estimate")):
            if self.has(name):
                self.step(axis, name, 8e-6, colour, label, linewidth=0.8)
                known = sorted(value for value in self.column(name, 8e-6) if value == value)
                top = max(top, known[int(len(known) * 0.98)])  # the first guess may be far off
        axis.set_ylim(0, max(top, 1e-3) * 1.3)
        axis.set_autoscaley_on(False)
        axis.set_ylabel("Mbit/s")

    def delay(self, axis):
        axis.scatter(self.t, self.column("latest_rtt_us", 1e-3), s=2, color="#9ecae1", label="latest RTT")
        self.step(axis, "srtt_us", 1e-3, "#1f77b4", "srtt", linewidth=1.2)
        self.step(axis, "min_rtt_us", 1e-3, "#2ca02c", "min RTT", linewidth=1)
        known = [value for value in self.column("latest_rtt_us", 1e-3) if value == value]
        axis.set_ylim(0, max(known, default=1) * 1.25)
        axis.set_autoscaley_on(False)
        axis.set_ylabel("ms")

    def phases(self):
        """Bands behind all panels: what the congestion controller was doing."""
        if not self.is_sender:
            return
        begin, seen = 0, set()
        for at in range(1, len(self.rows) + 1):
            phase = self.rows[begin]["phase"]
            if at < len(self.rows) and self.rows[at]["phase"] == phase:
                continue
            end = self.t[at] if at < len(self.rows) else self.t[-1]
            colour = PHASE_COLOURS.get(phase, "#f0f0f0" if phase else "#ffffff")
            for axis in self.axes:
                label = phase if axis is self.axes[1] and colour != "#ffffff" and phase not in seen else None
                axis.axvspan(self.t[begin], end, color=colour, linewidth=0, zorder=-2, label=label)
            seen.add(phase)
            begin = at
        begin = None
        for at, row in enumerate(self.rows):  # recovery: a bar along the foot of the window panel
            if row["recovery"] != "off" and begin is None:
                begin, kind = at, row["recovery"]
            elif begin is not None and row["recovery"] != kind or begin is not None and at == len(self.rows) - 1:
                colour = "#d62728" if kind == "timeout" else "#9467bd"
                label = "recovery" if ("recovery", kind) not in seen and kind == "fast" else None
                self.axes[1].axvspan(self.t[begin], self.t[at], ymax=0.03, color=colour, linewidth=0, label=label)
                seen.add(("recovery", kind))
                begin, kind = (at, row["recovery"]) if row["recovery"] != "off" else (None, "")

    def events(self):
        for event, (colour, style, label) in LINES.items():
            times = [t for row, t in zip(self.rows, self.t) if row["event"] == event]
            alpha = 0.7 if len(times) <= 12 else 0.25
            for axis in self.axes:
                for at, t in enumerate(times):
                    name = f"{label} ({len(times)})" if axis is self.axes[0] and at == 0 else None
                    axis.axvline(t, color=colour, linestyle=style, linewidth=0.7, alpha=alpha, label=name)
        progress = self.axes[0]
        value = "snd_una" if self.is_sender else "rcv_nxt"
        for event, colour, marker, label in (("lost", "#d62728", "x", "lost"), ("probe", "#9467bd", "^", "probe"),
                                             ("corrupt", "#8c564b", "d", "corrupt")):
            hits = [(t, number(row[value]) / 1e6, int(row["detail"] or 1))
                    for row, t in zip(self.rows, self.t) if row["event"] == event]
            if hits:
                times, places, counts = zip(*hits)
                progress.scatter(times, places, s=10, color=colour, marker=marker, linewidths=0.7, zorder=3,
                                 label=f"{label} ({sum(counts)})")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", help="file that RTCP_TRACE named")
    parser.add_argument("png", nargs="?", help="picture to write (default: the trace's name with .png)")
    parser.add_argument("--conn", action="append", metavar="ID",
                        help="connection to draw, from --list; several: side by side (default: the one that moved most)")
    parser.add_argument("--list", action="store_true", help="print the connections and draw nothing")
    parser.add_argument("--from", dest="begin", type=float, default=0, metavar="S", help="leave out what came before")
    parser.add_argument("--until", type=float, default=float("inf"), metavar="S", help="leave out what came after")
    parser.add_argument("--dpi", type=int, default=110)
    options = parser.parse_args()

    try:
        connections = read(options.trace)
    except OSError as error:
        sys.exit(str(error))
    if not connections:
        sys.exit(f"{options.trace}: no connection in it")
    if options.list:
        for rows in connections.values():
            print(summary(rows))
        return
    chosen = options.conn or [max(connections, key=lambda name: moved(connections[name]))]
    unknown = [name for name in chosen if name not in connections]
    if unknown:
        sys.exit(f"{options.trace}: no connection {', '.join(unknown)}; --list tells which there are")

    try:
        import matplotlib
    except ImportError:
        sys.exit("plot_trace.py needs matplotlib: pip install matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    origin = min(int(connections[name][0]["time_us"]) for name in chosen) / 1e6
    figure, grid = plt.subplots(4, len(chosen), figsize=(10 if len(chosen) == 1 else 8 * len(chosen), 10), sharex=True,
                                squeeze=False, gridspec_kw={"height_ratios": [1.2, 1.1, 1, 1]}, layout="constrained")
    for index, name in enumerate(chosen):
        inside = [row for row in connections[name]
                  if options.begin <= int(row["time_us"]) / 1e6 - origin <= options.until]
        if not inside:
            sys.exit(f"{name}: nothing between {options.begin} s and {options.until} s")
        plot = Plot(inside, [line[index] for line in grid], origin)
        plot.draw()
        head, _, tail = summary(connections[name]).partition(": ")
        grid[0][index].set_title(f"{head}, {inside[-1]['controller']}\n{tail}", fontsize=9)
    png = options.png or os.path.splitext(options.trace)[0] + ".png"
    figure.savefig(png, dpi=options.dpi)
    print(png)


if __name__ == "__main__":
    main()
