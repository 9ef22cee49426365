//! Round trips, counted by what is delivered, and whether one met a queue.

use std::time::Duration;

use super::super::AckSample;
use crate::time::Time;

/// No round trip of a round was shorter than this multiple of the least: a queue stands.
const QUEUE: f64 = 1.05;
const QUEUE_MIN: Duration = Duration::from_micros(750);
/// How long the lightest load is remembered: one to two of these.
const MEMORY: Duration = Duration::from_secs(5);

/// Round trips whose mean is more than jitter: the lightest of many small rounds would be the luckiest.
const SAMPLES_MIN: u32 = 32;

/// A longer round trip than this met more than a path does whose round trips take `least`.
pub(super) fn threshold(least: Duration) -> Duration {
    least.mul_f64(QUEUE) + QUEUE_MIN
}

/// The round trips of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    least: Option<Duration>,
    sum: Duration,
    count: u32,
}

impl Times {
    fn add(&mut self, rtt: Duration) {
        self.least = self.least.into_iter().chain([rtt]).min();
        self.sum = self.sum.saturating_add(rtt);
        self.count += 1;
    }

    fn absorb(&mut self, other: Self) {
        self.least = self.least.into_iter().chain(other.least).min();
        self.sum = self.sum.saturating_add(other.sum);
        self.count += other.count;
    }

    fn mean(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.sum / self.count)
    }
}

/// The mean round trip of the round with the least load: what jitter makes of an empty queue.
#[derive(Clone, Copy, Debug, Default)]
struct Unloaded {
    /// Rounds too short to judge alone.
    times: Times,
    current: Option<Duration>,
    previous: Option<Duration>,
    turned_at: Time,
}

impl Unloaded {
    fn on_round(&mut self, now: Time, times: Times) {
        self.times.absorb(times);
        if self.times.count < SAMPLES_MIN && self.get().is_some() {
            return;
        }
        let Some(mean) = std::mem::take(&mut self.times).mean() else { return };
        if now > self.turned_at + MEMORY {
            self.previous = self.current.take();
            self.turned_at = now;
        }
        self.current = self.current.into_iter().chain([mean]).min();
    }

    fn get(&self) -> Option<Duration> {
        self.current.into_iter().chain(self.previous).min()
    }
}

/// Counts round trips by what is delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    pub(super) count: u64,
    /// A segment sent at this count of delivered bytes or later begins the next round.
    pub(super) next: u64,
    /// The current ACK began one.
    pub(super) is_start: bool,
    began: Time,
    /// How long the round before this one was.
    pub(super) took: Duration,
    times: Times,
    unloaded: Unloaded,
    /// Shortest round trip of the round before this one.
    least: Option<Duration>,
    /// Seconds that those of the round before this one took in the mean; 0 if there were none.
    mean: f32,
    /// The round before this one met no empty queue.
    pub(super) has_queue: bool,
    /// The round before this one met an empty queue, and no more of one than the lightest round did.
    pub(super) is_calm: bool,
    /// Largest pacing rate in this round and the one before.
    pub(super) paced: f64,
    pub(super) paced_before: f64,
}

impl Round {
    pub(super) fn on_ack(&mut self, now: Time, ack: &AckSample) {
        self.is_start = !ack.rate.interval.is_zero() && ack.rate.prior_delivered >= self.next;
        if self.is_start {
            self.next = ack.delivered;
            self.count += 1;
            self.took = now.since(self.began);
            self.began = now;
        }
    }

    /// One of the round in progress.
    pub(super) fn on_rtt(&mut self, rtt: Duration) {
        self.times.add(rtt);
    }

    /// The round is over. A queue is seen where no round trip was as short as the least, and their mean longer
    /// than that of the lightest round: jitter alone does the one or the other.
    pub(super) fn end(&mut self, now: Time, min_rtt: Duration) {
        let times = std::mem::take(&mut self.times);
        self.least = times.least;
        self.mean = times.mean().unwrap_or_default().as_secs_f32();
        let Some((least, mean)) = times.least.zip(times.mean()) else {
            (self.has_queue, self.is_calm) = (false, false);
            return;
        };
        let is_loaded = self.unloaded.get().is_some_and(|unloaded| mean > threshold(unloaded));
        self.unloaded.on_round(now, times);
        let was_empty = least <= threshold(min_rtt);
        self.has_queue = !was_empty && is_loaded;
        self.is_calm = was_empty && !is_loaded;
    }

    /// Shortest round trip of the round before this one.
    pub(super) const fn least_rtt(&self) -> Option<Duration> {
        self.least
    }

    /// Seconds that round trips of the round before this one took in the mean, if there were any.
    pub(super) fn mean_rtt(&self) -> Option<f32> {
        (self.mean > 0.0).then_some(self.mean)
    }

    /// A longer round trip than this is more than jitter makes of the lightest load.
    pub(super) fn load_threshold(&self, min_rtt: Duration) -> Duration {
        threshold(self.unloaded(min_rtt))
    }

    /// Mean round trip of the lightest load.
    pub(super) fn unloaded(&self, min_rtt: Duration) -> Duration {
        self.unloaded.get().unwrap_or(min_rtt).max(min_rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Rounds of so many milliseconds' round trips each; whether the latest met a queue.
    fn meets_queue(rounds: &[&[u64]]) -> bool {
        let mut round = Round::default();
        for (second, rtts) in (1..).zip(rounds) {
            rtts.iter()
                .cycle()
                .take(SAMPLES_MIN as usize * rtts.len())
                .for_each(|rtt| round.on_rtt(ms(*rtt)));
            round.end(Time::from_nanos(1) + Duration::from_secs(second), ms(40));
        }
        assert!(!(round.has_queue && round.is_calm));
        round.has_queue
    }

    #[test]
    fn a_round_without_a_short_round_trip_and_longer_than_the_lightest_met_a_queue() {
        assert!(meets_queue(&[&[40, 41], &[46, 47]]));
        assert!(!meets_queue(&[&[40, 41], &[40, 60]]), "one was short");
        assert!(!meets_queue(&[&[44, 50], &[43, 51]]), "jitter: no worse than the lightest");
        assert!(!meets_queue(&[&[40, 41], &[]]), "nothing was seen");
    }

    #[test]
    fn of_many_small_rounds_on_a_path_with_jitter_the_luckiest_is_not_the_lightest_load() {
        let (mut round, mut state) = (Round::default(), 1u64);
        for n in 0..1000 {
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                round.on_rtt(Duration::from_micros(10_500 + (state >> 33) % 6_000));
            }
            round.end(Time::from_nanos(1) + ms(10 * n), ms(10));
        }
        let mean = Duration::from_micros(13_500);
        assert!(round.load_threshold(ms(10)) > mean, "{round:?}");
    }

    #[test]
    fn the_lightest_load_is_forgotten_after_ten_seconds() {
        let light: &[u64] = &[40, 41];
        let heavy: &[u64] = &[50, 51];
        assert!(meets_queue(&[light, heavy, heavy, heavy, heavy]));
        let rounds: Vec<&[u64]> = std::iter::once(light).chain([heavy; 14]).collect();
        assert!(!meets_queue(&rounds), "the path became longer");
    }
}
