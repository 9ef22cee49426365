//! Start-up: find the path's rate by doubling it, and notice when it is found.

use std::time::Duration;

/// 4 ln 2: the smallest gain that doubles the rate each round trip (draft-ietf-ccwg-bbr 5.3.1).
pub(super) const GAIN: f64 = 2.77;
/// BBR.StartupCwndGain, and the loss from which on it would keep the rate from growing.
const CWND_GAIN: f64 = 2.0;
const LOSSY: f64 = 0.02;
/// Start-up's first window and its growth are those of a path with at most this round trip...
const LONG_RTT: Duration = Duration::from_millis(100);
/// ...but a round trip never multiplies the rate by more than this: so much is at stake beyond the path's
/// capacity before the first answer tells.
const GROWTH_MAX: f64 = 4.0;
/// Largest multiple of the initial window at the start.
const SCALE_MAX: f64 = 6.0;
/// A queue of this share of the round trip ends the start-up on a long path.
const QUEUE: f64 = 1.0625;
/// BBRStartupFullBwThresh and BBRStartupFullBwCnt.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
/// BBRStartupFullLossCnt: fewer losses in a round say nothing.
const LOSSES_MIN: f64 = 6.0;
/// Loss must exceed that at lower rates by this much, and by three standard deviations, to be an overflow.
const OVERFLOW: f64 = 0.1;
/// Who finds so much loss from the beginning may have come into a crowd, and grows by less.
const CROWDED: f64 = 0.1;
const CROWDED_GROWTH: f64 = 1.6;
/// The compensation never assumes more loss than this.
const LOSS_MAX: f64 = 0.5;

/// Segments acknowledged and lost.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    acked: f64,
    lost: f64,
}

impl Tally {
    fn total(self) -> f64 {
        self.acked + self.lost
    }

    fn loss(self) -> f64 {
        self.lost / self.total().max(1.0)
    }
}

/// What start-up has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Startup {
    full_bandwidth: f64,
    full_rounds: u32,
    /// Fates reported in this round, and in all rounds before, whose rates were lower.
    round: Tally,
    before: Tally,
    fits: f64,
    /// A queue stood in the latest round, however small.
    is_full_round: bool,
    /// A queue was seen.
    has_queue: bool,
    min_rtt: Duration,
}

/// Why start-up is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Full {
    /// The rate has stopped growing.
    Plateau,
    /// Far more was lost than at lower rates.
    Overflow,
    /// A queue stands, on a path too long to wait for more.
    Queue,
}

impl Startup {
    pub(super) fn on_rtt(&mut self, rtt: Duration, min_rtt: Duration) {
        self.min_rtt = min_rtt;
        self.has_queue |= rtt.as_secs_f64() > QUEUE * min_rtt.as_secs_f64() + 0.005;
    }

    /// The round trip is longer than start-up waits for.
    pub(super) fn is_long(&self) -> bool {
        self.min_rtt > LONG_RTT
    }

    /// How many times a path of at most 100 ms fits into the round trip.
    fn stretch(&self) -> f64 {
        (self.min_rtt.as_secs_f64() / LONG_RTT.as_secs_f64()).max(1.0)
    }

    /// Initial windows that may be sent in the first round trip, paced.
    pub(super) fn initial_windows(&self) -> f64 {
        self.stretch().min(SCALE_MAX)
    }

    /// By how much the rate may grow within a round trip.
    pub(super) fn growth(&self) -> f64 {
        if self.has_queue { 2.0 } else { self.stretch().exp2().min(GROWTH_MAX) }
    }

    /// On a long path a queue has shown, a round trip after it began: the path has been full since.
    pub(super) fn on_queue(&self) -> Option<Full> {
        (self.has_queue && self.is_long()).then_some(Full::Queue)
    }

    /// Pacing gain and window gain: 4 ln 2 doubles the rate per round trip, g^2 ln g / (g - 1) multiplies it by g.
    /// Loss that was there at lower rates is made up for: it does not tell of this one, and without this the
    /// rate would stop growing at a loss of a half.
    pub(super) fn gain(&self) -> f64 {
        let loss = self.before.loss().min(LOSS_MAX);
        let counts = self.before.total() >= 20.0 && self.before.lost >= LOSSES_MIN && !self.is_full_round;
        let g = if counts && loss > CROWDED { CROWDED_GROWTH } else { self.growth() };
        g * g * g.ln() / (g - 1.0) / if counts { 1.0 - loss } else { 1.0 }
    }

    /// Window gain: the draft's 2, unless loss or a long path keeps that from growing.
    pub(super) fn cwnd_gain(&self) -> f64 {
        if self.is_long() || self.before.loss() > LOSSY { self.gain() } else { CWND_GAIN }
    }

