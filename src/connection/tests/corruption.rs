//! Bit errors: reported, told apart from congestion, answered with shorter segments.

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Solo, emit};
use crate::connection::{Algorithm, Config};
use crate::emulator::Impairments;
use crate::wire::{Extension, Flags, Integrity, Options, SackBuffer, Segment};

const MSS: usize = 1160;

fn cubic() -> Config {
    Config { algorithm: Algorithm::Cubic, ..Config::default() }
}

/// What the path does to the fifth and every following hundredth data segment.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Drop,
    Flip,
}

/// A long transfer on which one segment in a hundred suffers: how much of itself the window keeps at worst, in
/// per cent, and how many segments are sent again.
fn suffer(fault: Fault) -> (u64, u64) {
    let mut pair = Pair::connected(&cubic());
    pair.a.to_write = pattern(800 * MSS, 9);
    let mut count = 0;
    pair.filter = Box::new(move |from_a, _, bytes| {
        let is_data = from_a && bytes.len() > 200;
        count += u64::from(is_data);
        if !is_data || count % 100 != 5 || !(300..=700).contains(&count) {
            return true;
        }
        bytes[100] ^= 4;
        fault == Fault::Flip
    });
    let (mut most, mut kept) = (1, 100);
    while pair.b.received.len() < pair.a.to_write.len() {
        pair.run_for(ms(1));
        let cwnd = pair.a.conn().stats().cwnd;
        most = cwnd.max(most);
        kept = kept.min(100 * cwnd / most);
    }
    assert!(pair.b.received == pair.a.to_write);
    (kept, pair.a.conn().stats().packets_retransmitted)
}

#[test]
fn corruption_does_not_slow_a_sender_that_loss_slows() {
    assert_eq!(suffer(Fault::Flip), (100, 4), "never reduced, and sent again once each");
    let (kept, again) = suffer(Fault::Drop);
    assert_eq!(again, 4);
    assert!(kept <= 80, "the detector: {kept} %");
}

/// The peer's ACK of nothing new with a SACK block behind the first segment, `corrupt` segments reported.
fn hole<'a>(solo: &Solo, blocks: &'a mut SackBuffer, to: i64, corrupt: u8) -> Segment<'a> {
    let m = MSS as i64;
    blocks.clear();
    blocks.push(solo.una(m), solo.una(to * m));
    let honest = solo.segment();
    let ext = Some(Extension { flags: corrupt, tail: &[] });
    let options: Options<'a> = Options { sack: blocks.as_blocks(), ext, ..honest.options };
    Segment { ack: solo.una(0), options, ..honest }
}

fn flight_of_ten() -> Solo {
    let mut solo = Solo::client(&cubic(), Peer::Extension);
    solo.conn.write(solo.now, &vec![1; 10 * MSS]).unwrap();
    solo.output();
    solo.now += ms(20);
    solo
}

#[test]
fn a_report_that_follows_the_verdict_restores_the_window() {
    let mut solo = flight_of_ten();
    let before = solo.conn.stats().cwnd;
    let mut blocks = SackBuffer::default();
    let first = hole(&solo, &mut blocks, 5, 0);
    solo.gets(&first);
    assert!(solo.conn.stats().cwnd < before, "taken for congestion");
    solo.now += ms(10);
    solo.ts += 10;
    let mut blocks = SackBuffer::default();
    let report = hole(&solo, &mut blocks, 6, 1);
    solo.gets(&report);
    assert!(solo.conn.stats().cwnd >= before, "{} of {before}", solo.conn.stats().cwnd);
}

#[test]
fn a_report_that_follows_more_than_a_round_trip_later_restores_nothing() {
    let mut solo = flight_of_ten();
    let before = solo.conn.stats().cwnd;
    let mut blocks = SackBuffer::default();
    let first = hole(&solo, &mut blocks, 5, 0);
    solo.gets(&first);
    solo.now += ms(45);
    solo.ts += 45;
    let mut blocks = SackBuffer::default();
    let report = hole(&solo, &mut blocks, 6, 1);
    solo.gets(&report);
    assert!(solo.conn.stats().cwnd < before);
}

#[test]
fn a_corrupt_data_segment_is_reported_at_once_but_few_times_a_second() {
    let mut solo = Solo::server(&Config::default(), Peer::Extension);
    let key = solo.conn.keys.unwrap().1;
    let mut damaged = emit(&Segment { payload: &[7; 500], ..solo.segment() }, Integrity::Crc { key });
    damaged[300] ^= 1;
    let answer = solo.gets_bytes(&damaged);
    assert_eq!(answer.len(), 1);
    let told = answer[0].segment();
    assert_eq!(told.options.ext.unwrap().flags & 0x1f, 1);
    assert!(answer[0].bytes().len() < damaged.len(), "no amplifier");
    let flood: usize = (0..1000).map(|_| solo.gets_bytes(&damaged).len()).sum();
    assert!(flood < 12, "{flood} answers");
}

