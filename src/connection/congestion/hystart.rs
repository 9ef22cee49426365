//! HyStart++ (RFC 9406): leaving slow start when the delay rises, before the queue overflows.

use std::time::Duration;

// All from RFC 9406 section 4.3.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u32 = 8;
const CSS_ROUNDS: u32 = 5;
/// How many times slower than slow start conservative slow start grows.
pub(super) const CSS_GROWTH_DIVISOR: u32 = 4;

/// How the window may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Standard slow start.
    SlowStart,
    /// Conservative slow start: the delay rose, and we look whether it stays up.
    Conservative,
    /// The delay stayed up: congestion avoidance begins at this window.
    Done,
}

/// Conservative slow start in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Css {
    /// RTT that made us suspicious; a smaller one clears the suspicion.
    baseline: Duration,
    /// Rounds that ended since; the partial one in which it began counts.
    rounds: u32,
}

/// Watches the smallest RTT of each round of one slow start.
///
/// A round is the flight from one cumulative ACK point to what was SND.NXT when that point was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HyStart {
    /// The round ends when this is acknowledged; None before the first ACK.
    window_end: Option<u64>,
    last_round_min_rtt: Option<Duration>,
    current_round_min_rtt: Option<Duration>,
    rtt_samples: u32,
    css: Option<Css>,
}

impl HyStart {
    /// Conservative slow start is in progress.
    pub(super) const fn is_conservative(&self) -> bool {
        self.css.is_some()
    }

    /// Takes the RTT sample of one ACK, if it has one, and says how the window may grow on that ACK.
    pub(super) fn on_ack(&mut self, snd_una: u64, snd_nxt: u64, rtt: Option<Duration>) -> Phase {
        let window_end = *self.window_end.get_or_insert(snd_nxt);
        if let Some(rtt) = rtt {
            // The sample belongs to the round whose data it measured, so it counts before the round ends.
            self.current_round_min_rtt = Some(self.current_round_min_rtt.map_or(rtt, |min| min.min(rtt)));
            self.rtt_samples = self.rtt_samples.saturating_add(1);
            self.judge_delay();
        }
        if snd_una >= window_end {
            self.end_round(snd_nxt);
        }
        match self.css {
            None => Phase::SlowStart,
            Some(css) if css.rounds < CSS_ROUNDS => Phase::Conservative,
            Some(_) => Phase::Done,
        }
    }

    /// RFC 9406 section 4.2: entry into CSS, and the way back when it proves spurious.
    fn judge_delay(&mut self) {
        let Some(current) = self.current_round_min_rtt else { return };
        if self.rtt_samples < N_RTT_SAMPLE {
            return;
        }
        if let Some(css) = self.css {
            if current < css.baseline {
                self.css = None;
            }
        } else if let Some(last) = self.last_round_min_rtt {
            let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
            if current >= last.saturating_add(threshold) {
                self.css = Some(Css { baseline: current, rounds: 0 });
            }
        }
    }

    fn end_round(&mut self, snd_nxt: u64) {
        self.last_round_min_rtt = self.current_round_min_rtt.take();
        self.rtt_samples = 0;
        self.window_end = Some(snd_nxt);
        if let Some(css) = &mut self.css {
            css.rounds = css.rounds.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A round of `acks` ACKs with the same RTT that cover a flight of 100; the last finds the next
    /// flight of 100 sent.
    fn round(hystart: &mut HyStart, round: u64, acks: u64, rtt: Duration) -> Phase {
        let start = round * 100;
        for ack in 1..acks {
            hystart.on_ack(start + 100 * ack / acks, start + 100, Some(rtt));
        }
        hystart.on_ack(start + 100, start + 200, Some(rtt))
    }

    #[test]
    fn delay_rise_of_an_eighth_between_4_and_16_ms_starts_css() {
        for (base, rise, expected) in [
            (ms(10), ms(3), Phase::SlowStart), // an eighth is 1.25 ms: 4 ms count
            (ms(10), ms(4), Phase::Conservative),
            (ms(80), ms(9), Phase::SlowStart),
            (ms(80), ms(10), Phase::Conservative),
            (ms(600), ms(15), Phase::SlowStart), // an eighth is 75 ms: 16 ms count
            (ms(600), ms(16), Phase::Conservative),
        ] {
            let mut hystart = HyStart::default();
            assert_eq!(round(&mut hystart, 0, 10, base), Phase::SlowStart);
            assert_eq!(round(&mut hystart, 1, 10, base + rise), expected, "{base:?} + {rise:?}");
        }
    }

    #[test]
    fn seven_samples_in_a_round_are_too_few_to_judge() {
        for (acks, expected) in [(7, Phase::SlowStart), (8, Phase::Conservative)] {
            let mut hystart = HyStart::default();
            round(&mut hystart, 0, 10, ms(50));
            assert_eq!(round(&mut hystart, 1, acks, ms(100)), expected);
        }
    }

    #[test]
    fn acks_without_a_sample_do_not_count_as_samples() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 10, ms(50));
        for una in 101..=107 {
            assert_eq!(hystart.on_ack(una, 200, Some(ms(100))), Phase::SlowStart);
            assert_eq!(hystart.on_ack(una, 200, None), Phase::SlowStart);
        }
        assert_eq!(hystart.on_ack(108, 200, Some(ms(100))), Phase::Conservative);
    }

    #[test]
    fn css_ends_slow_start_after_five_rounds_and_the_partial_one_counts() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 10, ms(50));
        let phases: Vec<_> = (1..=5).map(|r| round(&mut hystart, r, 10, ms(60))).collect();
        assert_eq!(phases[..4], [Phase::Conservative; 4]);
        assert_eq!(phases[4], Phase::Done);
    }

    #[test]
    fn delay_that_falls_again_resumes_slow_start() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 10, ms(50));
        assert_eq!(round(&mut hystart, 1, 10, ms(60)), Phase::Conservative);
        assert_eq!(round(&mut hystart, 2, 10, ms(60)), Phase::Conservative);
        assert_eq!(round(&mut hystart, 3, 10, ms(59)), Phase::SlowStart);
        // And HyStart++ stays armed.
        assert_eq!(round(&mut hystart, 4, 10, ms(70)), Phase::Conservative);
    }
}
