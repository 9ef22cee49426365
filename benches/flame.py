#!/usr/bin/env python3
"""perf script -F comm,pid,tid,ip,sym | benches/flame.py TITLE >SVG: each box as wide as its share of the time, callers below
what they call. The whole name and the share stand in a box's tooltip."""
import html
import re
import sys

WIDTH, ROW, CHAR = 1200, 17, 6.6
# Narrower ones could not be seen.
SMALLEST = 0.6 / WIDTH
COLOURS = (("rtcp", "#f0a45d"), ("rtcp_", "#e6c35c"), ("kernel", "#9db4cf"), ("other", "#d9d9d9"))


def shortened(symbol):
    symbol = re.sub(r"::h[0-9a-f]{16}$|\+0x[0-9a-f]+$", "", symbol)
    symbol = re.sub(r"^[\w:]*<impl ([\w:]+)>", r"\1", symbol)
    return re.sub(r"^<([\w:]+)( as .+)?>", r"\1", symbol)


def samples(lines):
    """(process, thread), stack from the outermost call inwards, whether each is the kernel's."""
    names, stack, head = {}, [], None
    for line in lines:
        if not line.strip():
            if head:
                yield names.get(head[0], "?"), head[1], stack[::-1]
            stack, head = [], None
        elif not line[0].isspace() or head is None:
            thread, pid, tid = re.match(r"\s*(.+?)\s+(\d+)/(\d+)", line).groups()
            head = (pid, thread)
            if pid == tid:
                names[pid] = thread
        else:
            address, _, symbol = line.strip().partition(" ")
            is_kernel = len(address) == 16 and address.startswith("ffff")
            if symbol and symbol != "[unknown]":
                stack.append((shortened(symbol), is_kernel))


def tree(found):
    root = {"count": 0, "below": {}}
    for process, thread, stack in found:
        path = [(process, False)] + ([(thread, False)] if thread != process else []) + stack
        root["count"] += 1
        node = root
        for step in path:
            node = node["below"].setdefault(step, {"count": 0, "below": {}})
            node["count"] += 1
    return root


def colour(name, is_kernel):
    kind = "kernel" if is_kernel else "rtcp" if name.startswith("rtcp::") else "rtcp_" if name.startswith("rtcp_") else "other"
    return dict(COLOURS)[kind]


def boxes(node, left, level, total):
    for (name, is_kernel), below in sorted(node["below"].items()):
        share = below["count"] / total
        if share >= SMALLEST:
            yield name, is_kernel, left, share, level
            yield from boxes(below, left, level + 1, total)
        left += share


def main():
    root = tree(samples([*sys.stdin, "\n"]))
    drawn = list(boxes(root, 0, 0, root["count"]))
    height = (max(level for *_, level in drawn) + 3) * ROW
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">')
    print(f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>')
    print(f'<text x="{WIDTH / 2}" y="14" text-anchor="middle" font-size="13">{html.escape(sys.argv[1])}</text>')
    for name, is_kernel, left, share, level in drawn:
        x, y, width = left * WIDTH, height - (level + 1.3) * ROW, share * WIDTH
        label = name if len(name) * CHAR < width else name.rsplit("::", 1)[-1]
        label = label if len(label) * CHAR < width else label[: max(0, int(width / CHAR) - 1)]
        print(f'<g><title>{html.escape(name)}: {share:.1%}</title><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
              f'height="{ROW - 1}" fill="{colour(name, is_kernel)}"/>', end="")
        print(f'<text x="{x + 2:.1f}" y="{y + 12:.1f}">{html.escape(label)}</text></g>' if len(label) > 2 else "</g>")
    print("</svg>")


if __name__ == "__main__":
    main()
