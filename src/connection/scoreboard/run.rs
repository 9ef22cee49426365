//! Segments that leave, or are acknowledged, many at once and without a history: most of a bulk transfer's.

use super::{Delivery, Fate, Scoreboard, Sent, Transmission};
use crate::time::Time;

impl Scoreboard {
    /// `count` segments of new data, each of `len` bytes, left at the same moment, the first of them from `start`
    /// on. Something is in flight, or there is only one.
    pub(in crate::connection) fn on_run_sent(&mut self, start: u64, len: u64, count: u32, now: Time) {
        debug_assert!(len > 0 && self.segments.back().is_none_or(|last| last.end == start));
        let (first, flight, count) = (self.next_transmission, self.in_flight, u64::from(count));
        let model = Sent {
            start,
            end: start + len,
            sent_at: now,
            fate: Fate::Outstanding,
            sacked_to: 0,
            transmissions: 1,
            copies: 0,
            copied_since: now,
            is_app_limited: self.app_limited_until != 0,
            transmission: first,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            tx_in_flight: flight + len,
        };
        self.segments.extend((0..count).map(|nth| Sent {
            start: start + nth * len,
            end: start + (nth + 1) * len,
            transmission: first + nth,
            tx_in_flight: flight + (nth + 1) * len,
            ..model
        }));
        let transmission = |nth| Transmission { start: start + nth * len, id: first + nth, sent_at: now };
        self.by_time.extend((0..count).map(transmission));
        self.next_transmission += count;
        self.in_flight += count * len;
        self.outstanding_segments += count as usize;
    }

    /// Of what everything before `una` covers, the segments at the beginning that were sent once and not reported yet.
    pub(super) fn acknowledge_run(&mut self, una: u64, delivery: &mut Delivery) {
        let (watch, mut watched) = (self.watch, 0);
        let is_plain = |s: &&Sent| s.end <= una && s.fate == Fate::Outstanding && s.transmissions == 1;
        let run = self.segments.iter().take_while(is_plain);
        let run = run.inspect(|s| watched += if watch.covers(s.sent_at) { s.len() } else { 0 });
        let Some((bytes, count)) = delivery.add_run(run) else { return };
        self.segments.drain(..count);
        self.in_flight -= bytes;
        self.outstanding_segments -= count;
        self.delivered += bytes;
        self.watched.acked += watched;
        self.delivered_at = delivery.now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connection::congestion::Watch;
    use crate::emulator::Rng;

    const LEN: u64 = 100;

    /// As [`Scoreboard::on_sent`], by another way: with what a retransmission is stamped with.
    fn note_alone(board: &mut Scoreboard, start: u64, now: Time) {
        const NONSENSE: u64 = u64::MAX / 3;
        let mut sent = Sent {
            start,
            end: start + LEN,
            fate: Fate::Outstanding,
            sacked_to: 0,
            transmissions: 1,
            copies: 0,
            copied_since: now,
            sent_at: Time::from_nanos(NONSENSE),
            is_app_limited: board.app_limited_until == 0,
            transmission: NONSENSE,
            delivered: NONSENSE,
            delivered_at: Time::from_nanos(NONSENSE),
            first_sent_at: Time::from_nanos(NONSENSE),
            tx_in_flight: NONSENSE,
        };
        board.stamp(&mut sent, now);
        board.segments.push_back(sent);
    }

    /// A flight with all kinds of history, `in_runs` or one by one, and where it ends.
    fn lived(seed: u64, in_runs: bool) -> (Scoreboard, Time, u64) {
        let (mut board, mut rng, mut end) = (Scoreboard::default(), Rng::new(seed), 1);
        let mut now = Time::from_nanos(1_000_000_000);
        board.watch(Watch { after: now + ms(3), until: now + ms(9) });
        for _ in 0..20 {
            let count = 1 + rng.below(9) as u32;
            if rng.below(8) == 0 {
                board.set_app_limited();
            }
            if in_runs {
                board.on_sent(end, end + LEN, now);
                board.on_run_sent(end + LEN, LEN, count, now);
            } else {
                let starts = (0..=u64::from(count)).map(|nth| end + nth * LEN);
                starts.for_each(|start| note_alone(&mut board, start, now));
            }
            end += LEN * u64::from(count + 1);
            now += ms(rng.below(3));
            let at = 1 + LEN * rng.below(end / LEN);
            match rng.below(5) {
                0 => drop(board.on_retransmitted(at, now)),
                1 => board.mark_outstanding_lost(at),
                2 => board.sack(at, at + 2 * LEN, &mut board.delivery(now, ms(1), None)),
                3 => board.unmark_lost(),
                _ => drop(board.next_lost(LEN / 3, None)),
            }
        }
        (board, now + ms(1), end)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_run_leaves_the_records_that_its_segments_would() {
        for seed in 0..200 {
            assert_eq!(format!("{:?}", lived(seed, true)), format!("{:?}", lived(seed, false)), "{seed}");
        }
    }

    #[test]
    fn a_run_is_acknowledged_as_its_segments_would_be() {
        let mut in_runs = 0;
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let (echo, step) = (rng.below(2) == 0, 1 + rng.below(3_000));
            let [by_runs, singly] = [true, false].map(|by_runs| {
                let (mut board, mut now, end) = lived(seed, true);
                let (mut told, mut una, mut runs) = (String::new(), 1, 0);
                while una < end {
                    una = (una + step).min(end);
                    now += ms(1);
                    let mut delivery = board.delivery(now, ms(2), echo.then(|| now.as_millis() - 4));
                    let before = board.records();
                    if by_runs {
                        board.acknowledge_run(una, &mut delivery);
                        runs += before - board.records();
                    }
                    board.acknowledge_each(una, &mut delivery);
                    told += &format!("{delivery:?} {board:?}");
                    board.assert_invariants(una, end);
                }
                in_runs += runs;
                told
            });
            assert!(by_runs == singly, "{seed}");
        }
        assert!(in_runs > 5_000, "{in_runs}");
    }
}
