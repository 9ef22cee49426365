//! What the windows of trials lost, and what they have in common.

use super::meter::Meter;
use super::{CONFIDENCE, FLOOR_MAX};

/// A trial lasts for so many windows, unless it is decided earlier, and the floor is what so many have in common:
/// a path's nature lasts, what neighbours do does not.
pub(super) const WINDOWS: usize = 8;
/// Standard deviations by which a window of a trial may lose less than all of them do in the mean.
const ALIKE: f32 = 2.5;

/// Loss in a window of a trial.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    segments: u16,
    lost: u16,
    /// The loss rate, and what chance may have hidden of it.
    most: f32,
}

impl Outcome {
    const fn of(most: f64) -> Self {
        Self { segments: 0, lost: 0, most: most as f32 }
    }

    /// Chance alone may have made the loss so small, where all have `mean` in common.
    fn may_have(&self, mean: f32) -> bool {
        let segments = f32::from(self.segments);
        let deviation = (mean * (1.0 - mean) * segments).sqrt();
        self.segments > 0 && f32::from(self.lost) > mean * segments - ALIKE * deviation
    }
}

/// The latest windows of trials.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    windows: [Outcome; WINDOWS],
    count: usize,
}

impl Record {
    pub(super) const EMPTY: Self = Self { windows: [Outcome::of(0.0); WINDOWS], count: 0 };

    pub(super) const fn of(loss: f64) -> Self {
        Self { windows: [Outcome::of(loss); WINDOWS], count: WINDOWS }
    }

    pub(super) fn push(&mut self, meter: &Meter, dispersion: f64) {
        let loss = meter.loss();
        let most = (loss + CONFIDENCE * meter.deviation(loss, dispersion)) as f32;
        let scale = (f64::from(u16::MAX) / meter.total().max(1.0)).min(1.0);
        let (segments, lost) = ((scale * meter.total()).round() as u16, (scale * meter.lost).round() as u16);
        self.windows[self.count % WINDOWS] = Outcome { segments, lost, most };
        self.count += 1;
    }

    /// The loss that no window was without: the mean if chance explains how they differ, else the least. Zero
    /// without enough of them.
    pub(super) fn common(&self) -> f64 {
        if self.count < WINDOWS {
            return 0.0;
        }
        let least = self.windows.iter().fold(FLOOR_MAX as f32, |least, window| least.min(window.most));
        let sum = |count: fn(&Outcome) -> u16| self.windows.iter().map(|w| f32::from(count(w))).sum::<f32>();
        let mean = sum(|window| window.lost) / sum(|window| window.segments).max(1.0);
        let is_alike = self.windows.iter().all(|window| window.may_have(mean));
        f64::from(if is_alike { least.max(mean) } else { least }).min(FLOOR_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn windows_that_differ_by_chance_tell_their_mean_and_one_that_lost_far_less_tells_its_own() {
        let record = |losses: [f64; WINDOWS]| {
            let mut record = Record::EMPTY;
            for lost in losses {
                record.push(&Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) }, 1.0);
            }
            record
        };
        let alike = record([4.0, 9.0, 10.0, 10.0, 11.0, 12.0, 13.0, 11.0]).common();
        assert!((0.049..0.052).contains(&alike), "not the luckiest: {alike}");
        let odd = record([0.0, 9.0, 10.0, 10.0, 11.0, 12.0, 13.0, 11.0]).common();
        assert!(odd < 0.02, "the path is able to carry without loss: {odd}");
        let mut short = record([10.0; WINDOWS]);
        short.count = WINDOWS - 1;
        assert_eq!(short.common(), 0.0);
    }
}
