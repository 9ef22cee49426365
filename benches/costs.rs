//! Fixed work for an instruction counter: `costs SCENARIO EVENTS [SIZE]`. `benches/costs.py` runs it under callgrind and
//! compares with the budgets of `benches/costs.txt`. EVENTS go by first, as many are counted then.
//!
//! Per segment of a bulk transfer: `send`, `receive` and `ack`; with every sixteenth lost, `receive-holes` and
//! `ack-holes`. Per hostile or unlucky datagram, with SIZE holes or segments in flight: `holes-receiver`, `holes-sender`,
//! `sack-flood`. Per timer that runs out, among SIZE: `timers`. Per message to a receiver of SIZE connections: `active`,
//! `in-turn`, `from-rest`.

use std::time::Duration;

use rtcp::connection::{Algorithm, Config, Connection, Identity, Offer, PathMtu, Transmit, emit_syn_ack};
use rtcp::time::{self, Time};
use rtcp::wire::{
    Extension, Flags, Integrity, Options, SackBlocks, SackBuffer, Segment, SeqNum, Timestamps, crc_key,
};

mod callgrind;
mod crowd;
#[path = "../tests/common/many.rs"]
mod many;
#[allow(dead_code, unused_imports)] // a part of the crate that the crate does not show
#[path = "../src/endpoint/timers.rs"]
mod timers;

use callgrind::Count;

const CLIENT_ISS: SeqNum = SeqNum::new(100);
const SERVER_ISS: SeqNum = SeqNum::new(200);
const BLOCK: usize = 64 << 10;
const BATCH: usize = 44;
/// In flight in the transfers with loss.
const WINDOW: u64 = 1 << 20;

/// What is counted: a function of its own, never inlined.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

/// Runs `work`, counted only if `is_counted`.
fn perhaps<R>(is_counted: bool, work: impl FnOnce() -> R) -> R {
    if is_counted { measured(work) } else { work() }
}

fn identity(local_port: u16, peer_port: u16, iss: SeqNum) -> Identity {
    Identity { local_port, peer_port, iss, ts_offset: 0 }
}

/// Two connected ends, `rtt` apart during the handshake; the clock has moved on by it.
fn connected(now: &mut Time, config: &Config, rtt: Duration) -> (Connection, Connection) {
    let (mut syn, mut answer, mut ack) = (vec![], vec![], vec![]);
    let mut client = Connection::connect(*now, config, identity(1, 2, CLIENT_ISS));
    client.poll_transmit(*now, 1, &mut syn);
    let offer = Offer::from_segment(&Segment::parse(&syn).expect("a SYN"), &syn);
    let terms =
        emit_syn_ack(config, 2, 1, SERVER_ISS, now.as_millis() as u32, &offer, syn.len(), &mut answer);
    let (begun, terms) = (*now, terms.expect("the ends agree"));
    *now += rtt;
    let mut server = Connection::accept(*now, config, identity(2, 1, SERVER_ISS), &offer, terms, Some(begun));
    client.handle_segment(*now, &Segment::parse(&answer).expect("a SYN-ACK"), &answer, false);
    client.poll_transmit(*now, 1, &mut ack);
    server.handle_segment(*now, &Segment::parse(&ack).expect("an ACK"), &ack, false);
    (client, server)
}

fn datagrams(transmit: Transmit, batch: &[u8]) -> std::slice::Chunks<'_, u8> {
    batch.chunks(transmit.segment_size.unwrap_or(transmit.size))
}

fn hand_over(now: Time, to: &mut Connection, datagram: &[u8]) {
    let segment = Segment::parse(datagram).expect("our own segments parse");
    to.handle_segment(now, &segment, datagram, false);
}

