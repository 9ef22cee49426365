//! The scoreboard against a model that keeps one fate per byte.

use std::time::Duration;

use super::pair::ms;
use crate::connection::congestion::{Fates, Watch};
use crate::connection::scoreboard::Scoreboard;
use crate::emulator::Rng;
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Byte {
    Flying(Time),
    Lost,
    Held,
}

/// One entry per byte from SND.UNA on, and where segments begin.
struct Model {
    una: u64,
    bytes: Vec<Byte>,
    cuts: Vec<u64>,
    delivered: u64,
}

impl Model {
    fn at(&mut self, seq: u64) -> &mut Byte {
        &mut self.bytes[(seq - self.una) as usize]
    }

    fn nxt(&self) -> u64 {
        self.una + self.bytes.len() as u64
    }

    fn count(&self, wanted: fn(&Byte) -> bool) -> u64 {
        self.bytes.iter().filter(|b| wanted(b)).count() as u64
    }

    fn acknowledge(&mut self, una: u64) {
        let n = (una - self.una) as usize;
        self.delivered += self.bytes.drain(..n).filter(|b| *b != Byte::Held).count() as u64;
        self.una = una;
        self.cuts.retain(|c| *c > una);
        self.cuts.insert(0, una);
    }

    fn segments(&self) -> Vec<(u64, u64)> {
        let ends = self.cuts.iter().skip(1).copied().chain([self.nxt()]);
        self.cuts.iter().copied().zip(ends).filter(|(s, e)| s < e).collect()
    }

    /// Whole segments only, as RFC 6675 has it.
    fn sack(&mut self, start: u64, end: u64) {
        for (s, e) in self.segments() {
            if s >= start && e <= end {
                for seq in s..e {
                    let byte = self.at(seq);
                    if *byte != Byte::Held {
                        *byte = Byte::Held;
                        self.delivered += 1;
                    }
                }
            }
        }
    }
}

fn step(rng: &mut Rng, now: Time, board: &mut Scoreboard, model: &mut Model) {
    let mut delivery = board.delivery(now, ms(1), None);
    let flight = model.bytes.len() as u64;
    match rng.below(10) {
        0..=2 => {
            let (start, len) = (model.nxt(), 1 + rng.below(30));
            board.on_sent(start, start + len, now);
            model.cuts.push(start);
            model.cuts.dedup();
            model.bytes.extend((0..len).map(|_| Byte::Flying(now)));
        }
        3 | 4 if flight > 0 => {
            let una = model.una + rng.below(flight.min(40) + 1);
            board.acknowledge(una, &mut delivery);
            model.acknowledge(una);
        }
        5 | 6 if flight > 1 => {
            let start = model.una + 1 + rng.below(flight - 1);
            let end = start + 1 + rng.below(model.nxt() - start);
            board.sack(start, end, &mut delivery);
            model.sack(start, end);
        }
        7 => {
            // Everything sent more than 20 ms ago, as if a later one had been delivered.
            let limit = ms(20);
            let newest = (now, u64::MAX);
            let (bytes, _) = board.mark_lost(now, newest, limit);
            let mut marked = 0;
            for byte in &mut model.bytes {
                if matches!(byte, Byte::Flying(sent) if *sent + limit <= now) {
                    *byte = Byte::Lost;
                    marked += 1;
                }
            }
            assert_eq!(bytes, marked);
        }
        8 => {
            let max = 1 + rng.below(40);
            let lost = board.next_lost(max, None);
            assert_eq!(lost.is_some(), model.bytes.contains(&Byte::Lost));
            if let Some((start, end)) = lost {
                assert!(end - start <= max && (start..end).all(|s| *model.at(s) == Byte::Lost));
                if !model.cuts.contains(&end) && end < model.nxt() {
                    model.cuts.push(end);
                    model.cuts.sort_unstable();
                }
                board.on_retransmitted(start, now);
                (start..end).for_each(|s| *model.at(s) = Byte::Flying(now));
            }
        }
        _ if rng.below(10) == 0 => {
            board.unmark_lost();
            let stale = Time::ZERO; // sent long ago, whenever that was
            model.bytes.iter_mut().filter(|b| **b == Byte::Lost).for_each(|b| *b = Byte::Flying(stale));
        }
        _ => {
            let oldest =
                model.bytes.iter().filter_map(|b| if let Byte::Flying(t) = b { Some(*t) } else { None });
            let (oldest, got) = (oldest.min(), board.oldest_outstanding().map(|s| s.sent_at));
            assert_eq!(oldest.is_some(), got.is_some());
            assert!(oldest.is_none_or(|t| t == Time::ZERO || Some(t) == got), "{oldest:?} {got:?}");
        }
    }
}

