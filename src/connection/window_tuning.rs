//! How large a window is worth offering: dynamic right-sizing (Fisk and Feng), as kernels do it.
//!
//! The window is a multiple of what the application reads in a round trip. So it is never what limits a sender
//! whose rate grows, and what nobody reads makes us hold no more: the peer alone cannot raise it.
//!
//! On a path that loses much the application reads rarely, and much at a time, since holes hold most of what arrives
//! back. There the window is a multiple of what arrives in a round trip beyond what has arrived already; the peer
//! alone can raise it no further than to a multiple of what the application has read.

use std::time::Duration;

use crate::time::Time;

/// A round trip shorter than this is measured by the batch, not by the path.
const ROUND_MIN: Duration = Duration::from_millis(2);
/// Round trips of reading that the window covers. One is in flight; one more lets the rate double.
const STEADY: u64 = 2;
/// While the sender's rate grows: what is read now was sent a round trip ago, and the update takes half a one.
const GROWING: u64 = 4;
/// On a longer path a start-up need not wait a whole round trip to double: twice as much for each of these.
const DOUBLING: Duration = Duration::from_millis(100);
/// But no more than this often.
const DOUBLINGS_MAX: u128 = 4;
/// Behind a hole so many times what the application has ever read may wait, and a first window: at half loss a byte
/// arrives after four round trips in one of 16 cases, and the window of each of them must fit.
const HELD_PER_READ: u64 = 8;
/// Holes hold the bytes back, not the application, while it could read less than this part of what is here.
const READABLE_PART: u64 = 4;

/// What the buffer holds when bytes arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Bytes the application could read.
    pub(super) readable: u64,
    /// From the next byte that it reads to the last one that is here.
    pub(super) span: u64,
    /// All that it has ever read.
    pub(super) read: u64,
}

/// What the application reads, and what arrives, in a round trip.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WindowTuning {
    round_began: Time,
    read_in_round: f64,
    arrivals_began: Time,
    arrived_in_round: u64,
    /// In the round before, had it been as long as a round trip.
    arrived_before: u64,
    /// A byte of the stream and when it arrived, until it is read.
    mark: Option<(u64, Time)>,
    /// How long the last such byte lay there.
    waited: Duration,
}

impl WindowTuning {
    /// Bytes up to `nxt` can be read.
    pub(super) fn on_arrival(&mut self, now: Time, nxt: u64) {
        self.mark.get_or_insert((nxt, now));
    }

    /// `bytes` that were missing came, in order or not. Returns the window that holes call for, if any, given that
    /// without them it would be `first`.
    pub(super) fn on_bytes(
        &mut self,
        now: Time,
        bytes: usize,
        held: &Held,
        rtt: Duration,
        growing: bool,
        first: u64,
    ) -> Option<u64> {
        let (round, elapsed) = (rtt.max(ROUND_MIN), now - self.arrivals_began);
        if elapsed >= round {
            let share = round.as_secs_f64() / elapsed.as_secs_f64();
            self.arrived_before = (self.arrived_in_round as f64 * share) as u64;
            (self.arrived_in_round, self.arrivals_began) = (0, now);
        }
        self.arrived_in_round += bytes as u64;
        if held.readable * READABLE_PART > held.span {
            return None;
        }
        let arriving = self.arrived_in_round.max(self.arrived_before);
        let wanted = held.span + arriving * factor(rtt, growing);
        Some(wanted.min(HELD_PER_READ * held.read + first))
    }

    /// The application read `bytes`, up to `read`. Returns the window that this calls for.
    pub(super) fn on_read(
        &mut self,
        now: Time,
        read: u64,
        bytes: usize,
        rtt: Duration,
        growing: bool,
    ) -> u64 {
        let round = rtt.max(ROUND_MIN);
        if let Some((_, arrived)) = self.mark.filter(|(byte, _)| *byte <= read) {
            self.waited = now - arrived;
            self.mark = None;
        }
        if now - self.round_began >= round {
            self.round_began = now;
            self.read_in_round = 0.0;
        }
        // Read in one go what came in many round trips is no rate.
        let promptness = round.as_secs_f64() / self.waited.max(round).as_secs_f64();
        self.read_in_round += bytes as f64 * promptness;
        self.read_in_round as u64 * factor(rtt, growing)
    }
}

/// Round trips of bytes that the window is to cover.
fn factor(rtt: Duration, growing: bool) -> u64 {
    let doublings = (rtt.as_nanos() / DOUBLING.as_nanos()).min(DOUBLINGS_MAX);
    if growing { GROWING << doublings } else { STEADY }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_prompt_reader_earns_a_multiple_of_its_reading_at_once() {
        let mut tuning = WindowTuning::default();
        let now = Time::from_nanos(1_000_000_000);
        tuning.on_arrival(now, 50_001);
        assert_eq!(tuning.on_read(now, 50_001, 50_000, 20 * MS, false), 100_000);
        assert_eq!(tuning.on_read(now + MS, 60_001, 10_000, 20 * MS, false), 120_000, "the same round");
        assert_eq!(tuning.on_read(now + 30 * MS, 70_001, 10_000, 20 * MS, true), 40_000, "the next one");
        assert_eq!(tuning.on_read(now + 999 * MS, 80_001, 10_000, 600 * MS, true), 640_000, "a long path");
    }

    #[test]
    fn a_reader_that_comes_once_a_second_does_not_earn_the_whole_heap() {
        let mut tuning = WindowTuning::default();
        let (mut now, mut read) = (Time::from_nanos(1_000_000_000), 1);
        for _ in 0..20 {
            tuning.on_arrival(now, read + 1000);
            tuning.on_arrival(now + MS, read + 100_000);
            now += 1000 * MS;
            for _ in 0..2 {
                read += 50_000;
                let wanted = tuning.on_read(now, read, 50_000, 20 * MS, true);
                assert!(wanted <= 8_000, "100,000 bytes per second are 2,000 in 20 ms: {wanted}");
            }
        }
    }

    #[test]
    fn behind_a_hole_the_window_follows_what_arrives_but_never_beyond_a_multiple_of_what_was_read() {
        let (mut tuning, now) = (WindowTuning::default(), Time::from_nanos(1_000_000_000));
        let held = Held { readable: 0, span: 100_000, read: 1_000_000 };
        let wanted = |tuning: &mut WindowTuning, at, held: &Held, growing| {
            tuning.on_bytes(at, 10_000, held, 40 * MS, growing, 1000)
        };
        assert_eq!(wanted(&mut tuning, now, &held, false), Some(120_000));
        assert_eq!(wanted(&mut tuning, now + MS, &held, true), Some(180_000));
        assert_eq!(wanted(&mut tuning, now + 80 * MS, &held, false), Some(120_000), "10,000 in each 40 ms");
        let unread = Held { readable: 26_000, ..held };
        assert_eq!(
            wanted(&mut tuning, now + 80 * MS, &unread, false),
            None,
            "the application takes its time"
        );
        let stranger = Held { read: 2000, ..held };
        assert_eq!(wanted(&mut tuning, now + 81 * MS, &stranger, true), Some(17_000));
    }
}