/// As GRO merges them.
fn hand_over_row(now: Time, to: &mut Connection, transmit: Transmit, row: &[u8]) {
    let (size, mut rest) = (transmit.segment_size.unwrap_or(transmit.size), row);
    while !rest.is_empty() {
        let (datagram, after) = rest.split_at(size.min(rest.len()));
        let segment = Segment::parse(datagram).expect("our own segments parse");
        rest = &after[to.handle_row(now, &segment, datagram, after, false)..];
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Send,
    Receive,
    Ack,
}

/// A bulk transfer of so many segments, 1 ms each way; every `lose_each`-th does not arrive.
fn bulk(name: &str, counted: Phase, segments: u64, lose_each: u64) {
    let algorithm = if lose_each > 0 { Algorithm::Fixed { window: WINDOW } } else { Algorithm::Bbr };
    let config = Config { mtu: PathMtu::Fixed(1_472), algorithm, ..Config::default() };
    let mut now = Time::from_nanos(1_000_000_000);
    let (mut a, mut b) = connected(&mut now, &config, Duration::from_millis(2));
    let (block, mut sink) = (vec![7; BLOCK], vec![0; BLOCK]);
    let (mut there, mut back) = (Vec::with_capacity(1 << 17), Vec::with_capacity(1 << 12));
    let (mut sent, mut count, mut first) = (0, None, 0);
    while count.is_none() || sent < first + segments {
        if count.is_none() && sent >= segments {
            (count, first) = (Some(Count::begin()), sent);
        }
        now += Duration::from_millis(1);
        let mut batches = vec![];
        perhaps(counted == Phase::Send, || {
            while a.write(now, &block).is_ok() {}
            a.handle_timeout(now);
            there.clear();
            while let Some(transmit) = a.poll_transmit(now, BATCH, &mut there) {
                batches.push(transmit);
            }
        });
        now += Duration::from_millis(1);
        let mut at = 0;
        for transmit in batches {
            let row = &there[at..at + transmit.size];
            if lose_each == 0 {
                perhaps(counted == Phase::Receive, || hand_over_row(now, &mut b, transmit, row));
                sent += datagrams(transmit, row).len() as u64;
            } else {
                for datagram in datagrams(transmit, row) {
                    sent += 1;
                    if sent % lose_each != 0 {
                        perhaps(counted == Phase::Receive, || hand_over(now, &mut b, datagram));
                    }
                }
            }
            at += transmit.size;
            back.clear();
            let answer = perhaps(counted == Phase::Receive, || {
                while b.read(now, &mut sink).is_ok() {}
                b.poll_transmit(now, 1, &mut back)
            });
            if answer.is_some() {
                perhaps(counted == Phase::Ack, || hand_over(now, &mut a, &back));
            }
        }
        back.clear();
        b.handle_timeout(now);
        if let Some(transmit) = b.poll_transmit(now, 8, &mut back) {
            datagrams(transmit, &back)
                .for_each(|ack| perhaps(counted == Phase::Ack, || hand_over(now, &mut a, ack)));
        }
    }
    count.expect("begun").end(name, (sent - first) as u32);
}

/// A datagram that the other end did not write.
fn forged(options: Options<'_>, from_client: bool, seq: u32, ack: u32, payload: &[u8], out: &mut Vec<u8>) {
    let (ours, theirs) = if from_client { (CLIENT_ISS, SERVER_ISS) } else { (SERVER_ISS, CLIENT_ISS) };
    let (src_port, dst_port) = if from_client { (1, 2) } else { (2, 1) };
    let segment = Segment {
        src_port,
        dst_port,
        seq: ours + 1 + seq,
        ack: theirs + 1 + ack,
        flags: Flags::ACK,
        window: u16::MAX,
        options,
        payload,
        ..Segment::default()
    };
    out.clear();
    segment.emit(out, Integrity::Crc { key: crc_key(ours, theirs) });
}

fn plain_options(now: Time) -> Options<'static> {
    let stamp = now.as_millis() as u32;
    Options {
        timestamps: Some(Timestamps { val: stamp, ecr: stamp }),
        ext: Some(Extension { flags: 0, tail: &[] }),
        ..Options::default()
    }
}