#[test]
fn random_sends_acks_sacks_losses_and_retransmissions_agree_with_a_model() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut board = Scoreboard::default();
        let mut model = Model { una: 1, bytes: vec![], cuts: vec![], delivered: 0 };
        let mut now = Time::from_nanos(1_000_000_000);
        for _ in 0..400 {
            now += Duration::from_micros(rng.below(8000));
            step(&mut rng, now, &mut board, &mut model);
            board.assert_invariants(model.una, model.nxt());
            assert_eq!(board.in_flight(), model.count(|b| matches!(b, Byte::Flying(_))), "seed {seed}");
            assert_eq!(board.sacked(), model.count(|b| *b == Byte::Held), "seed {seed}");
            assert_eq!(board.undelivered(), model.count(|b| *b != Byte::Held), "seed {seed}");
            assert_eq!(board.delivered(), model.delivered, "seed {seed}");
        }
    }
}

fn board_of(segments: u64) -> (Scoreboard, Time) {
    let mut board = Scoreboard::default();
    let now = Time::from_nanos(1_000_000_000);
    for i in 0..segments {
        board.on_sent(1 + 10 * i, 11 + 10 * i, now + ms(1) * i as u32);
    }
    (board, now)
}

#[test]
fn a_partly_acknowledged_retransmission_does_not_hide_older_segments_from_loss_detection() {
    let (mut board, start) = board_of(3);
    let now = start + ms(50);
    board.on_retransmitted(1, now);
    let mut delivery = board.delivery(now, ms(1), None);
    board.acknowledge(5, &mut delivery);
    assert_eq!(board.mark_lost(now, (now, 100), ms(20)), (20, 2), "the two sent long ago");
    assert_eq!(board.oldest_outstanding().map(|s| s.start), Some(5));
}

#[test]
fn only_segments_sent_before_the_newest_delivered_one_can_be_lost() {
    let (mut board, start) = board_of(5);
    let now = start + ms(100);
    let mut delivery = board.delivery(now, ms(1), None);
    board.sack(31, 41, &mut delivery);
    let newest = delivery.newest.unwrap();
    assert_eq!(board.mark_lost(now, (newest.sent_at, newest.end), ms(5)), (30, 3));
    assert_eq!((board.next_lost(100, None), board.in_flight()), (Some((1, 11)), 10));
}

#[test]
fn a_timeout_after_reneging_marks_sacked_segments_lost_too() {
    let (mut board, start) = board_of(3);
    let mut delivery = board.delivery(start, ms(1), None);
    board.sack(11, 31, &mut delivery);
    let mut later = board.delivery(start, ms(1), None);
    board.acknowledge(11, &mut later);
    assert_eq!((board.sacked(), board.undelivered()), (20, 0));
    board.mark_lost_on_timeout(start + ms(1000), ms(10));
    assert_eq!((board.sacked(), board.undelivered()), (0, 20));
    board.assert_invariants(11, 31);
}

#[test]
fn the_fin_does_not_count_when_a_segment_is_cut() {
    let (mut board, start) = board_of(1);
    board.mark_lost_on_timeout(start + ms(1000), ms(10));
    assert_eq!(board.next_lost(9, Some(11)), Some((1, 11)));
    assert_eq!(board.next_lost(9, None), Some((1, 6)), "equal pieces");
}

/// More than a hostile peer can afford to be answered with: each block of each ACK must not cost the window.
const MANY: u64 = 100_000;
/// A walk of all records per block or segment takes minutes.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn blocks_that_begin_and_end_anywhere_in_what_is_known_cost_no_walk() {
    let (mut board, now) = board_of(MANY);
    let mut delivery = board.delivery(now, ms(1), None);
    board.sack(11, 1 + 10 * MANY, &mut delivery);
    let begin = std::time::Instant::now();
    for i in 1..MANY {
        board.sack(1 + 10 * i, 1 + 10 * MANY, &mut delivery);
        board.sack(11, 1 + 10 * (MANY - i), &mut delivery);
        board.sack(11 + 10 * (i / 2), 1 + 10 * (MANY - i / 2), &mut delivery);
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(board.sacked(), 10 * (MANY - 1));
}

