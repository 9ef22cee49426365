//! Deadlines of many connections: an indexed binary heap that moves entries only when it must.

use crate::time::Time;

const ABSENT: u32 = u32::MAX;

/// One deadline per token (a small integer), exact to the nanosecond; the earliest is known in O(1).
///
/// A deadline that moves later, which is what almost every ACK does, is only written down: its heap entry
/// stays put until it comes to the top. An earlier one moves up in O(log n).
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// (sort key, token); the key is never later than the token's deadline.
    heap: Vec<(Time, u32)>,
    /// By token: place in `heap` or `ABSENT`, and the deadline (`Time::MAX`: none).
    tokens: Vec<(u32, Time)>,
}

impl Timers {
    /// Sets or clears the deadline of `token`.
    pub(super) fn set(&mut self, token: u32, deadline: Option<Time>) {
        let index = token as usize;
        if self.tokens.len() <= index {
            if deadline.is_none() {
                return;
            }
            self.tokens.resize(index + 1, (ABSENT, Time::MAX));
        }
        let deadline = deadline.unwrap_or(Time::MAX);
        self.tokens[index].1 = deadline;
        let place = self.tokens[index].0;
        if place == ABSENT {
            if deadline == Time::MAX {
                return;
            }
            self.heap.push((deadline, token));
            self.sift_up(self.heap.len() - 1);
        } else if deadline < self.heap[place as usize].0 {
            self.heap[place as usize].0 = deadline;
            self.sift_up(place as usize);
        }
        self.settle();
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.heap.first().map(|&(key, _)| key)
    }

    /// Takes out one token whose deadline is `now` or earlier.
    pub(super) fn expire(&mut self, now: Time) -> Option<u32> {
        let &(key, token) = self.heap.first()?;
        if key > now {
            return None;
        }
        self.set(token, None);
        Some(token)
    }

    /// Makes the top entry's key its true deadline.
    fn settle(&mut self) {
        while let Some(&(key, token)) = self.heap.first() {
            let deadline = self.tokens[token as usize].1;
            if deadline == key {
                break;
            }
            if deadline == Time::MAX {
                self.tokens[token as usize].0 = ABSENT;
                self.heap.swap_remove(0);
            } else {
                self.heap[0].0 = deadline;
            }
            self.sift_down();
        }
    }

    fn sift_up(&mut self, mut child: usize) {
        while child > 0 {
            let parent = (child - 1) / 2;
            if self.heap[parent].0 <= self.heap[child].0 {
                break;
            }
            self.heap.swap(parent, child);
            self.record(child);
            child = parent;
        }
        self.record(child);
    }

    fn sift_down(&mut self) {
        if self.heap.is_empty() {
            return;
        }
        let mut parent = 0;
        loop {
            let mut least = parent;
            for child in [2 * parent + 1, 2 * parent + 2] {
                if child < self.heap.len() && self.heap[child].0 < self.heap[least].0 {
                    least = child;
                }
            }
            if least == parent {
                break;
            }
            self.heap.swap(parent, least);
            self.record(parent);
            parent = least;
        }
        self.record(parent);
    }

    fn record(&mut self, place: usize) {
        let token = self.heap[place].1;
        self.tokens[token as usize].0 = place as u32;
    }

    /// The heap order, the back references, and no key later than its deadline.
    #[cfg(debug_assertions)]
    pub(super) fn assert_invariants(&self) {
        for (place, &(key, token)) in self.heap.iter().enumerate() {
            assert!(place == 0 || self.heap[(place - 1) / 2].0 <= key);
            assert_eq!(self.tokens[token as usize].0 as usize, place);
            assert!(key <= self.tokens[token as usize].1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec((0u32..20, prop::option::of(0u64..50), any::<bool>()), 1..200)) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::<u32, u64>::new());
            for (token, deadline, expire) in steps {
                if expire {
                    let now = deadline.unwrap_or(10);
                    while let Some(fired) = timers.expire(Time::from_nanos(now)) {
                        let due = model.remove(&fired).expect("fired without a deadline");
                        prop_assert!(due <= now);
                        prop_assert!(model.values().all(|other| *other >= due), "out of order");
                    }
                    prop_assert!(model.values().all(|due| *due > now), "one was missed");
                } else {
                    timers.set(token, deadline.map(Time::from_nanos));
                    match deadline {
                        Some(at) => { model.insert(token, at); }
                        None => { model.remove(&token); }
                    }
                }
                timers.assert_invariants();
                prop_assert_eq!(timers.next(), model.values().min().map(|at| Time::from_nanos(*at)));
            }
        }
    }

    /// As many deadlines as connections that a host may have, each postponed once, as ACKs do.
    #[test]
    fn a_million_timers_cost_each_other_little() {
        const COUNT: u32 = 1_000_000;
        let at = |token: u32| Time::from_nanos(u64::from(token.wrapping_mul(2_654_435_761)));
        let mut timers = Timers::default();
        // A look at all of them for each one would take an hour.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(600);
        for token in 0..COUNT {
            timers.set(token, Some(at(token)));
        }
        for token in 0..COUNT {
            timers.set(token, Some(at(token) + std::time::Duration::from_secs(10)));
        }
        let (mut last, mut expired) = (Time::ZERO, 0);
        while let Some(token) = timers.expire(Time::MAX) {
            assert!(at(token) >= last, "in order");
            assert!(std::time::Instant::now() < limit, "{expired} expired");
            (last, expired) = (at(token), expired + 1);
        }
        assert_eq!((expired, timers.next()), (COUNT, None));
    }
}
