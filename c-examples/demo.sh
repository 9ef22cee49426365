#!/usr/bin/env bash
# A file crosses a terrible link: sender -> udpl -> receiver, ACKs straight back, as in the set-up this library grew from.
# Called by `make demo`. Environment: FILE (default: 1 MB of random bytes), LOSS and REORDER (percent), BIT_ERROR (per 100,000),
# RATE (kbit/s), QUEUE (bytes), WINDOW (bytes; a fixed window, as that one had), SEED; UDPL and BIN say where the programs are.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
BIN=${BIN:-$here/../target/c-examples}
UDPL=${UDPL:-$here/../target/release/udpl}
LOSS=${LOSS:-50} REORDER=${REORDER:-50} BIT_ERROR=${BIT_ERROR:-3} RATE=${RATE:-10000} QUEUE=${QUEUE:-8192} SEED=${SEED:-7}

tmp=$(mktemp -d)
started=()
finish() { # whatever happened: nothing keeps running, nothing stays behind
    for pid in ${started[@]+"${started[@]}"}; do kill "$pid" 2>/dev/null || :; done
    wait 2>/dev/null || :
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The address in the "listening A:P" line that the program writing to file $1 begins with.
listening() {
    for _ in $(seq 100); do
        sed -n 's/^listening //p' "$1" | grep . && return
        sleep 0.05
    done
    echo "demo: no answer from ${1##*/}:" >&2
    cat "$tmp"/*.err >&2
    return 1
}

# The receiver must know the sender's port before the sender is there: a random one that nobody uses.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000)) # below the range the kernel gives away
        grep -qi ":$(printf %04X $port) " /proc/net/udp /proc/net/udp6 2>/dev/null || { echo $port; return; }
    done
}

# The number called $1 in the last JSON line of file $2.
figure() { tail -n 1 "$2" | sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

if [ -z "${FILE:-}" ]; then
    FILE=$tmp/demo.bin
    head -c 1000000 /dev/urandom >"$FILE"
elif [ ! -e "$FILE" ] && [ -e "$here/../$FILE" ]; then
    FILE=$here/../$FILE # `make -C c-examples` has left the directory where FILE was named
fi
size=$(wc -c <"$FILE")
ack=127.0.0.1:$(free_port)

mkdir "$tmp/in"
"$BIN/rtcp_recvfile" --once --json --ack-to "$ack" 127.0.0.1:0 "$tmp/in/copy" >"$tmp/receiver" 2>"$tmp/receiver.err" &
receiver=$! started+=("$receiver")
to=$(listening "$tmp/receiver")

"$UDPL" --listen 127.0.0.1:0 --to "$to" --loss "$LOSS" --reorder "$REORDER" --bit-error "$BIT_ERROR" --rate-kbit "$RATE" \
    --queue "$QUEUE" --seed "$SEED" >"$tmp/link" 2>"$tmp/link.err" &
link=$! started+=("$link")
proxy=$(listening "$tmp/link")

echo "sender $ack -> link $proxy -> receiver $to, ACKs straight back"
echo "link: $LOSS % lost, $REORDER % reordered, $BIT_ERROR bit errors in 100,000, $RATE kbit/s, a queue of $QUEUE bytes"
"$BIN/rtcp_sendfile" --json --bind "$ack" --any-source ${WINDOW:+--window "$WINDOW"} "$FILE" "$proxy" >"$tmp/sender" || {
    code=$?
    cat "$tmp"/*.err >&2
    exit $code
}
wait "$receiver" || { echo "demo: the receiver failed" >&2; cat "$tmp/receiver.err" >&2; exit 1; }
kill "$link" && wait "$link" || : # its statistics come at the end

cmp "$FILE" "$tmp/in/copy"
cat <<END
identical:                 $size bytes
time:                      $(figure secs "$tmp/sender") s
goodput:                   $(figure goodput_mbps "$tmp/sender") Mbit/s
packets sent:              $(figure packets_sent "$tmp/sender"), of them retransmissions: $(figure retransmitted "$tmp/sender")
corrupted segments caught: $(figure packets_corrupt "$tmp/receiver")
link:                      $(sed -n "s/^udpl: forward: //p" "$tmp/link.err")
END
