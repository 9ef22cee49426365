//! What the receive half knows of the path: its round trip, how much arrives in one, whether that still grows.
//!
//! A side that only receives has no round trips of its own but the handshake's, so it takes them from the
//! timestamps that its ACKs carried and data brings back.

use std::time::Duration;

use super::recent_min::RecentMin;
use crate::time::Time;

/// Shorter rounds would measure the batch, not the path.
const ROUND_MIN: Duration = Duration::from_millis(2);
/// Timestamps are whole milliseconds: below this they say little.
const ECHO_RESOLUTION: Duration = Duration::from_millis(4);
/// Rounds without growth after which a sender counts as out of its start-up (BBR's STARTUP waits as long).
const STEADY_AFTER: u8 = 3;
/// After so many round trips of silence the sender starts anew.
const RESTART_AFTER: u32 = 4;

/// Counted per round trip.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrivals {
    rtt: RecentMin,
    /// Newest tick of our clock that came back, ms.
    last_echo: Option<u64>,
    round_began: Time,
    /// Data segments of this round.
    segments: u32,
    /// Segments in a round trip at the pace of the last full round.
    per_round: u32,
    /// The most of any round, slowly forgotten.
    best: u32,
    /// Rounds since `per_round` last grew by more than a quarter, up to `STEADY_AFTER`.
    steady: u8,
}

/// What outlasts a rest: after so long the sender starts anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rested {
    /// 0: none.
    last_echo: u64,
    /// Nanoseconds; 0: unknown.
    rtt: u64,
}

impl Arrivals {
    pub(super) fn rest(&self) -> Rested {
        Rested { last_echo: self.last_echo.unwrap_or(0), rtt: self.rtt.min().as_nanos() as u64 }
    }

    pub(super) fn resume(rested: Rested) -> Self {
        let last_echo = Some(rested.last_echo).filter(|echo| *echo > 0);
        Self { last_echo, rtt: RecentMin::of(Duration::from_nanos(rested.rtt)), ..Self::default() }
    }

    /// A data segment. `echo_ms`: its TSecr as a millisecond of our clock; `min_rtt`: what the send half
    /// knows, zero if nothing.
    pub(super) fn on_segment(&mut self, now: Time, echo_ms: Option<u64>, min_rtt: Duration) {
        self.on_echo(now, echo_ms);
        let (rtt, elapsed) = (self.round_trip(min_rtt), now - self.round_began);
        if elapsed >= rtt.max(ROUND_MIN) {
            self.end_round(rtt, elapsed);
            self.round_began = now;
        }
        self.count(1);
    }

    /// A tick of our clock, ms, came back. Only what is echoed for the first time counts: later segments of a flight
    /// carry the same tick.
    pub(super) fn on_echo(&mut self, now: Time, echo_ms: Option<u64>) {
        if let Some(echo) = echo_ms.filter(|echo| self.last_echo.is_none_or(|last| *echo > last)) {
            self.last_echo = Some(echo);
            self.rtt.on_sample(Duration::from_millis(now.as_millis().saturating_sub(echo)));
        }
    }

    /// `n` more of them at the moment of the last one, with its echo.
    pub(super) const fn count(&mut self, n: u32) {
        self.segments = self.segments.saturating_add(n);
    }

    fn end_round(&mut self, rtt: Duration, elapsed: Duration) {
        self.per_round =
            (f64::from(self.segments) * rtt.as_secs_f64() / elapsed.as_secs_f64()).round() as u32;
        self.segments = 0;
        if elapsed >= RESTART_AFTER * rtt.max(ROUND_MIN) {
            self.best = 0;
        }
        if self.per_round > self.best + self.best / 4 {
            self.steady = 0;
        } else {
            self.steady = (self.steady + 1).min(STEADY_AFTER);
        }
        self.best = self.per_round.max(self.best - self.best / 8);
    }

    /// The smallest of the latest round trips; zero while unknown. It includes what the sender waited before
    /// it sent again, which is nothing while it has data.
    pub(super) fn round_trip(&self, min_rtt: Duration) -> Duration {
        let echoed = self.rtt.min();
        if min_rtt.is_zero() || (echoed >= ECHO_RESOLUTION && echoed > min_rtt) { echoed } else { min_rtt }
    }

    /// Segments in a round trip, now if it is more than before.
    pub(super) fn per_round(&self) -> u32 {
        self.per_round.max(self.segments)
    }

    /// The sender's rate still grows by more than a quarter per round trip, or did lately.
    pub(super) const fn is_growing(&self) -> bool {
        self.steady < STEADY_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Rounds of 40 ms with so many segments each, evenly spread, each echoing what was sent a round before.
    fn rounds(arrivals: &mut Arrivals, now: &mut Time, counts: &[u32]) {
        for count in counts {
            for _ in 0..*count {
                *now += 40 * MS / *count;
                arrivals.on_segment(*now, Some(now.as_millis() - 40), 30 * MS);
            }
        }
    }

    #[test]
    fn the_round_trip_is_that_of_the_echoes_unless_they_are_too_coarse() {
        let (mut arrivals, mut now) = (Arrivals::default(), Time::from_nanos(5_000_000_000));
        rounds(&mut arrivals, &mut now, &[10]);
        assert_eq!(arrivals.round_trip(30 * MS), 40 * MS, "a queue has grown since the handshake");
        assert_eq!(Arrivals::default().round_trip(30 * MS), 30 * MS);
        let mut close = Arrivals::default();
        close.on_segment(now, Some(now.as_millis() - 1), MS / 10);
        assert_eq!(close.round_trip(MS / 10), MS / 10);
    }

    #[test]
    fn a_start_up_is_over_after_three_rounds_without_growth_and_begins_again_after_silence() {
        let (mut arrivals, mut now) = (Arrivals::default(), Time::from_nanos(5_000_000_000));
        rounds(&mut arrivals, &mut now, &[10, 20, 40, 80, 160, 160]);
        assert!(arrivals.is_growing());
        rounds(&mut arrivals, &mut now, &[160, 150, 170, 150, 160]);
        assert!(!arrivals.is_growing());
        assert!((150..=170).contains(&arrivals.per_round()), "{}", arrivals.per_round());
        now += 1000 * MS;
        rounds(&mut arrivals, &mut now, &[10, 20]);
        assert!(arrivals.is_growing());
    }
}