    /// Most segments that were in flight while hardly any were lost.
    pub(super) fn fits(&self) -> f64 {
        self.fits
    }

    /// Loss at rates below the current one.
    pub(super) fn loss_before(&self) -> f64 {
        self.before.loss()
    }

    /// Loss of the round in progress.
    pub(super) fn loss_now(&self) -> f64 {
        self.round.loss()
    }

    /// An ACK told of so many segments, the newest of which was sent as the last of a `flight`. Some: the path
    /// is full.
    pub(super) fn on_fates(&mut self, acked: f64, lost: f64, flight: f64) -> Option<Full> {
        self.round.acked += acked;
        self.round.lost += lost;
        if self.round.loss() <= self.before.loss() + OVERFLOW {
            self.fits = self.fits.max(flight);
        }
        let (now, before) = (self.round, self.before);
        let mean = (now.lost + before.lost) / (now.total() + before.total()).max(1.0);
        let spread = mean * (1.0 - mean) * (1.0 / now.total().max(1.0) + 1.0 / before.total().max(1.0));
        let threshold = before.loss() + OVERFLOW + 3.0 * spread.sqrt();
        // Where much is lost anyway, a timeout or a copy's answer tells of many losses at once.
        let enough =
            if before.loss() > CROWDED { now.total() >= flight / 2.0 } else { now.lost >= LOSSES_MIN };
        (enough && now.loss() > threshold).then_some(Full::Overflow)
    }

    /// A round has ended with a bandwidth of so many bytes per second.
    pub(super) fn on_round(&mut self, bandwidth: f64, is_app_limited: bool, queue: bool) -> Option<Full> {
        self.is_full_round = queue;
        self.before.acked += self.round.acked;
        self.before.lost += self.round.lost;
        self.round = Tally::default();
        if is_app_limited {
            return None;
        }
        if bandwidth >= self.full_bandwidth * FULL_GROWTH {
            self.full_bandwidth = bandwidth;
            self.full_rounds = 0;
            return None;
        }
        self.full_rounds += 1;
        (self.full_rounds >= FULL_ROUNDS).then_some(Full::Plateau)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_after_three_rounds_without_a_quarter_more() {
        let mut startup = Startup::default();
        for bandwidth in [100.0, 200.0, 250.0] {
            assert_eq!(startup.on_round(bandwidth, false, false), None);
        }
        assert_eq!(startup.on_round(300.0, false, false), None);
        assert_eq!(startup.on_round(300.0, true, false), None, "the application had nothing to send");
        assert_eq!(startup.on_round(310.0, false, false), None);
        assert_eq!(startup.on_round(311.0, false, false), Some(Full::Plateau));
    }

    #[test]
    fn loss_that_was_there_at_lower_rates_is_no_overflow_but_made_up_for() {
        let mut startup = Startup::default();
        let mut flight = 10.0;
        for round in 0..8 {
            assert_eq!(startup.on_fates(flight / 2.0, flight / 2.0, flight), None, "round {round}");
            startup.on_round(flight, false, false);
            flight *= 2.0;
        }
        assert!(startup.gain() > 1.4 * GAIN, "{}", startup.gain());
    }

    #[test]
    fn where_much_is_lost_anyway_many_losses_told_of_at_once_are_no_overflow() {
        let mut startup = Startup::default();
        startup.on_fates(203.0, 133.0, 60.0);
        startup.on_round(1.0, false, false);
        assert_eq!(startup.on_fates(3.0, 35.0, 96.0), None, "the arrivals of this round are still to come");
        assert_eq!(startup.on_fates(0.0, 50.0, 96.0), Some(Full::Overflow));
    }

    #[test]
    fn loss_that_comes_with_the_rate_is_an_overflow() {
        let mut startup = Startup::default();
        startup.on_fates(200.0, 2.0, 100.0);
        startup.on_round(1.0, false, false);
        assert_eq!(startup.on_fates(20.0, 5.0, 200.0), None, "five losses may be a burst");
        assert_eq!(startup.on_fates(0.0, 3.0, 300.0), Some(Full::Overflow));
    }

    #[test]
    fn long_paths_grow_faster_until_a_queue_shows() {
        let ms = Duration::from_millis;
        let mut startup = Startup::default();
        startup.on_rtt(ms(40), ms(40));
        assert_eq!((startup.growth(), startup.initial_windows()), (2.0, 1.0));
        startup.on_rtt(ms(600), ms(600));
        assert_eq!((startup.growth(), startup.initial_windows().round()), (4.0, 6.0));
        startup.on_rtt(ms(800), ms(600));
        assert_eq!(startup.growth(), 2.0);
    }
}
