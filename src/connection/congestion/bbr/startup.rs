//! Start-up: find the path's rate by doubling it, and notice when it is found.

use std::time::Duration;

use crate::time::Time;

/// 4 ln 2: the smallest gain that doubles the rate each round trip (draft-ietf-ccwg-bbr 5.3.1).
pub(super) const GAIN: f64 = 2.77;
/// BBR.StartupCwndGain, and the loss from which on it would keep the rate from growing.
const CWND_GAIN: f64 = 2.0;
const LOSSY: f64 = 0.02;
/// Start-up's first window and its growth are those of a path with at most this round trip...
const LONG_RTT: Duration = Duration::from_millis(100);
/// ...but a round trip never multiplies the rate by more than this: so much is at stake beyond the path's
/// capacity before the first answer tells.
const GROWTH_MAX: f64 = 3.9;
/// Largest multiple of the initial window at the start.
const SCALE_MAX: f64 = 6.0;
/// Round trips that are longer by this show a queue, which ends the start-up on a long path...
const QUEUE: Excess = Excess { share: 1.0 / 16.0, least: Duration::from_millis(5) };
/// ...and by this, one that may have begun to build. Until it has shown itself, or has not, no more is sent than
/// arrives: at four times that a twentieth of a round trip is a fifth of all that the path holds.
const HINT: Excess = Excess { share: 1.0 / 64.0, least: Duration::from_millis(2) };
/// All ACKs of this part of a round trip must say so: one that its receiver delayed says nothing.
const RUN: u32 = 32;
/// BBRStartupFullBwThresh and BBRStartupFullBwCnt.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u8 = 3;
/// BBRStartupFullLossCnt: fewer losses in a round say nothing.
pub(super) const LOSSES_MIN: f64 = 6.0;
/// Loss must exceed that at lower rates by this much, and by three standard deviations, to be an overflow.
pub(super) const OVERFLOW: f64 = 0.1;
/// Who finds so much loss from the beginning may have come into a crowd, and grows by less.
const CROWDED: f64 = 0.1;
const CROWDED_GROWTH: f64 = 1.6;
/// Who finds it looks at the growth of so many segments at least: of a handful chance lets three in a row not grow.
const JUDGED_MIN: f32 = 32.0;
/// The compensation never assumes more loss than this.
const LOSS_MAX: f64 = 0.5;
/// More than so much, and two standard deviations, of so many segments: start-up cannot make up for that, and only adds to
/// what a crowd loses.
const HOPELESS: f64 = 0.55;
const HOPELESS_SEGMENTS: f64 = 60.0;

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

    /// More is lost than on any path that can be filled.
    fn is_hopeless(self) -> bool {
        let deviation = (HOPELESS * (1.0 - HOPELESS) / self.total().max(1.0)).sqrt();
        self.total() >= HOPELESS_SEGMENTS && self.loss() > HOPELESS + 2.0 * deviation
    }
}

/// By how much a round trip exceeds the least.
#[derive(Clone, Copy, Debug)]
struct Excess {
    share: f64,
    least: Duration,
}

impl Excess {
    fn is_met(&self, rtt: Duration, min_rtt: Duration) -> bool {
        rtt > min_rtt.mul_f64(1.0 + self.share) + self.least
    }
}

/// ACKs in a row that say the same.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    since: Option<Time>,
}

impl Run {
    /// Whether all have said so for this long; a single ACK never has.
    fn lasts(&mut self, now: Time, says: bool, span: Duration) -> bool {
        let since = self.since.filter(|_| says);
        self.since = since.or(says.then_some(now));
        since.is_some_and(|since| now >= since + span)
    }
}