#[test]
fn a_flight_that_is_too_long_for_the_path_is_cut_in_one_pass() {
    let (mut board, _) = board_of(MANY);
    let later = Time::from_nanos(1_000_000_000_000);
    assert_eq!(board.mark_longer_lost(4, None), MANY);
    let begin = std::time::Instant::now();
    let mut at = 1;
    while let Some((start, end)) = board.next_lost(4, None) {
        assert!(start == at && end - start <= 4);
        board.on_retransmitted(start, later);
        at = end;
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!((at, board.records() as u64), (1 + 10 * MANY, 3 * MANY));
    board.assert_invariants(1, at);
}

#[test]
fn a_lost_segment_that_is_acknowledged_byte_by_byte_is_listed_once() {
    let (mut board, now) = board_of(3);
    assert_eq!(board.mark_longer_lost(4, None), 3);
    for una in 2..=25 {
        board.acknowledge(una, &mut board.delivery(now, ms(1), None));
        assert!(board.lost_entries() <= 3, "{} entries at {una}", board.lost_entries());
        assert_eq!(board.next_lost(10, None), Some((una, (una - 1) / 10 * 10 + 11)));
    }
}

#[test]
fn what_was_thought_lost_takes_its_place_among_what_is_in_flight_by_time() {
    let (mut board, start) = board_of(6);
    let now = start + ms(100);
    board.on_retransmitted(11, now); // a copy: the second segment is now the youngest
    assert_eq!(board.mark_lost(now, (now, 1), ms(97)), (30, 3), "the first, the third and the fourth");
    board.on_retransmitted(21, now);
    board.unmark_lost();
    assert_eq!(board.oldest_outstanding().map(|s| s.start), Some(1));
    assert_eq!(board.mark_lost(now + ms(1), (now, 1), ms(97)), (30, 3), "the first, the fourth, the fifth");
    assert_eq!(board.oldest_outstanding().map(|s| s.start), Some(51));
}

/// With a hole at SND.UNA each ACK echoes the timestamp of what came before the hole (RFC 7323 4.3): that must not
/// keep a retransmission that arrives beyond it from showing that what was sent before it is lost.
#[test]
fn a_retransmission_beyond_a_hole_is_known_by_the_time_it_took() {
    for (answered_after, is_known) in [(15, false), (25, true)] {
        let sent_at = Time::from_nanos(1_000_000_000);
        let mut board = Scoreboard::default();
        (0..3).for_each(|i| board.on_sent(1 + i * 100, 101 + i * 100, sent_at));
        board.mark_outstanding_lost(201);
        let again = sent_at + ms(30);
        board.on_retransmitted(201, again);
        let mut delivery = board.delivery(again + ms(answered_after), ms(20), Some(sent_at.as_millis()));
        delivery.beyond_hole();
        board.sack(201, 301, &mut delivery);
        assert_eq!(delivery.newest.map(|newest| newest.sent_at), is_known.then_some(again));
        assert_eq!(delivery.rtt, None, "Karn: perhaps it was the first one that took longer");
    }
}

/// It passed for the retransmission that had just left: round trips of 2 ms, and a bandwidth three times that of a
/// link that loses half.
#[test]
fn a_late_original_is_no_sample_of_the_delivery_rate() {
    for (answered_after, is_rated) in [(2, false), (25, true)] {
        let sent_at = Time::from_nanos(1_000_000_000);
        let mut board = Scoreboard::default();
        (0..3).for_each(|i| board.on_sent(1 + i * 100, 101 + i * 100, sent_at));
        board.mark_outstanding_lost(201);
        let again = sent_at + ms(30);
        board.on_retransmitted(201, again);
        let mut delivery = board.delivery(again + ms(answered_after), ms(20), None);
        board.sack(201, 301, &mut delivery);
        assert_eq!(delivery.bytes, 100);
        assert_eq!(!board.rate_sample(&delivery).interval.is_zero(), is_rated, "{answered_after} ms");
        assert_eq!(
            delivery.latest.map(|(_, at)| at),
            Some(again),
            "what was sent before is settled all the same"
        );
    }
}

/// `count` segments of 100 bytes from `start` on, one each millisecond from `at` on.
fn send(board: &mut Scoreboard, at: Time, start: u64, count: u64) {
    (0..count).for_each(|n| board.on_sent(start + 100 * n, start + 100 * (n + 1), at + ms(n)));
}

/// They told a fresh window of the loss floor of 200 lost segments, of which none was lost.
#[test]
fn what_is_lost_under_one_watch_is_not_told_under_the_next() {
    let start = Time::from_nanos(1_000_000_000);
    let mut board = Scoreboard::default();
    let watch = |after| Watch { after, until: Time::MAX };
    board.watch(watch(Time::ZERO));
    send(&mut board, start, 1, 10);
    board.mark_lost_on_timeout(start + ms(1000), ms(10));
    board.watch(watch(start + ms(1000)));
    assert_eq!(board.take_watched(), Fates::default());
    send(&mut board, start + ms(1001), 1001, 10);
    board.mark_lost_on_timeout(start + ms(2000), ms(10));
    board.watch(watch(start + ms(1000)));
    assert_eq!(board.take_watched(), Fates { acked: 0, lost: 1000 }, "the same one goes on");
}

/// Draft 4.1.2.4: until more is delivered than there was when the application fell silent.
#[test]
fn the_first_flight_after_a_silence_is_limited_by_the_application() {
    let start = Time::from_nanos(1_000_000_000);
    let mut board = Scoreboard::default();
    let round = |board: &mut Scoreboard, at: Time, seq: u64, falls_silent: bool| {
        send(board, at, seq, 2);
        if falls_silent {
            board.set_app_limited();
        }
        let mut delivery = board.delivery(at + ms(40), ms(40), None);
        board.acknowledge(seq + 200, &mut delivery);
        board.rate_sample(&delivery).is_app_limited
    };
    assert!(!round(&mut board, start, 1, true), "it was sent before");
    assert!(round(&mut board, start + ms(50), 201, false), "all that was known of is delivered, and no more");
    assert!(!round(&mut board, start + ms(100), 401, false));
}
