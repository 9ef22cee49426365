//! Folding forgets nothing that matters: a stream goes on after a rest as if there had been none.

use super::pair::{Pair, Side, ms, pattern};
use crate::connection::{Config, IntegrityMode, State, Stats, View};
use crate::emulator::Impairments;
use crate::time::Time;

fn link() -> Impairments {
    let rate = Some(20_000_000);
    Impairments { delay: ms(20), rate_bit_per_s: rate, queue_bytes: Some(200_000), ..Impairments::default() }
}

/// Both open, and neither finishes.
fn open(config: &Config) -> Pair {
    let mut pair = Pair::with(config, config, link(), link(), 7);
    pair.a.finish_when_written = false;
    pair.b.finish_when_written = false;
    pair.run_for(ms(2000));
    pair
}

/// Folds and unfolds: the counters before, at rest and after.
fn rest(side: &mut Side, now: Time) -> [Stats; 3] {
    let connection = side.conn.take().unwrap();
    assert!(connection.is_at_rest(now), "{connection:?}");
    let dormant = connection.fold();
    let view = View::Dormant(&dormant);
    assert!(view.is_acked() && view.is_writable() && !view.is_readable());
    assert_eq!((view.bytes_written(), view.linger()), (connection.bytes_written(), connection.linger()));
    assert_eq!(view.poll_timeout(), connection.poll_timeout());
    let stats = [connection.stats(), view.stats()];
    let connection = dormant.unfold();
    connection.assert_invariants();
    let stats = [stats[0], stats[1], connection.stats()];
    side.conn = Some(connection);
    stats
}

fn plain() -> Config {
    Config { integrity: IntegrityMode::Off, ..Config::default() }
}

#[test]
fn a_connection_rests_as_soon_as_the_handshake_is_over_and_nothing_of_it_is_lost() {
    for config in [Config::default(), plain()] {
        let mut pair = open(&config);
        for side in [&mut pair.a, &mut pair.b] {
            assert_eq!(side.conn().poll_timeout(), None);
            let [before, at_rest, after] = rest(side, pair.now);
            assert_eq!((before, before), (at_rest, after));
        }
    }
}

#[test]
fn a_stream_goes_on_after_a_rest_as_if_there_had_been_none() {
    for config in [Config::default(), plain()] {
        let mut pair = open(&config);
        for round in 1..=3 {
            pair.a.to_write.extend(pattern(2_000_000, round));
            pair.b.to_write.extend(pattern(30_000, round));
            pair.run_for(ms(20_000));
            for side in [&mut pair.a, &mut pair.b] {
                let [before, at_rest, after] = rest(side, pair.now);
                assert_eq!(
                    before.bytes_sent,
                    u64::from(round) * if before.bytes_sent > 100_000 { 2_000_000 } else { 30_000 }
                );
                assert_eq!(at_rest, after);
                // A controller that has learned nothing begins anew; all else is as it was.
                let of_controller = Stats {
                    cwnd: after.cwnd,
                    ssthresh: after.ssthresh,
                    pacing_rate: after.pacing_rate,
                    bandwidth: after.bandwidth,
                    phase: after.phase,
                    ..before
                };
                assert_eq!(of_controller, after);
            }
            assert!(pair.a.conn().stats().bandwidth > 1_000_000, "what was learned of the path is kept");
        }
        assert!(pair.b.received == pair.a.to_write && pair.a.received == pair.b.to_write);
        let stats = pair.a.conn().stats();
        assert_eq!((stats.packets_retransmitted, stats.rto_count), (0, 0));
    }
}

#[test]
fn a_rested_connection_closes_in_good_order() {
    let mut pair = open(&Config::default());
    rest(&mut pair.a, pair.now);
    rest(&mut pair.b, pair.now);
    (pair.a.finish_when_written, pair.b.finish_when_written) = (true, true);
    pair.run_to_end(ms(10_000));
    pair.assert_exact();
}

#[test]
fn who_has_anything_to_do_or_to_wait_for_does_not_rest() {
    let mut pair = open(&Config::default());
    let now = pair.now;
    pair.b.reads = false;
    pair.a.conn().write(now, b"hello").unwrap();
    assert!(!pair.a.conn().is_at_rest(now), "bytes to send");
    pair.run_for(ms(30));
    assert!(!pair.a.conn().is_at_rest(pair.now), "bytes in flight");
    pair.run_for(ms(60_000));
    assert!(pair.a.conn().is_at_rest(pair.now));
    assert!(!pair.b.conn().is_at_rest(pair.now), "bytes to read");
    pair.b.reads = true;
    pair.run_for(ms(1000));
    let now = pair.now;
    let received = pair.b.conn().read(now, &mut [0; 10]).unwrap_or(5);
    assert_eq!(received, 5);
    assert!(!pair.b.conn().is_at_rest(pair.now), "it was busy just now");
    pair.a.conn().finish(now);
    pair.run_for(ms(60_000));
    assert_eq!((pair.a.conn().state(), pair.b.conn().state()), (State::FinWait2, State::CloseWait));
    assert!(!pair.a.conn().is_at_rest(pair.now) && !pair.b.conn().is_at_rest(pair.now), "half closed");
}

#[test]
fn keepalive_and_idle_limits_go_on_counting() {
    let config = Config { keepalive: Some(ms(30_000)), idle_timeout: Some(ms(70_000)), ..Config::default() };
    let mut pair = open(&config);
    let before = pair.a.conn().poll_timeout();
    assert!(before.is_some());
    rest(&mut pair.a, pair.now);
    assert_eq!(pair.a.conn().poll_timeout(), before);
    let sent = pair.a.conn().stats().packets_sent;
    pair.run_for(ms(31_000));
    assert!(pair.a.conn().stats().packets_sent > sent, "a probe");
    assert_eq!(pair.a.conn().end(), None);
}
