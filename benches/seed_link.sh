#!/usr/bin/env bash
# The link of the program this library grew from (its seed), in real time and with the C programs: one way through
# 1 Mbit/s with an 8 KiB queue, ACKs straight back. Prints a Markdown table of seconds per file; every file is compared.
#
#     make -C c-examples && benches/seed_link.sh [SEEDS] [AT_ONCE]
#
# SEEDS runs of each case (default 20), AT_ONCE of them side by side (default 4: a run leaves the machine idle).
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$here/target}
BIN=${BIN:-$target/c-examples}
UDPL=${UDPL:-$target/release/udpl}
seeds=${1:-20} at_once=${2:-4}
for program in "$UDPL" "$BIN/rtcp_recvfile" "$BIN/rtcp_sendfile"; do
    [ -x "$program" ] || { echo "no $program: make -C c-examples, or BIN= and UDPL=" >&2; exit 2; }
done
tmp=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || :; rm -rf "$tmp"' EXIT

listening() { # the address in the first line of file $1
    for _ in $(seq 200); do
        sed -n 's/^listening //p' "$1" | grep . && return
        sleep 0.02
    done
    echo "no answer: $1" >&2
    return 1
}

one() { # case, seed, bytes, udpl's impairments...: writes seconds, or "failed", to the case's list
    local name=$1 seed=$2 bytes=$3 dir ack to proxy receiver link
    shift 3
    dir=$tmp/$name.$seed
    mkdir -p "$dir/in"
    head -c "$bytes" /dev/urandom >"$dir/file"
    ack=127.0.0.1:$((20000 + seed * 8 + RANDOM % 8 + 256 * (${#name} % 16)))
    "$BIN/rtcp_recvfile" --once --quiet --ack-to "$ack" 127.0.0.1:0 "$dir/in/copy" >"$dir/recv" 2>"$dir/recv.err" &
    receiver=$!
    to=$(listening "$dir/recv")
    "$UDPL" --listen 127.0.0.1:0 --to "$to" --rate-kbit 1000 --queue 8192 --seed "$seed" "$@" >"$dir/link" 2>"$dir/link.err" &
    link=$!
    proxy=$(listening "$dir/link")
    if "$BIN/rtcp_sendfile" --quiet --json --timeout-s 200 --bind "$ack" --any-source "$dir/file" "$proxy" >"$dir/send" 2>"$dir/send.err" &&
        wait "$receiver" && cmp -s "$dir/file" "$dir/in/copy"; then
        sed -n 's/.*"secs":\([0-9.]*\).*/\1/p' "$dir/send" >>"$tmp/$name"
    else
        echo "failed" >>"$tmp/$name"
        cat "$dir"/*.err >&2
        kill "$receiver" 2>/dev/null || :
    fi
    kill "$link" 2>/dev/null || :
    wait "$link" 2>/dev/null || :
}

case_() { # name, bound in seconds, bytes, impairments...
    local name=$1 bound=$2 seed
    shift 2
    : >"$tmp/$name"
    for seed in $(seq "$seeds"); do
        while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do sleep 0.1; done
        one "$name" "$seed" "$@" &
    done
    wait
    local ok sorted
    ok=$(grep -c '^[0-9]' "$tmp/$name" || :)
    sorted=$(grep '^[0-9]' "$tmp/$name" | sort -n)
    printf '| %s | %s | %s | %s | %s | %s of %s |\n' "$name" "$bound" "$(sed -n "$(((ok + 1) / 2))p" <<<"$sorted")" \
        "$(head -n 1 <<<"$sorted")" "$(tail -n 1 <<<"$sorted")" "$ok" "$seeds"
}

echo '| case | bound, s | median, s | least | most | identical |'
echo '|---|---:|---:|---:|---:|---:|'
case_ '2,222 B, 50 % loss, 50 % swapped, 16e-5 bit errors, 2 s delay' 10 2222 --loss 50 --reorder 50 --bit-error 16 --delay-ms 2000
case_ '51,200 B, 50 % loss' 3 51200 --loss 50
case_ '100,000 B, 12 % loss, 20 % swapped, 3e-5 bit errors, 0.3 s delay' 4 100000 --loss 12 --reorder 20 --bit-error 3 --delay-ms 300
case_ '1,000,000 B, 50 % loss' 20 1000000 --loss 50