/// Half of each KiB of a long stretch arrives; each such datagram is answered with what the receiver has to say.
fn holes_receiver(name: &str, events: u32, holes: u32) {
    const STRIDE: u32 = 1024;
    let config = Config { recv_buffer: 1 << 30, ..Config::default() };
    let mut now = Time::from_nanos(1_000_000_000);
    let rtt = Duration::from_millis(600);
    let (_, mut b) = connected(&mut now, &config, rtt);
    let (mut datagram, mut sink) = (vec![], vec![0; BLOCK]);
    // The window grows to 64 times of what is read in a round trip; a fragment may be kept for each KiB of it.
    let all = holes + 2 * events;
    let (mut at, first) = (0, all * STRIDE / 64);
    while at < first {
        forged(plain_options(now), true, at, 0, &[7; 1_400], &mut datagram);
        hand_over(now, &mut b, &datagram);
        at += 1_400;
        while b.read(now, &mut sink).is_ok() {}
        b.poll_transmit(now, 1, &mut vec![]);
    }
    now += rtt;
    let mut out = Vec::with_capacity(1 << 12);
    let mut count = None;
    for i in 0..all {
        if i == all - events {
            count = Some(Count::begin());
        }
        // In three places by turns, so that no order of arrival is the easy one.
        let place = match i % 3 {
            0 => i / 3,
            1 => all - i / 3,
            _ => all / 3 + 1 + i / 3,
        };
        forged(plain_options(now), true, at + 1 + STRIDE * place, 0, &[7; 64], &mut datagram);
        out.clear();
        perhaps(count.is_some(), || {
            hand_over(now, &mut b, &datagram);
            b.poll_transmit(now, 1, &mut out)
        });
        now += Duration::from_nanos(100);
    }
    count.expect("begun").end(name, events);
    now += Duration::from_secs(1);
    forged(plain_options(now), true, at + 1 + STRIDE * (all + 1), 0, &[7], &mut datagram);
    hand_over(now, &mut b, &datagram);
    b.handle_timeout(now + Duration::from_secs(1));
    out.clear();
    b.poll_transmit(now + Duration::from_secs(1), 1, &mut out);
    let answer = Segment::parse(&out).expect("the last one is answered");
    let newest = answer.options.sack.iter().next().expect("there are holes");
    let seq = Segment::parse(&datagram).expect("forged well").seq;
    assert!(newest.0 == seq && b.stats().packets_dropped == 0, "they were not kept: {:?}", b.stats());
}

/// A sender with `segments` small ones in flight.
fn flight(now: &mut Time, segments: u32) -> (Connection, u32) {
    let config = Config {
        mtu: PathMtu::Fixed(100),
        algorithm: Algorithm::Fixed { window: 1 << 30 },
        send_buffer: 1 << 30,
        recv_buffer: 1 << 30,
        ..Config::default()
    };
    let (mut a, _) = connected(now, &config, Duration::from_millis(100));
    let mut datagram = vec![];
    forged(plain_options(*now), false, 0, 0, &[], &mut datagram);
    hand_over(*now, &mut a, &datagram);
    let (block, mut out) = (vec![7; BLOCK], vec![]);
    let (mut sent, mut len) = (0, 0);
    while sent < segments {
        _ = a.write(*now, &block);
        out.clear();
        let transmit = a.poll_transmit(*now, BATCH, &mut out).expect("there is data and room");
        let batch = datagrams(transmit, &out);
        sent += batch.len() as u32;
        len = Segment::parse(&out[..transmit.segment_size.unwrap_or(transmit.size)])
            .expect("our own")
            .payload
            .len() as u32;
    }
    (a, len)
}

/// Reports from a peer that got every second segment, newest blocks first, 31 at a time; what is lost leaves again.
fn holes_sender(name: &str, events: u32, holes: u32) {
    /// Holes that a report tells of for the first time; before those that count, as many as a report has room for.
    const NEW: u32 = 3;
    const BLOCKS: u32 = SackBlocks::MAX as u32;
    let mut now = Time::from_nanos(1_000_000_000);
    let (mut a, len) = flight(&mut now, 2 * (holes + BLOCKS + 2 * events * NEW) + 64);
    let (mut datagram, mut out) = (vec![], Vec::with_capacity(1 << 17));
    let (mut told, mut left, mut count) = (0, 2 * events, None);
    while left > 0 {
        let new = if told < holes { BLOCKS } else { NEW };
        left -= u32::from(new == NEW);
        if left == events - 1 {
            count.get_or_insert_with(Count::begin);
        }
        told += new;
        now += Duration::from_micros(20);
        let mut blocks = SackBuffer::default();
        for back in 1..=BLOCKS.min(told) {
            let begin = SeqNum::new(101) + (1 + 2 * (told - back)) * len;
            blocks.push(begin, begin + len);
        }
        forged(Options { sack: blocks.as_blocks(), ..plain_options(now) }, false, 0, 0, &[], &mut datagram);
        out.clear();
        perhaps(count.is_some(), || {
            hand_over(now, &mut a, &datagram);
            a.handle_timeout(now);
            a.poll_transmit(now, new as usize, &mut out)
        });
    }
    count.expect("begun").end(name, events);
}

