//! What the answers to our SYNs say of the path before the first data has been answered.
//!
//! A listener answers every SYN, and the answer echoes its timestamp: on a long path that loses half, five SYNs
//! leave before the first answer comes, and how many are answered is known when the first flight has just left.

use std::time::Duration;

use super::{Connection, loss_rate::LossRate};
use crate::time::Time;
use crate::wire::{Flags, Segment};

/// SYNs remembered: those of the first seconds.
const SYNS: usize = 8;
/// Unanswered SYNs before the first answered one that count. They may as well have met a listener that was
/// not there yet.
const LEADING_MAX: u32 = 2;
/// A SYN lost weighs as much as this many losses of data: a path that takes the first packets it is given is
/// rarely a good one, and there are few SYNs to learn from.
const WEIGHT: u64 = 2;
/// Answers are late by so much, beyond an eighth of the round trip.
const TOLERANCE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Answered,
    Lost,
}

/// When SYNs left and what became of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct SynLog {
    sent: [(Time, Fate); SYNS],
    count: usize,
}

impl SynLog {
    pub(super) const fn new() -> Self {
        Self { sent: [(Time::ZERO, Fate::Unknown); SYNS], count: 0 }
    }

    pub(super) fn on_sent(&mut self, now: Time) {
        if let Some(entry) = self.sent.get_mut(self.count) {
            *entry = (now, Fate::Unknown);
            self.count += 1;
        }
    }

    /// An answer that echoes this tick of our clock. A repeated one says nothing new.
    fn on_answer(&mut self, echo_ms: u64, rate: &mut LossRate) {
        for (at, fate) in &mut self.sent[..self.count] {
            if at.as_millis() == echo_ms && *fate == Fate::Unknown {
                *fate = Fate::Answered;
                rate.on_delivered(1);
            }
        }
    }

    /// SYNs whose answer is overdue when a round trip takes `rtt`. True: there are new ones.
    fn judge(&mut self, now: Time, rtt: Duration, rate: &mut LossRate) -> bool {
        let first = self.first_answered();
        let (mut leading, mut is_news) = (0, false);
        for (index, (at, fate)) in self.sent[..self.count].iter_mut().enumerate() {
            if *fate == Fate::Unknown && *at + patience(rtt) <= now {
                *fate = Fate::Lost;
                leading += u32::from(index < first);
                if index > first || leading <= LEADING_MAX {
                    rate.on_lost(WEIGHT);
                    is_news = true;
                }
            }
        }
        is_news
    }

    fn first_answered(&self) -> usize {
        self.sent[..self.count].iter().position(|(_, fate)| *fate == Fate::Answered).unwrap_or(SYNS)
    }

    /// When the next verdict is due.
    fn deadline(&self, rtt: Duration) -> Option<Time> {
        let mut open = self.sent[..self.count].iter().filter(|(_, fate)| *fate == Fate::Unknown);
        open.next().map(|(at, _)| *at + patience(rtt))
    }
}

fn patience(rtt: Duration) -> Duration {
    rtt + rtt / 8 + TOLERANCE
}

impl Connection {
    /// An answer to one of our SYNs, the first or a later one.
    pub(super) fn hear_syn_ack(&mut self, now: Time, segment: &Segment<'_>) {
        let acks_our_syn = segment.flags.contains(Flags::SYN | Flags::ACK)
            && segment.ack == self.identity.iss + 1
            && self.snd.extension;
        if let Some(t) = segment.options.timestamps.filter(|_| acks_our_syn)
            && let Some(echo_ms) = self.echoed_ms(now, t.ecr)
        {
            self.opening.syns.on_answer(echo_ms, &mut self.snd.loss_rate);
            self.judge_syns(now);
        }
    }

    pub(super) fn judge_syns(&mut self, now: Time) {
        if self.established && self.snd.extension {
            let is_news = self.opening.syns.judge(now, self.snd.rtt.srtt(), &mut self.snd.loss_rate);
            if is_news && self.snd.loss_rate.is_heavy() {
                self.snd.size.hedge();
            }
        }
    }

    pub(super) fn syn_deadline(&self) -> Option<Time> {
        self.opening.syns.deadline(self.snd.rtt.srtt()).filter(|_| self.established && self.snd.extension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    const RTT: Duration = Duration::from_millis(2000);

    fn logged(sent: &[u64]) -> SynLog {
        let mut log = SynLog::new();
        sent.iter().for_each(|ms| log.on_sent(at(*ms)));
        log
    }

    #[test]
    fn unanswered_syns_among_answered_ones_are_losses() {
        let (mut log, mut rate) = (logged(&[0, 300, 700, 1200, 1800]), LossRate::default());
        log.on_answer(300, &mut rate);
        log.judge(at(2250), RTT, &mut rate);
        assert_eq!(rate, LossRate::of(0.0, 1.0), "nothing is overdue yet");
        log.judge(at(2600), RTT, &mut rate);
        log.on_answer(1200, &mut rate);
        assert_eq!(log.deadline(RTT), Some(at(700 + 2260)));
        log.judge(at(5000), RTT, &mut rate);
        assert_eq!(rate, LossRate::of(6.0, 8.0));
        assert!(rate.is_heavy());
        assert_eq!(log.deadline(RTT), None);
    }

    #[test]
    fn a_listener_that_comes_late_is_not_a_lossy_path() {
        let (mut log, mut rate) = (logged(&[0, 300, 700, 1200, 1800, 2600, 4200]), LossRate::default());
        log.on_answer(4200, &mut rate);
        log.judge(at(4250), Duration::from_millis(50), &mut rate);
        assert_eq!(rate, LossRate::of(4.0, 5.0));
    }

    #[test]
    fn an_answer_counts_once_and_an_echo_of_nothing_never() {
        let (mut log, mut rate) = (logged(&[0, 300]), LossRate::default());
        for echo in [0, 0, 5, 301] {
            log.on_answer(echo, &mut rate);
        }
        assert_eq!(rate, LossRate::of(0.0, 1.0));
    }

    #[test]
    fn more_syns_than_are_remembered_are_no_harm() {
        let mut log = logged(&(0..100).map(|i| i * 1000).collect::<Vec<_>>());
        let mut rate = LossRate::default();
        log.on_answer(99_000, &mut rate);
        log.judge(at(99_050), RTT, &mut rate);
        assert_eq!(rate, LossRate::of(4.0, 4.0));
    }
}
