//! Recovery at high loss and under reordering and duplication (RFC 8985): what a timeout must not be needed for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use crate::connection::{Algorithm, Config, Stats};
use crate::emulator::Impairments;
use crate::time::Time;
use crate::wire::Segment;

/// 100 Mbit/s, 20 ms each way.
fn link() -> Impairments {
    Impairments {
        delay: ms(20),
        rate_bit_per_s: Some(100_000_000),
        queue_bytes: Some(2 << 20),
        ..Impairments::default()
    }
}

/// A window of 500 KB, the bandwidth-delay product, whatever happens.
fn config() -> Config {
    Config { algorithm: Algorithm::Fixed { window: 500_000 }, ..Config::default() }
}

/// How long lost bytes waited until they were sent again, sorted.
type Waits = Rc<RefCell<Vec<Duration>>>;

/// What a bulk transfer of `duration` counted after its first three seconds: two on a clean link, and one over
/// `there` and `back` in which it may learn what they are like.
fn flow(there: Impairments, back: Impairments, duration: Duration, seed: u64) -> (Stats, Waits) {
    let mut pair = Pair::new(&config(), link(), link(), seed);
    pair.a.finish_when_written = false;
    pair.b.finish_when_written = false;
    pair.run_for(ms(200));
    pair.a.to_write = pattern(12_500_000 * duration.as_secs() as usize, 3); // more than the link takes
    pair.run_for(ms(2000)); // the round trip and the size of the datagrams are known
    pair.ab.set_impairments(there);
    pair.ba.set_impairments(back);
    pair.run_for(ms(1000)); // the loss, or the reordering, too
    let before = pair.a.conn().stats();
    let waits = Waits::default();
    let (log, clock) = (Rc::clone(&waits), Rc::new(RefCell::new(pair.now)));
    let (mut last, time): (HashMap<u32, Time>, _) = (HashMap::new(), Rc::clone(&clock));
    pair.filter = Box::new(move |from_a, _, datagram| {
        let segment = Segment::parse(datagram).expect("what we send parses");
        if from_a && !segment.payload.is_empty() {
            let now = *time.borrow();
            if let Some(before) = last.insert(segment.seq.get(), now) {
                log.borrow_mut().push(now - before);
            }
        }
        true
    });
    let end = pair.now + (duration - ms(3000));
    while pair.now < end {
        let next = pair.now + ms(1);
        pair.run_for(ms(1));
        *clock.borrow_mut() = next;
    }
    let after = pair.a.conn().stats();
    let difference = Stats {
        packets_sent: after.packets_sent - before.packets_sent,
        packets_retransmitted: after.packets_retransmitted - before.packets_retransmitted,
        packets_lost: after.packets_lost - before.packets_lost,
        rto_count: after.rto_count - before.rto_count,
        ..after
    };
    waits.borrow_mut().sort_unstable();
    (difference, waits)
}

#[test]
fn at_thirty_percent_loss_no_timeout_fires_and_a_lost_retransmission_waits_a_round_trip() {
    for (seed, both_ways, seconds) in [(1, false, 8), (2, true, 3)] {
        let lossy = Impairments { loss: 0.3, ..link() };
        let back = if both_ways { lossy.clone() } else { link() };
        let (stats, waits) = flow(lossy, back, ms(3000 + 1000 * seconds), seed);
        assert_eq!(stats.rto_count, 0);
        let waits = waits.borrow();
        let at = |share: f64| waits[(waits.len() as f64 * share) as usize];
        assert!(waits.len() > 500 * seconds as usize, "{}", waits.len());
        assert!(at(0.99) <= stats.srtt.mul_f64(1.25), "{:?} of {:?}", at(0.99), stats.srtt);
    }
}

/// A flight of ten that takes ten times as long as the handshake: the tail loss probe falls due, and nothing is lost.
#[test]
fn a_queue_that_grows_is_not_met_with_copies() {
    let slow = |rate, delay| Impairments {
        delay: ms(delay),
        rate_bit_per_s: Some(rate),
        overhead_bytes: 28,
        ..Impairments::default()
    };
    for algorithm in [Algorithm::Bbr, Algorithm::Cubic, Algorithm::Fixed { window: 11_600 }] {
        for (rate, delay) in [(128_000, 5), (500_000, 5), (1_000_000, 2)] {
            let config = Config { algorithm, ..Config::default() };
            let mut pair = Pair::new(&config, slow(rate, delay), slow(10_000_000, delay), 3);
            pair.a.to_write = pattern(11_000, 1);
            pair.run_to_end(ms(20_000));
            pair.assert_exact();
            let stats = pair.a.conn().stats();
            // The probe, and until the first answer a copy each 10 ms: it may have been loss.
            assert!(stats.packets_retransmitted <= 8, "{algorithm:?} at {rate}: {stats:?}");
        }
    }
}

#[test]
fn late_datagrams_and_second_copies_are_not_taken_for_losses() {
    let late = Impairments { late: 0.1, late_by: ms(10), ..link() };
    let twice = Impairments { duplicate: 0.05, ..link() };
    for (name, there) in [("late", late), ("twice", twice)] {
        let (stats, _) = flow(there, link(), ms(7000), 3);
        assert_eq!(stats.rto_count, 0, "{name}");
        assert!(stats.packets_retransmitted * 100 < stats.packets_sent, "{name}: {stats:?}");
    }
}
