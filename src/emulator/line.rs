//! The two waiting places of a link: the serialiser with its queue, and the wire.

use super::impairments::RateStep;
use crate::time::Time;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A FIFO drained at a rate that changes at given times. Its schedule is known, so the moment a packet's
/// last bit leaves is settled when it arrives.
#[derive(Debug, Default)]
pub(super) struct Serialiser {
    /// When each queued packet will have left, and its size.
    queue: VecDeque<(Time, usize)>,
    queued_bytes: usize,
    busy_until: Time,
    /// What is left of `busy_until`'s nanosecond, in bits × ns/s, so that rounding never adds up.
    remainder: u128,
    /// The first step that `busy_until` has not passed.
    next_step: usize,
}

impl Serialiser {
    /// Forgets which rate steps have passed, because there are others now. Packets in the queue keep theirs.
    pub(super) fn reset_steps(&mut self) {
        self.next_step = 0;
    }

    /// Bytes of the packets that have a place in the schedule and have not left by `now`.
    pub(super) fn queued_bytes(&mut self, now: Time) -> usize {
        self.drain(now);
        self.queued_bytes
    }

    /// When a packet that arrived at `arrived` would be served next.
    pub(super) fn free_at(&self, arrived: Time) -> Time {
        self.busy_until.max(arrived)
    }

    /// Serves a packet of `size` bytes that came at `arrived` after all before it: when its service starts
    /// and when its last bit leaves. `None`: the rate is zero for ever.
    pub(super) fn serve(
        &mut self,
        arrived: Time,
        size: usize,
        rate: Option<u64>,
        steps: &[RateStep],
    ) -> Option<(Time, Time)> {
        let started = self.free_at(arrived);
        let carried = if started == self.busy_until { self.remainder } else { 0 };
        let (sent, remainder) = self.finish(started, carried, size, rate, steps)?;
        (self.busy_until, self.remainder) = (sent, remainder);
        if sent > arrived {
            self.queue.push_back((sent, size));
            self.queued_bytes = self.queued_bytes.saturating_add(size);
        }
        Some((started, sent))
    }

    fn drain(&mut self, now: Time) {
        while let Some(&(gone, size)) = self.queue.front()
            && gone <= now
        {
            self.queue.pop_front();
            self.queued_bytes -= size;
        }
    }

    /// When `size` bytes that start at `start` have left, and the remainder. `None` is never.
    fn finish(
        &mut self,
        start: Time,
        carried: u128,
        size: usize,
        base_rate: Option<u64>,
        steps: &[RateStep],
    ) -> Option<(Time, u128)> {
        while self.next_step < steps.len() && steps[self.next_step].at <= start {
            self.next_step += 1;
        }
        let mut rate = if self.next_step == 0 { base_rate } else { steps[self.next_step - 1].rate_bit_per_s };
        let mut work = size as u128 * 8 * NANOS_PER_SECOND + carried;
        let mut at = start;
        for step in &steps[self.next_step..] {
            let Some(bits_per_s) = rate else { break };
            let room = step.at.since(at).as_nanos() * u128::from(bits_per_s);
            if work < room {
                break;
            }
            work -= room;
            (at, rate) = (at.max(step.at), step.rate_bit_per_s);
        }
        match rate {
            None => Some((at, 0)),
            Some(0) => None,
            Some(bits_per_s) => {
                let nanos = u64::try_from(work / u128::from(bits_per_s)).ok()?;
                let sent = at.as_nanos().checked_add(nanos)?;
                Some((Time::from_nanos(sent), work % u128::from(bits_per_s)))
            }
        }
    }
}

/// What is on the wire, by time of arrival; equal times keep the order they were put in.
#[derive(Debug)]
pub(super) struct Wire<P> {
    heap: BinaryHeap<Reverse<Due<P>>>,
    order: u64,
}

#[derive(Debug)]
struct Due<P> {
    key: (Time, u64),
    packet: P,
}

impl<P> PartialEq for Due<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<P> Eq for Due<P> {}
impl<P> PartialOrd for Due<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for Due<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl<P> Wire<P> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }

    pub(super) fn put(&mut self, at: Time, packet: P) {
        self.heap.push(Reverse(Due { key: (at, self.order), packet }));
        self.order += 1;
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(due)| due.key.0)
    }

    pub(super) fn take_due(&mut self, now: Time) -> Option<(Time, P)> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| (due.key.0, due.packet))
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
