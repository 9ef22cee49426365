//! RACK (RFC 8985 section 6): a segment is lost when one sent later has arrived and reordering is ruled out.

use std::time::Duration;

use super::sent::Sent;
use crate::time::Time;

/// State of RFC 8985 section 5.2.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: the latest-sent segment known to have arrived.
    newest: (Time, u64),
    /// RACK.rtt: its round trip.
    rtt: Duration,
    /// Reordering has been seen on this path.
    pub(super) reordering_seen: bool,
    /// RACK.reo_wnd_mult: in quarters of the smallest RTT.
    reo_wnd_mult: u32,
    /// RACK.reo_wnd_persist: recoveries until the multiplier is forgotten.
    reo_wnd_persist: u32,
    /// RACK.dsack_round: SND.NXT when the multiplier last grew.
    dsack_round: Option<u64>,
}

impl Rack {
    /// A segment whose transmission is known has arrived (RFC 8985 6.2 step 2).
    pub(super) fn on_delivered(&mut self, now: Time, sent: &Sent) {
        self.rtt = now - sent.sent_at;
        self.newest = self.newest.max((sent.sent_at, sent.end));
    }

    /// A PROBE sent at `sent_at` was answered: what left before it has had its time.
    pub(super) fn on_probe_answered(&mut self, now: Time, sent_at: Time) {
        if sent_at > self.newest.0 {
            self.rtt = now - sent_at;
            self.newest = (sent_at, 0);
        }
    }

    /// What of the reordering window outlasts a rest: RACK.reo_wnd_mult and RACK.reo_wnd_persist, small numbers.
    pub(super) const fn reo_wnd_state(&self) -> (u8, u8) {
        (self.reo_wnd_mult as u8, self.reo_wnd_persist as u8)
    }

    /// After a rest: what was sent before it has arrived.
    pub(super) fn resume((mult, persist): (u8, u8), reordering_seen: bool) -> Self {
        let (reo_wnd_mult, reo_wnd_persist) = (u32::from(mult), u32::from(persist));
        Self { reo_wnd_mult, reo_wnd_persist, reordering_seen, ..Self::default() }
    }

    pub(super) const fn newest(&self) -> (Time, u64) {
        self.newest
    }

    /// How long after its transmission a segment counts as lost: RACK.rtt + RACK.reo_wnd.
    pub(super) fn limit(&self, min_rtt: Duration, srtt: Duration, no_tolerance: bool) -> Duration {
        self.rtt + self.reo_wnd(min_rtt, srtt, no_tolerance)
    }

    /// RFC 8985 6.2 step 4. `no_tolerance`: in recovery, or three segments were SACKed.
    fn reo_wnd(&self, min_rtt: Duration, srtt: Duration, no_tolerance: bool) -> Duration {
        if !self.reordering_seen && no_tolerance {
            return Duration::ZERO;
        }
        ((self.reo_wnd_mult + 1) * min_rtt / 4).min(srtt)
    }

    /// A D-SACK arrived: the window was too short (RFC 8985 6.2 step 4; at most once per round trip).
    pub(super) fn on_dsack(&mut self, una: u64, nxt: u64) {
        if self.dsack_round.is_none_or(|round| una >= round) {
            self.dsack_round = Some(nxt);
            self.reo_wnd_mult = (self.reo_wnd_mult + 1).min(64);
            self.reo_wnd_persist = 16;
        }
    }

    /// A recovery ended: the widened window is kept for 16 of them.
    pub(super) const fn on_recovery_exit(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_appears_with_reordering_and_widens_with_dsacks_up_to_srtt() {
        let (min, srtt) = (Duration::from_millis(40), Duration::from_millis(50));
        let mut rack = Rack::default();
        assert_eq!(rack.limit(min, srtt, true), Duration::ZERO);
        assert_eq!(rack.limit(min, srtt, false), Duration::from_millis(10));
        rack.reordering_seen = true;
        assert_eq!(rack.limit(min, srtt, true), Duration::from_millis(10));
        rack.on_dsack(10, 100);
        rack.on_dsack(50, 120); // the same round
        assert_eq!(rack.limit(min, srtt, true), Duration::from_millis(20));
        for i in 0..20 {
            rack.on_dsack(1000 * (i + 1), 1000 * (i + 2));
        }
        assert_eq!(rack.limit(min, srtt, true), srtt);
        for _ in 0..16 {
            rack.on_recovery_exit();
        }
        assert_eq!(rack.limit(min, srtt, true), Duration::from_millis(10));
    }
}
