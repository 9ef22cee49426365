//! Keep-alive and idle limits (RFC 9293 3.8.4): both off unless asked for.

use std::time::Duration;

use crate::time::Time;

/// A lost probe is not a dead peer (MUST-29): this many in a row are.
const PROBES: u32 = 5;
/// Unanswered probes are repeated at most this far apart.
const REPEAT_MAX: Duration = Duration::from_secs(15);

/// Probes sent since the peer was last heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keepalive {
    unanswered: u32,
    /// When the latest of them left.
    probed: Time,
}

/// What the keep-alive clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// Nothing yet.
    Wait,
    /// Send a probe.
    Probe,
    /// The peer is gone.
    Dead,
}

impl Keepalive {
    pub(super) const fn on_heard(&mut self) {
        self.unanswered = 0;
    }

    /// A probe waits for its answer.
    pub(super) const fn is_asking(self) -> bool {
        self.unanswered > 0
    }

    /// When the next probe is due, `interval` after the peer was last heard, then sooner; counted from the
    /// probe before it, so that a caller who comes late gives the peer its time to answer all the same.
    pub(super) fn deadline(self, last_heard: Time, interval: Duration, rto: Duration) -> Time {
        if self.unanswered == 0 {
            return last_heard + interval;
        }
        self.probed + interval.min((2 * rto).clamp(Duration::from_secs(1), REPEAT_MAX))
    }

    pub(super) fn handle_timeout(&mut self, now: Time, deadline: Time) -> Tick {
        if now < deadline {
            return Tick::Wait;
        }
        if self.unanswered == PROBES {
            return Tick::Dead;
        }
        self.unanswered += 1;
        self.probed = now;
        Tick::Probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_unanswered_probes_end_it_and_one_answer_starts_over() {
        let (minute, rto) = (Duration::from_secs(60), Duration::from_millis(200));
        let mut keepalive = Keepalive::default();
        let heard = Time::ZERO;
        let mut times = vec![];
        loop {
            let at = keepalive.deadline(heard, minute, rto);
            assert_eq!(keepalive.handle_timeout(at.before(Duration::from_nanos(1)), at), Tick::Wait);
            match keepalive.handle_timeout(at, at) {
                Tick::Probe => times.push(at.as_millis()),
                Tick::Dead => break,
                Tick::Wait => unreachable!("the deadline has come"),
            }
        }
        assert_eq!(times, [60_000, 61_000, 62_000, 63_000, 64_000]);
        keepalive.on_heard();
        assert_eq!(keepalive.deadline(heard, minute, rto), heard + minute);
    }

    #[test]
    fn a_caller_who_comes_an_hour_late_does_not_kill_the_peer_by_it() {
        let (minute, rto) = (Duration::from_secs(60), Duration::from_millis(200));
        let mut keepalive = Keepalive::default();
        let late = Time::ZERO + 60 * minute;
        let at = keepalive.deadline(Time::ZERO, minute, rto);
        assert_eq!(keepalive.handle_timeout(late, at), Tick::Probe);
        assert_eq!(keepalive.deadline(Time::ZERO, minute, rto), late + Duration::from_secs(1));
    }
}
