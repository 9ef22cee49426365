//! Loss, reordering and delay: RACK-TLP (RFC 8985), RTO (RFC 6298), undo (RFC 4015, RFC 5682, RFC 2883).

use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Sent, Solo};
use crate::connection::sender::Cause;
use crate::connection::{Algorithm, Config, IntegrityMode};
use crate::wire::{Flags, Options, SackBuffer, Segment};

const MSS: usize = 1160;

/// A controller that is a window, and answers to every episode.
fn windowed() -> Config {
    Config { algorithm: Algorithm::Cubic, ..Config::default() }
}

fn established() -> Pair {
    let mut pair = Pair::connected(&windowed());
    pair.a.to_write = pattern(200_000, 9); // a warm path: RTT known, window open
    pair.run_for(ms(2000));
    assert_eq!(pair.a.conn().stats().packets_retransmitted, 0);
    pair
}

/// Writes `n` more segments and runs until they have arrived; how long that took.
fn cross(pair: &mut Pair, n: usize) -> Duration {
    let start = pair.now;
    pair.a.to_write.extend(pattern(n * MSS, 4));
    let want = pair.a.to_write.len();
    while pair.b.received.len() < want && pair.now - start < ms(20_000) {
        let end = pair.now + ms(1);
        while pair.step(end) {}
    }
    assert!(pair.b.received == pair.a.to_write);
    pair.now - start
}

fn drop_nth_data(pair: &mut Pair, wanted: Vec<u64>) {
    let mut count = 0;
    pair.filter = Box::new(move |from_a, _, bytes| {
        let is_data = from_a && bytes.len() > 200;
        count += u64::from(is_data);
        !(is_data && wanted.contains(&count))
    });
}

#[test]
fn a_lost_tail_costs_a_probe_timeout_and_no_rto() {
    for n in [1, 2, 5] {
        let mut pair = established();
        drop_nth_data(&mut pair, vec![n]);
        let took = cross(&mut pair, n as usize);
        let stats = pair.a.conn().stats();
        assert_eq!(stats.rto_count, 0, "{n} segments");
        assert!(took < ms(100), "{n} segments: {took:?}");
    }
}

#[test]
fn a_loss_in_mid_flight_costs_one_round_trip_and_one_retransmission() {
    for lost in 1..=7 {
        let mut pair = established();
        drop_nth_data(&mut pair, vec![lost]);
        let took = cross(&mut pair, 10);
        let stats = pair.a.conn().stats();
        assert_eq!((stats.rto_count, stats.packets_retransmitted), (0, 1), "segment {lost}");
        assert!(took < ms(60), "segment {lost}: {took:?}");
    }
}

#[test]
fn a_lost_retransmission_is_found_without_an_rto() {
    let mut pair = established();
    let mut seen = None;
    let mut is_second = false;
    let mut count = 0;
    pair.filter = Box::new(move |from_a, _, bytes| {
        if !from_a || bytes.len() < 200 {
            return true;
        }
        count += 1;
        let seq = Segment::parse(bytes).unwrap().seq;
        if count == 2 {
            seen = Some(seq);
            return false;
        }
        let again = seen == Some(seq) && !is_second;
        is_second |= again;
        !again
    });
    let took = cross(&mut pair, 100);
    let stats = pair.a.conn().stats();
    assert_eq!(stats.rto_count, 0);
    assert_eq!(
        (stats.packets_retransmitted, stats.bytes_retransmitted),
        (2, 2864),
        "once each, whole segments"
    );
    assert!(took < ms(300), "{took:?}");
}

#[test]
fn after_reordering_was_learnt_nothing_is_sent_again_for_it() {
    let mut pair = established();
    let mut link = pair.ab.impairments().clone();
    (link.late, link.late_by) = (0.1, ms(3));
    pair.ab.set_impairments(link);
    cross(&mut pair, 200);
    let learnt = pair.a.conn().stats();
    cross(&mut pair, 1000);
    let after = pair.a.conn().stats();
    let spurious = after.packets_retransmitted - learnt.packets_retransmitted;
    assert!(spurious <= 3, "{spurious} of 1000 while a tenth comes 3 ms late");
    assert_eq!(after.rto_count, 0);
}