/// All but the first segment is reported, again and again, in blocks that begin and end anywhere.
fn sack_flood(name: &str, events: u32, segments: u32) {
    let mut now = Time::from_nanos(1_000_000_000);
    let (mut a, len) = flight(&mut now, segments);
    let mut datagram = vec![];
    let mut count = None;
    for i in 0..=2 * events {
        if i == events + 1 {
            count = Some(Count::begin());
        }
        now += Duration::from_micros(20);
        let mut blocks = SackBuffer::default();
        for block in 0..31 {
            let skipped = if i == 0 { 0 } else { (31 * i + block) * 7 % (segments / 2 - 1) };
            let first = SeqNum::new(101);
            blocks.push(first + (1 + skipped) * len, first + (segments - skipped / 2) * len);
        }
        forged(Options { sack: blocks.as_blocks(), ..plain_options(now) }, false, 0, 0, &[], &mut datagram);
        perhaps(count.is_some(), || hand_over(now, &mut a, &datagram));
    }
    count.expect("begun").end(name, events);
}

/// Each timer that runs out is set again, and another put off, as connections do: `among` so many at any time.
fn timers(name: &str, events: u32, among: u32) {
    const WITHIN_NS: u64 = 1_000_000_000;
    let mut random = 1u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) * limit) >> 31
    };
    let mut timers = timers::Timers::default();
    let mut now = Time::from_nanos(WITHIN_NS);
    for token in 0..among {
        timers.set(token, Some(now + Duration::from_nanos(below(WITHIN_NS))));
    }
    let mut count = None;
    // Before anything is counted every timer has run out or been put off, on average: no order of theirs is left.
    let settled = among.max(events);
    for i in 0..settled + events {
        if i == settled {
            count = Some(Count::begin());
        }
        let (whose, other) = (below(WITHIN_NS), below(among.into()) as u32);
        measured(|| {
            now = timers.next().expect("one is always set");
            let token = timers.expire(now).expect("it is due");
            timers.set(token, Some(now + Duration::from_nanos(whose)));
            timers.set(other, Some(now + Duration::from_nanos(WITHIN_NS)));
        });
    }
    count.expect("begun").end(name, events);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |index: usize| arguments.get(index).and_then(|word| word.parse::<u32>().ok());
    let (Some(scenario), Some(events)) = (arguments.first(), number(1)) else {
        return println!("costs SCENARIO EVENTS [SIZE]: see benches/costs.py");
    };
    let size = number(2).unwrap_or(1_000);
    let name = [&arguments[..1], &arguments[2..]].concat().join(" ");
    match scenario.as_str() {
        "send" => bulk(&name, Phase::Send, events.into(), 0),
        "receive" => bulk(&name, Phase::Receive, events.into(), 0),
        "ack" => bulk(&name, Phase::Ack, events.into(), 0),
        "receive-holes" => bulk(&name, Phase::Receive, events.into(), 16),
        "ack-holes" => bulk(&name, Phase::Ack, events.into(), 16),
        "holes-receiver" => holes_receiver(&name, events, size),
        "holes-sender" => holes_sender(&name, events, size),
        "sack-flood" => sack_flood(&name, events, size),
        "active" => crowd::active(&name, events, size as usize),
        "in-turn" => crowd::in_turn(&name, events, size as usize),
        "from-rest" => crowd::from_rest(&name, events, size as usize),
        "timers" => timers(&name, events, size),
        _ => panic!("no scenario {scenario}"),
    }
}
