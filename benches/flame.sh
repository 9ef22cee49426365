#!/usr/bin/env bash
# Where the time of a bulk transfer over loopback goes, at both ends: a flame graph.
#
#   benches/flame.sh [GIB] [SVG]      4 GiB and docs/flame.svg if not told otherwise
#
# Needs perf (Debian: linux-perf) and the right to use it (root, or kernel.perf_event_paranoid at most 1), python3, and what
# `make -C c-examples` needs.
set -euo pipefail
cd "$(dirname "$0")/.."
gib=${1:-4} svg=${2:-docs/flame.svg} port=7399
# perf walks the stack along frame pointers. Everything is built anew for them, in a place of its own.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/flame
export RUSTFLAGS='-C force-frame-pointers=yes' CFLAGS='-O2 -g -fno-omit-frame-pointer'
make -s -C c-examples
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
# perf tells processes apart by the name they are started by.
for end in sender receiver; do ln -s "$(realpath "$CARGO_TARGET_DIR")/c-examples/rtcp_perf" "$scratch/$end"; done
cat >"$scratch/transfer" <<END
"$scratch/receiver" recv --listen 127.0.0.1:$port & sleep 0.5
"$scratch/sender" send --to 127.0.0.1:$port --bytes $((gib << 30))
wait
END
perf record -q -e cpu-clock -F 997 -g -o "$scratch/data" -- bash "$scratch/transfer"
perf script -i "$scratch/data" --no-inline -F comm,pid,tid,ip,sym 2>/dev/null |
    benches/flame.py "librtcp: $gib GiB over loopback, both ends" >"$svg"
ls -l "$svg"
