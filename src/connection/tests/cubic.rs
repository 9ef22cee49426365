//! CUBIC as a whole connection runs it (RFC 9438).

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Solo, emit};
use crate::connection::{Algorithm, Config, PathMtu};
use crate::wire::{Integrity, Segment};

fn cubic() -> Config {
    Config { algorithm: Algorithm::Cubic, mtu: PathMtu::Fixed(1200), ..Config::default() }
}

/// A receive batch holds many ACKs; nothing leaves between them.
#[test]
fn every_ack_of_a_full_window_counts_however_many_come_at_once() {
    let mut solo = Solo::client(&cubic(), Peer::Extension);
    let mss = solo.conn.snd.mss;
    solo.conn.write(solo.now, &pattern(100 * mss, 1)).unwrap();
    assert_eq!(solo.output().len(), 10, "the initial window");
    let before = solo.conn.stats().cwnd;
    solo.now += ms(20);
    let (una, key) = (solo.una(0), solo.conn.keys.expect("the extension").1);
    for n in 1..=10u32 {
        let ack = Segment { ack: una + n * mss as u32, ..solo.segment() };
        let datagram = emit(&ack, Integrity::Crc { key });
        solo.conn.handle_segment(solo.now, &ack, &datagram, false);
    }
    let grown = solo.conn.stats().cwnd;
    assert!(grown >= 2 * before - mss as u64, "slow start doubles: {before} to {grown}");
}

/// An application that sends less than the window admits does not enlarge it (RFC 9438 section 5.8).
#[test]
fn a_window_that_is_not_filled_does_not_grow() {
    let mut solo = Solo::client(&cubic(), Peer::Extension);
    let mss = solo.conn.snd.mss;
    let before = solo.conn.stats().cwnd;
    for _ in 0..50 {
        solo.conn.write(solo.now, &pattern(3 * mss, 1)).unwrap();
        solo.output();
        solo.now += ms(20);
        solo.gets_ack();
    }
    assert_eq!(solo.conn.stats().cwnd, before);
}

/// On short paths CUBIC promises Reno's share (RFC 9438 section 4.3): with one loss in N segments, the average
/// window of AIMD is sqrt(1.5 N) segments, for Reno's (1, 1/2) and for CUBIC's (0.529, 0.7) alike.
#[test]
fn on_short_paths_a_flow_gets_what_the_newreno_formula_says() {
    for (period, rtt) in [(500u64, 20u64), (1000, 20), (2000, 10)] {
        let link = crate::emulator::Impairments { delay: ms(rtt / 2), ..Default::default() };
        let mut pair = Pair::new(&cubic(), link.clone(), link, 9);
        pair.a.to_write = pattern(80 << 20, 1);
        let (mut count, mut last) = (0, None);
        pair.filter = Box::new(move |from_a, _, datagram| {
            let segment = Segment::parse(datagram).expect("what we send parses");
            let is_new = last.is_none_or(|last| segment.seq.delta(last) > 0);
            if !from_a || segment.payload.is_empty() || !is_new {
                return true;
            }
            last = Some(segment.seq);
            count += 1;
            count % period != 0
        });
        pair.run_for(ms(3_000)); // slow start is forgotten
        let before = pair.b.received.len();
        pair.run_for(ms(8_000));
        let received = pair.b.received.len() - before;
        assert!(pair.b.received.len() < pair.a.to_write.len(), "there was always something to send");
        let window = received as f64 / 1160.0 * rtt as f64 / 8_000.0;
        let formula = (1.5 * period as f64).sqrt();
        assert!((0.9..1.1).contains(&(window / formula)), "1 in {period}: {window:.1}, formula {formula:.1}");
        assert_eq!(pair.a.conn().stats().rto_count, 0);
    }
}