/// The segment that a recovery waits for may have been sent again in the recovery before: an answer that is older than
/// what this one sent is its answer then, not that of a late original.
#[test]
fn where_nothing_is_late_no_recovery_is_taken_for_a_mistake() {
    for loss in [0.02, 0.1, 0.3] {
        let mut pair = established();
        let mut link = pair.ab.impairments().clone();
        link.loss = loss;
        pair.ab.set_impairments(link);
        cross(&mut pair, 3000);
        let stats = pair.a.conn().stats();
        assert!(stats.packets_retransmitted > 20, "{stats:?}");
        assert_eq!(stats.undo_count, 0, "at a loss of {loss}");
    }
}

#[test]
fn the_timeout_doubles_into_silence_and_is_restored_by_an_answer() {
    for integrity in [IntegrityMode::Off, IntegrityMode::Offer] {
        let config = Config { integrity, user_timeout: ms(1_000_000), ..Config::default() };
        let peer = if integrity == IntegrityMode::Off { Peer::Plain } else { Peer::Extension };
        let mut solo = Solo::client(&config, peer);
        let rto = solo.conn.snd.rto();
        for _ in 0..64 {
            solo.conn.write(solo.now, b"a path without loss").unwrap();
            solo.output();
            solo.now += ms(20);
            solo.gets_ack();
        }
        solo.now += ms(60_000); // long silence: the limited back-off of a lively peer is over
        solo.conn.write(solo.now, b"x").unwrap();
        let sent = solo.run(ms(300_000));
        let gaps: Vec<u64> = sent.windows(2).map(|w| (w[1].0 - w[0].0).as_millis() as u64).collect();
        // With the extension PROBEs take over after two (see `blackout.rs`).
        let doublings = if peer == Peer::Plain { 2..8 } else { 2..4 };
        assert!(doublings.into_iter().all(|i| gaps[i] > gaps[i - 1] * 19 / 10), "{gaps:?}");
        if peer == Peer::Extension {
            continue;
        }
        while solo.run(ms(1)).is_empty() {}
        solo.now += ms(19);
        solo.gets_ack();
        let (backoff, after) = (solo.conn.snd.backoff, solo.conn.snd.rto());
        assert!(backoff == 0 && after <= 2 * rto, "{backoff} {after:?} {rto:?}");
    }
}

/// A flight is delayed, not lost: everything sent again was for nothing, and it is noticed.
fn delay_spike(config: &Config) {
    let mut pair = Pair::connected(config);
    pair.a.to_write = pattern(20_000_000, 9);
    pair.run_for(ms(150));
    let before = pair.a.conn().stats();
    assert!(before.cwnd > 50_000 && before.packets_retransmitted == 0);
    let mut link = pair.ab.impairments().clone();
    link.delay = ms(600);
    pair.ab.set_impairments(link.clone());
    pair.run_for(ms(60));
    link.delay = ms(601);
    pair.ab.set_impairments(link);
    pair.run_for(ms(800));
    let spike = pair.a.conn().stats();
    assert!(spike.rto_count > 0, "the timer fired");
    assert!(spike.rto_spurious > 0, "and is known to have fired for nothing");
    assert!(spike.cwnd >= before.cwnd, "cwnd is restored: {} of {}", spike.cwnd, before.cwnd);
    let flight = before.cwnd / MSS as u64;
    assert!(
        spike.packets_retransmitted * 2 < flight,
        "no going back to the beginning: {} of {flight}",
        spike.packets_retransmitted
    );
}

#[test]
fn a_delay_spike_is_undone_by_timestamps_with_the_extension() {
    delay_spike(&Config::default());
}

#[test]
fn a_delay_spike_is_undone_by_timestamps_with_a_plain_peer() {
    delay_spike(&Config { integrity: IntegrityMode::Off, ..Config::default() });
}

fn with_sack<'a>(solo: &Solo, ack: i64, blocks: &'a mut SackBuffer, ranges: &[(i64, i64)]) -> Segment<'a> {
    blocks.clear();
    for (left, right) in ranges {
        blocks.push(solo.una(*left), solo.una(*right));
    }
    let honest = solo.segment();
    let options: Options<'a> = Options { sack: blocks.as_blocks(), ..honest.options };
    Segment { ack: solo.una(ack), options, ..honest }
}

