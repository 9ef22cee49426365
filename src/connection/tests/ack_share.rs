//! What the way back costs, and that what is saved there costs no time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use crate::connection::{Algorithm, Config};
use crate::emulator::Impairments;
use crate::wire::{Flags, Segment};

/// What left the receiver, in IPv4 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Back {
    acks: u64,
    bytes: u64,
    sack_bytes: u64,
    data_segments: u64,
}

/// UDP and IPv4.
const LOWER_HEADERS: u64 = 28;

fn watch(pair: &mut Pair) -> Rc<Cell<Back>> {
    let back = Rc::new(Cell::new(Back::default()));
    let seen = Rc::clone(&back);
    pair.filter = Box::new(move |from_a, _, bytes| {
        let Ok(segment) = Segment::parse(bytes) else { return true };
        let mut now = seen.get();
        if !from_a && !segment.flags.contains(Flags::SYN) {
            now.acks += 1;
            now.bytes += bytes.len() as u64 + LOWER_HEADERS;
            now.sack_bytes += 8 * segment.options.sack.len() as u64;
        }
        now.data_segments += u64::from(from_a && !segment.payload.is_empty());
        seen.set(now);
        true
    });
    back
}

fn run(config: &Config, ab: Impairments, ba: Impairments, bytes: usize, seed: u64) -> (Duration, Back) {
    let mut pair = Pair::new(config, ab.clone(), ba.clone(), seed);
    // The handshake has tests of its own.
    let lossless = |link: &Impairments| Impairments { loss: 0.0, ..link.clone() };
    pair.ab.set_impairments(lossless(&ab));
    pair.ba.set_impairments(lossless(&ba));
    pair.a.finish_when_written = false;
    pair.run_for(ms(150));
    pair.ab.set_impairments(ab);
    pair.ba.set_impairments(ba);
    pair.a.finish_when_written = true;
    pair.a.to_write = pattern(bytes, 1);
    let back = watch(&mut pair);
    let took = pair.run_to_end(ms(600_000));
    pair.assert_exact();
    (took, back.get())
}

/// Before there was a policy each out-of-order segment was answered with up to 31 blocks: 20 % of the bytes at
/// half loss. Without loss seconds are those of that time; else it took up to twice as long then.
#[test]
fn sack_blocks_stay_below_a_twentieth_and_loss_is_found_as_soon() {
    for (loss, back_loss, most_seconds, most_back) in [
        (0.0, 0.0, 1.352, 0.018),
        (0.01, 0.0, 1.429, 0.035),
        (0.1, 0.0, 1.7, 0.075),
        (0.5, 0.0, 3.3, 0.10),
        (0.1, 0.5, 2.3, 0.08),
        (0.5, 0.5, 3.5, 0.11),
    ] {
        let config = Config { algorithm: Algorithm::Fixed { window: 200_000 }, ..Config::default() };
        let ab = Impairments {
            delay: ms(20),
            loss,
            rate_bit_per_s: Some(20_000_000),
            overhead_bytes: 28,
            queue_bytes: Some(200_000),
            ..Impairments::default()
        };
        let ba = Impairments { delay: ms(20), loss: back_loss, ..Impairments::default() };
        let (bytes, runs) = (3_000_000, 4);
        let (mut seconds, mut total) = (0.0, Back::default());
        for seed in 0..runs {
            let (took, back) = run(&config, ab.clone(), ba.clone(), bytes, seed);
            seconds += took.as_secs_f64() / runs as f64;
            total.bytes += back.bytes;
            total.sack_bytes += back.sack_bytes;
        }
        let of = |n: u64| n as f64 / (bytes as f64 * runs as f64);
        let (share, sack) = (of(total.bytes), of(total.sack_bytes));
        eprintln!("{loss} {back_loss}: {seconds:.3} s, {share:.4} back, {sack:.4} in SACK blocks");
        assert!(seconds <= most_seconds, "{seconds} s at {loss}, {back_loss}");
        assert!(sack <= 0.05 && share <= most_back, "{sack} {share} at {loss}, {back_loss}");
    }
}

#[test]
fn on_a_wide_link_with_a_narrow_way_back_acks_leave_room() {
    for (loss, rounds, least) in [(0.0, 6, 20_000_000), (0.01, 8, 20_000_000)] {
        let ab = Impairments {
            delay: ms(300),
            loss,
            rate_bit_per_s: Some(250_000_000),
            overhead_bytes: 28,
            ..Impairments::default()
        };
        let ba = Impairments {
            delay: ms(300),
            rate_bit_per_s: Some(3_000_000),
            overhead_bytes: 28,
            ..Impairments::default()
        };
        let config = Config { algorithm: Algorithm::Fixed { window: 20_000_000 }, ..Config::default() };
        let mut pair = Pair::new(&config, ab, ba, 1);
        pair.a.to_write = pattern(100_000_000, 1);
        let back = watch(&mut pair);
        for _ in 0..rounds {
            let before = back.get();
            pair.run_for(ms(600));
            let bits = 8 * (back.get().bytes - before.bytes);
            eprintln!("{loss}: {bits} bits back, {} bytes read", pair.b.received.len());
            assert!(bits <= 1_500_000, "{bits} of 1,800,000 bits in a round trip, {loss}");
        }
        assert!(pair.b.received.len() > least, "{} at {loss}", pair.b.received.len());
    }
}

#[test]
fn the_senders_round_trip_time_follows_the_path_though_acks_are_few() {
    let link = |delay| Impairments {
        delay: ms(delay),
        rate_bit_per_s: Some(100_000_000),
        overhead_bytes: 28,
        ..Impairments::default()
    };
    let config = Config { algorithm: Algorithm::Fixed { window: 450_000 }, ..Config::default() };
    let mut pair = Pair::new(&config, link(20), link(20), 1);
    pair.a.to_write = pattern(40_000_000, 1);
    let back = watch(&mut pair);
    pair.run_for(ms(1000));
    let before = back.get();
    pair.run_for(ms(400));
    let (acks, segments) = (back.get().acks - before.acks, back.get().data_segments - before.data_segments);
    assert!(4 * acks <= segments && acks >= 80, "{acks} ACKs of {segments} segments in 10 round trips");
    pair.ab.set_impairments(link(60));
    pair.run_for(ms(800));
    let srtt = pair.a.conn().snd.rtt.srtt();
    assert!(srtt >= ms(65), "10 round trips of 80 ms later (7/8)^10 of the step are left: {srtt:?}");
    let stats = pair.a.conn().stats();
    assert_eq!((stats.packets_retransmitted, stats.rto_count), (0, 0), "nothing was taken for lost");
}