#[test]
fn a_corrupt_ack_is_counted_and_not_answered() {
    let mut solo = Solo::server(&Config::default(), Peer::Extension);
    let key = solo.conn.keys.unwrap().1;
    let mut damaged = emit(&solo.segment(), Integrity::Crc { key });
    damaged[25] ^= 1;
    assert!(solo.gets_bytes(&damaged).is_empty());
    assert_eq!(solo.conn.stats().packets_corrupt, 1);
}

#[test]
fn a_plain_peers_wrong_sum_is_not_answered() {
    let mut solo = Solo::server(&Config::default(), Peer::Plain);
    let mut damaged = emit(&Segment { payload: &[7; 500], ..solo.segment() }, Integrity::Checksum);
    damaged[300] ^= 1;
    assert!(solo.gets_bytes(&damaged).is_empty());
}

#[test]
fn every_second_segment_is_acknowledged_when_they_have_become_short() {
    let mut solo = Solo::server(&Config::default(), Peer::Extension);
    for _ in 0..30 {
        solo.gets_data(&[1; MSS]);
    }
    let short = |solo: &mut Solo, flags| {
        let segment = Segment { payload: &[2; 220], flags, ..solo.segment() };
        solo.gets(&segment).len()
    };
    let acks = |solo: &mut Solo, flags| (0..20).map(|_| short(solo, flags)).sum::<usize>();
    assert!(acks(&mut solo, Flags::ACK | Flags::PSH) <= 4, "scraps of a peer that writes little at a time");
    assert!(acks(&mut solo, Flags::ACK) >= 10, "segments cut short: their sender had more");
}

fn flipping(errors: f64) -> Impairments {
    Impairments { delay: ms(10), bit_error_rate: errors, ..Impairments::default() }
}

#[test]
fn segments_shrink_while_bits_flip_and_grow_back_after() {
    let mut pair = Pair::connected(&Config::default());
    pair.ab.set_impairments(flipping(16e-5));
    pair.a.to_write = pattern(100_000, 3);
    pair.run_for(ms(20_000));
    assert!(pair.b.received == pair.a.to_write, "{} bytes", pair.b.received.len());
    let size = pair.a.conn().snd.size;
    assert!((200..400).contains(&size.payload()), "{size:?}");
    assert!(pair.a.conn().snd.corruption.reported() > 50);

    pair.ab.set_impairments(flipping(0.0));
    pair.a.to_write.extend(pattern(1_000_000, 4));
    pair.run_for(ms(20_000));
    assert!(pair.b.received == pair.a.to_write);
    assert!(!pair.a.conn().snd.size.is_limited(), "{:?}", pair.a.conn().snd.size);
}

#[test]
fn a_clean_path_keeps_full_segments() {
    let mut pair = Pair::connected(&Config::default());
    pair.a.to_write = pattern(1_000_000, 3);
    pair.run_for(ms(5_000));
    assert!(pair.b.received == pair.a.to_write);
    assert!(!pair.a.conn().snd.size.is_limited());
}

/// Stream bytes sent for each one delivered, and the most that is allowed at this loss, corruption included.
fn waste(loss: f64, errors: f64, seed: u64) -> (f64, f64) {
    let bad = Impairments {
        loss,
        bit_error_rate: errors,
        delay: ms(20),
        rate_bit_per_s: Some(10_000_000),
        queue_bytes: Some(65_536),
        ..Impairments::default()
    };
    let back = Impairments { delay: ms(20), ..Impairments::default() };
    let mut pair = Pair::new(&Config::default(), bad, back, seed);
    let sent = std::rc::Rc::new(std::cell::Cell::new(0));
    let sum = sent.clone();
    pair.filter = Box::new(move |from_a, _, bytes| {
        if from_a {
            sum.set(sum.get() + Segment::parse(bytes).map_or(0, |s| s.payload.len()));
        }
        true
    });
    pair.a.to_write = pattern(1_000_000, 1);
    pair.run_to_end(ms(400_000));
    pair.assert_exact();
    let stats = pair.ab.stats();
    let share = (stats.lost + stats.corrupted) as f64 / stats.packets_in as f64;
    (sent.get() as f64 / 1e6, 1.1 / (1.0 - share))
}

#[test]
fn copies_and_pieces_waste_less_than_a_tenth_of_a_megabyte() {
    for (loss, errors) in [(0.5, 0.0), (0.3, 3e-5), (0.0, 16e-5)] {
        let mut over: Vec<f64> = (0..5)
            .map(|seed| {
                let (sent, most) = waste(loss, errors, seed);
                sent / most
            })
            .collect();
        over.sort_by(f64::total_cmp);
        assert!(over[2] <= 1.0, "loss {loss}, bit errors {errors}: {over:?} of what is allowed");
    }
}