/// Without SACK a cumulative ACK that jumps over what arrived beyond the hole looks like late originals.
#[test]
fn a_filled_hole_is_not_mistaken_for_a_spurious_timeout_without_sack_and_timestamps() {
    let mut solo = Solo::client(&windowed(), Peer::Bare);
    let mss = solo.conn.snd.mss;
    for _ in 0..3 {
        solo.conn.write(solo.now, &vec![1; 40 * mss]).unwrap();
        solo.output();
        solo.now += ms(20);
        solo.gets_ack();
    }
    let before = solo.conn.stats().cwnd;
    while solo.conn.snd.rto_count == 0 {
        solo.run(ms(10));
    }
    solo.now += ms(20);
    let jump = Segment { ack: solo.una(15 * mss as i64), ..solo.segment() };
    solo.gets(&jump);
    assert_eq!(solo.conn.snd.episode.map(|e| e.cause), Some(Cause::Timeout), "the loss was real");
    assert!(solo.conn.stats().cwnd <= before / 2);
}

#[test]
fn a_duplicate_is_reported_to_its_sender_and_undoes_what_it_cost() {
    let mut solo = Solo::client(&windowed(), Peer::Extension);
    solo.conn.write(solo.now, &vec![1; 10 * MSS]).unwrap();
    solo.output();
    let cwnd = solo.conn.stats().cwnd;
    let mut blocks = SackBuffer::default();
    let m = MSS as i64;
    solo.now += ms(20);
    let ack = with_sack(&solo, 0, &mut blocks, &[(m, 5 * m)]);
    let again: Vec<Sent> = solo.gets(&ack);
    assert!(again.iter().any(|s| s.segment().seq == solo.una(0)), "taken for lost");
    assert!(solo.conn.stats().cwnd < cwnd);
    solo.now += ms(20);
    let all = Segment { ..solo.segment() };
    solo.gets(&all);
    let ack = with_sack(&solo, 0, &mut blocks, &[(-10 * m, -9 * m)]);
    solo.gets(&ack);
    assert!(solo.conn.stats().cwnd >= cwnd, "{} of {cwnd}", solo.conn.stats().cwnd);
}

/// Ten segments are in flight, the second to fifth are SACKed, the first was sent again for that.
fn overtaken(solo: &mut Solo) -> u64 {
    solo.conn.write(solo.now, &vec![1; 10 * MSS]).unwrap();
    solo.output();
    let cwnd = solo.conn.stats().cwnd;
    solo.now += ms(20);
    let mut blocks = SackBuffer::default();
    let ack = with_sack(solo, 0, &mut blocks, &[(MSS as i64, 5 * MSS as i64)]);
    let again: Vec<Sent> = solo.gets(&ack);
    assert!(again.iter().any(|s| s.segment().seq == solo.una(0)), "taken for lost");
    assert!(solo.conn.stats().cwnd < cwnd);
    solo.now += ms(20);
    solo.gets_ack();
    cwnd
}

#[test]
fn what_the_network_doubled_undoes_nothing_and_shows_no_reordering() {
    for doubled in 1..10 {
        let mut solo = Solo::client(&windowed(), Peer::Extension);
        let cwnd = overtaken(&mut solo);
        let mut blocks = SackBuffer::default();
        let at = (doubled - 10) * MSS as i64;
        let ack = with_sack(&solo, 0, &mut blocks, &[(at, at + MSS as i64)]);
        solo.gets(&ack);
        assert!(solo.conn.stats().cwnd < cwnd, "the loss was real");
        assert_eq!(solo.conn.snd.undo_count, 0);
        assert!(!solo.conn.snd.rack.reordering_seen);
        assert_eq!(solo.conn.snd.rack.reo_wnd_state().0, 0);
    }
}

#[test]
fn copies_and_tail_probes_that_come_back_as_duplicates_show_no_reordering() {
    for loss in [0, 40] {
        let mut solo = Solo::client(&windowed(), Peer::Extension);
        solo.conn.snd.loss_rate.on_delivered(60 - loss);
        solo.conn.snd.loss_rate.on_lost(loss);
        solo.conn.write(solo.now, &[1; MSS]).unwrap();
        assert_eq!(solo.output().len(), 1);
        let again = solo.run(ms(100)).len();
        assert!(again >= if loss > 0 { 3 } else { 1 }, "{again} times again");
        solo.now += ms(1);
        solo.gets_ack();
        solo.conn.snd.loss_rate.on_delivered(1000); // the loss is over: no more copies
        for _ in 0..again {
            let mut blocks = SackBuffer::default();
            let ack = with_sack(&solo, 0, &mut blocks, &[(-(MSS as i64), 0)]);
            solo.gets(&ack);
        }
        assert!(!solo.conn.snd.rack.reordering_seen, "after a loss of {loss}");
        assert_eq!(solo.conn.snd.rack.reo_wnd_state().0, 0, "after a loss of {loss}");
    }
}

