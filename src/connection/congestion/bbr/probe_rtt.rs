//! PROBE_RTT: next to nothing in flight for a moment, so that the round trip without a queue can be seen (draft
//! 5.3.4), and what is lost then.

use std::time::Duration;

use super::super::AckSample;
use super::{Bbr, CWND_MIN, Phase};
use crate::time::Time;

const PROBE_RTT_CWND_GAIN: f64 = 0.5;
/// The same where loss seems to be chance: flows that share a queue come to probe at the same time, and their
/// loss, if it is not chance, ends meanwhile.
const PROBE_RTT_CWND_GAIN_CHANCY: f64 = 0.25;
/// BBR.ProbeRTTDuration.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// For so long after a probe rounds without a queue stand for the next, which is then due five seconds after the last of
/// them (`min_rtt`).
const PROBE_RTT_INTERVAL_CALM: Duration = Duration::from_secs(20);

impl Bbr {
    pub(super) fn advance_probe_rtt(&mut self, now: Time, ack: &AckSample) {
        if self.phase != Phase::ProbeRtt {
            let is_calm = self.phase == Phase::Cruise && !self.round.has_queue;
            if self.round.is_start && is_calm && self.may_put_off_probe_rtt(now) {
                self.min_rtt.refresh(now);
            }
            let is_due = self.min_rtt.is_stale
                && !self.is_resuming // the pause has emptied the queue
                && !matches!(self.phase, Phase::Startup | Phase::Insist(_))
                && !self.floor.in_trial();
            if is_due {
                self.saved_cwnd = self.saved_cwnd.max(self.cwnd);
                self.probe_rtt_until = None;
                self.probe_rtt_latest = now;
                self.floor.restart(now);
                self.enter(now, Phase::ProbeRtt);
            }
            return;
        }
        match self.probe_rtt_until {
            None if ack.in_flight as f64 <= self.probe_rtt_cwnd() => {
                self.probe_rtt_until = Some((now + PROBE_RTT_DURATION, self.round.count + 1));
                self.floor.restart(now);
            }
            Some((until, round)) if now >= until && self.round.count >= round => {
                self.min_rtt.refresh(now);
                self.learn_from_probe_rtt();
                self.cwnd = self.cwnd.max(self.saved_cwnd);
                self.saved_cwnd = 0.0;
                self.bounds.reset_lower();
                self.begin_down(now);
                self.begin_cruise(now);
            }
            _ => {}
        }
    }

    /// Where no queue stands there is no need to empty it to see how long the path is. But not for ever: what is never
    /// emptied looks like the path.
    pub(super) fn may_put_off_probe_rtt(&self, now: Time) -> bool {
        now < self.probe_rtt_latest + PROBE_RTT_INTERVAL_CALM
    }

    /// What is lost while next to nothing is sent, nobody can help.
    fn learn_from_probe_rtt(&mut self) {
        let before = self.floor.get();
        self.floor.learn_observed();
        self.bandwidth.on_floor(before, self.floor.get(), 0.0);
    }

    pub(super) fn probe_rtt_cwnd(&self) -> f64 {
        let gain = if self.is_chancy() { PROBE_RTT_CWND_GAIN_CHANCY } else { PROBE_RTT_CWND_GAIN };
        (gain * self.bdp()).max(CWND_MIN * self.mss)
    }
}