/// What start-up has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Startup {
    full_bandwidth: f64,
    full_rounds: u8,
    /// Fates since the growth was last looked at.
    judged: f32,
    /// Fates reported in this round, and in all rounds before, whose rates were lower.
    round: Tally,
    before: Tally,
    fits: f64,
    /// A queue stood in the latest round, however small.
    is_full_round: bool,
    /// A queue was seen.
    has_queue: bool,
    queue: Run,
    hint: Run,
    /// A hint holds the rate back until then; the next one counts a round trip later.
    held_until: Option<Time>,
    /// Bytes per second that are sent meanwhile, at least.
    held_rate: f64,
    is_held: bool,
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
    pub(super) fn on_handshake(&mut self, rtt: Duration) {
        self.min_rtt = rtt;
    }

    /// A round trip of a segment, sent while `paced` bytes per second are. Delays by the receiver, who waits for
    /// more where there is none, are all that a flight shows that the application limited.
    pub(super) fn on_rtt(
        &mut self,
        now: Time,
        rtt: Duration,
        min_rtt: Duration,
        is_app_limited: bool,
        paced: f64,
    ) {
        self.min_rtt = min_rtt;
        let exceeds = |excess: Excess| !is_app_limited && excess.is_met(rtt, min_rtt);
        let span = min_rtt / RUN;
        self.has_queue |= self.queue.lasts(now, exceeds(QUEUE), span);
        let has_hint = self.hint.lasts(now, exceeds(HINT), span) && self.is_long();
        if has_hint && self.held_until.is_none_or(|until| now >= until + min_rtt) {
            self.held_until = Some(now + min_rtt);
            self.held_rate = paced / (2.0 * self.growth());
        }
        self.is_held = has_hint && self.held_until.is_some_and(|until| now < until);
    }

    /// A queue may just have begun to build. Some: bytes per second to send until that is known, or what
    /// arrives, if that is more. About half of what was sent a round trip ago: early rates are underestimated.
    pub(super) fn held_rate(&self) -> Option<f64> {
        self.is_held.then_some(self.held_rate)
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

    /// More has been lost than it could make up for: it ends for that, and what it lost is not held to be chance.
    pub(super) fn is_hopeless(&self) -> bool {
        self.before.is_hopeless()
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
        let is_told = before.loss() <= CROWDED || now.total() >= flight / 2.0;
        (is_told && now.lost >= LOSSES_MIN && now.loss() > threshold).then_some(Full::Overflow)
    }

    /// A round has ended with a bandwidth of so many bytes per second.
    pub(super) fn on_round(&mut self, bandwidth: f64, is_app_limited: bool, queue: bool) -> Option<Full> {
        self.is_full_round = queue;
        self.judged += self.round.total() as f32;
        self.before.acked += self.round.acked;
        self.before.lost += self.round.lost;
        self.round = Tally::default();
        if self.before.is_hopeless() {
            return Some(Full::Overflow);
        }
        if is_app_limited {
            return None;
        }
        if self.before.loss() > CROWDED && self.judged < JUDGED_MIN {
            return None;
        }
        self.judged = 0.0;
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

    /// One connection in fifty began so at half loss, at 1 of 100 Mbit/s, and stayed there for ten seconds.
    #[test]
    fn where_much_is_lost_a_handful_of_segments_says_nothing_of_growth() {
        let rounds = |acked: f64, lost: f64| {
            let mut startup = Startup::default();
            (1..100).find(|_| {
                startup.on_fates(acked, lost, 10.0);
                startup.on_round(1.0, false, false).is_some()
            })
        };
        assert_eq!(rounds(100.0, 0.0), Some(4));
        assert_eq!(rounds(4.0, 0.0), Some(4), "nothing is lost: each round tells");
        assert_eq!(rounds(2.0, 2.0), Some(32), "four rounds of 32 segments");
    }

    #[test]
    fn where_more_is_lost_than_it_can_make_up_for_start_up_ends() {
        let rounds = |loss: f64| {
            let mut startup = Startup::default();
            let mut flight = 10.0;
            (1..8).find_map(|n| {
                flight *= 2.0;
                let full = startup.on_fates(flight * (1.0 - loss), flight * loss, flight);
                full.or(startup.on_round(flight, false, false)).map(|full| (n, full))
            })
        };
        assert_eq!(rounds(0.5), None);
        assert_eq!(rounds(0.7), Some((2, Full::Overflow)), "of 60 segments");
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

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Start-up on a path of 600 ms that has seen these round trips, one each 10 ms, at 8 MB/s.
    fn after(rtts: impl IntoIterator<Item = u64>) -> Startup {
        let mut startup = Startup::default();
        startup.on_handshake(ms(600));
        for (tick, rtt) in (100..).zip(rtts) {
            startup.on_rtt(Time::from_nanos(tick * 10_000_000), ms(rtt), ms(600), false, 8e6);
        }
        startup
    }

    #[test]
    fn long_paths_grow_faster_until_a_queue_shows() {
        let mut short = Startup::default();
        short.on_handshake(ms(40));
        assert_eq!((short.growth(), short.initial_windows()), (2.0, 1.0));
        let long = after([600]);
        assert_eq!((long.growth(), long.initial_windows().round()), (GROWTH_MAX, 6.0));
        let full = after([600, 650, 660, 670]);
        assert_eq!((full.growth(), full.on_queue()), (2.0, Some(Full::Queue)));
    }

    #[test]
    fn a_single_late_ack_is_no_queue_nor_are_many_while_the_application_has_no_more() {
        assert_eq!(after([600, 700, 600, 700, 600, 700]).on_queue(), None);
        assert_eq!(after([600, 700, 600, 700, 600, 700]).held_rate(), None);
        let mut chat = after([600]);
        for tick in 200..300 {
            chat.on_rtt(Time::from_nanos(tick * 10_000_000), ms(700), ms(600), true, 8e6);
        }
        assert_eq!((chat.on_queue(), chat.held_rate()), (None, None));
    }

    #[test]
    fn a_hint_of_a_queue_holds_the_rate_for_a_round_trip_at_most() {
        assert_eq!(after([600, 615, 615]).held_rate(), None, "not for long enough");
        let held = after([600, 615, 615, 615]);
        assert_eq!((held.held_rate(), held.on_queue()), (Some(4e6 / GROWTH_MAX), None));
        assert_eq!(after([600, 615, 615, 615, 600]).held_rate(), None, "it was none");
        assert_eq!(after([615; 70]).held_rate(), None, "it is not ours");
    }
}