#[test]
fn the_receiver_reports_duplicates_first_and_holes_newest_first() {
    let mut solo = Solo::client(&windowed(), Peer::Extension);
    solo.gets_data(b"0123456789");
    let at =
        |solo: &Solo, offset: i64| Segment { seq: solo.seq(offset), payload: b"abcde", ..solo.segment() };
    let (one, two, old) = (at(&solo, 10), at(&solo, 30), at(&solo, -10));
    solo.gets(&one);
    solo.gets(&two);
    let answer = solo.gets(&old);
    let base = solo.seq(0);
    let blocks: Vec<(i32, i32)> =
        answer[0].segment().options.sack.iter().map(|(l, r)| (l.delta(base), r.delta(base))).collect();
    assert_eq!(blocks, [(-10, -5), (30, 35), (10, 15)]);
    assert_eq!(answer[0].segment().flags, Flags::ACK);
}

/// A handshake of small packets tells nothing of how long full segments take on a thin link: timers run out, and the
/// answers are late, not lost. Copies for the sake of a loss that never was would fill the link.
#[test]
fn what_timers_took_for_lost_is_taken_back_when_the_answer_was_only_late() {
    let mut solo = Solo::client(&windowed(), Peer::Extension);
    solo.conn.write(solo.now, &pattern(3 * MSS, 1)).unwrap();
    let (before, left) = (solo.conn.snd.loss_rate, solo.segment());
    assert_eq!(solo.output().len(), 3);
    solo.run(ms(300));
    assert!(solo.conn.snd.rto_count > 0 && solo.conn.snd.loss_rate.is_heavy());
    solo.gets(&Segment { ack: solo.una(MSS as i64), ..left });
    assert!(!solo.conn.snd.loss_rate.is_heavy(), "{before:?} -> {:?}", solo.conn.snd.loss_rate);
}

/// The same of fewer segments, as long as the path is hardly known: each probe of a thin link would bring copies.
#[test]
fn what_a_probe_took_for_lost_of_a_short_opening_is_taken_back_when_the_answer_was_only_late() {
    let mut solo = Solo::client(&windowed(), Peer::Extension);
    solo.conn.write(solo.now, &pattern(3 * MSS, 1)).unwrap();
    let left = solo.segment();
    assert_eq!(solo.output().len(), 3);
    while solo.conn.snd.probe_count == 0 {
        solo.run(ms(1));
    }
    assert!(solo.conn.snd.rto_count == 0 && solo.conn.snd.loss_rate.is_heavy());
    solo.gets(&Segment { ack: solo.una(MSS as i64), ..left });
    assert!(!solo.conn.snd.loss_rate.is_heavy(), "{:?}", solo.conn.snd.loss_rate);
}

/// Behind a hole the peer's window fills. Nothing new may leave, so the path is as idle as at the end of the stream: the
/// hole's retransmission, lost at half loss as often as not, is not worth waiting a timeout for each time.
#[test]
fn a_hole_behind_which_the_window_is_full_is_sent_redundantly_on_a_lossy_path() {
    let mut solo = Solo::client(&Config::default(), Peer::Extension);
    solo.conn.snd.loss_rate.on_delivered(32);
    solo.conn.snd.loss_rate.on_lost(32);
    solo.conn.write(solo.now, &[7; 100_000]).unwrap();
    let narrow = Segment { window: (5 * 1200) >> 7, ack: solo.una(0), ..solo.segment() };
    let flight = solo.gets(&narrow);
    assert!(solo.conn.snd.is_held_by_window() && !flight.is_empty(), "{}", solo.conn.snd.nxt);
    let sent = solo.run(ms(100)).len();
    assert!(sent >= 10, "{sent} in five round trips, where a timer alone sends 2");
    // With room for more, what is new comes first.
    let wide = Segment { ack: solo.una(0), ..solo.segment() };
    solo.gets(&wide);
    assert!(!solo.conn.snd.is_held_by_window() && solo.conn.snd.copy_due().is_none());
}
