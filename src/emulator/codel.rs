//! CoDel (RFC 8289): a queue that drops or marks when datagrams leave it, by how long they have waited.

use super::impairments::Codel;
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// After less than so many intervals without a drop the next spell begins at the rate the last one ended
/// with (RFC 8289 section 5.5, `deque`).
const REMEMBERED_INTERVALS: u32 = 16;

/// One datagram in the queue.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    pub(super) arrived: Time,
    /// Bytes it takes in the queue.
    pub(super) size: usize,
    /// The sender understands a mark.
    pub(super) ect: bool,
    pub(super) packet: P,
}

/// A FIFO under CoDel, with the names of RFC 8289 section 5.
#[derive(Debug)]
pub(super) struct CodelQueue<P> {
    waiting: VecDeque<Waiting<P>>,
    bytes: usize,
    /// The largest datagram so far: a queue no longer than one is never shortened.
    max_packet: usize,
    first_above_time: Option<Time>,
    drop_next: Time,
    count: u32,
    last_count: u32,
    is_dropping: bool,
}

impl<P> CodelQueue<P> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            max_packet: 0,
            first_above_time: None,
            drop_next: Time::ZERO,
            count: 0,
            last_count: 0,
            is_dropping: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn head_arrived(&self) -> Option<Time> {
        self.waiting.front().map(|head| head.arrived)
    }

    pub(super) fn push(&mut self, packet: Waiting<P>) {
        self.bytes += packet.size;
        self.max_packet = self.max_packet.max(packet.size);
        self.waiting.push_back(packet);
    }

    /// The head whatever CoDel thinks of it.
    pub(super) fn pop(&mut self) -> Option<Waiting<P>> {
        let head = self.waiting.pop_front()?;
        self.bytes -= head.size;
        Some(head)
    }

    /// The datagram to serve at `now`, and whether it is to be marked; those before it go to `dropped`.
    pub(super) fn dequeue(
        &mut self,
        now: Time,
        law: &Codel,
        dropped: &mut impl FnMut(P),
    ) -> Option<(Waiting<P>, bool)> {
        let (mut head, mut ok_to_drop) = self.examine(now, law)?;
        if !self.is_dropping {
            if !ok_to_drop {
                return Some((head, false));
            }
            self.begin_dropping(now, law);
            if law.ecn && head.ect {
                return Some((head, true));
            }
            dropped(head.packet);
            return self.examine(now, law).map(|(next, _)| (next, false));
        }
        self.is_dropping = ok_to_drop;
        while self.is_dropping && now >= self.drop_next {
            self.count = self.count.saturating_add(1);
            if law.ecn && head.ect {
                self.drop_next += self.spacing(law);
                return Some((head, true));
            }
            dropped(head.packet);
            (head, ok_to_drop) = self.examine(now, law)?;
            if ok_to_drop {
                self.drop_next += self.spacing(law);
            }
            self.is_dropping = ok_to_drop;
        }
        Some((head, false))
    }

    /// `dodequeue`: the head, and whether the queue has been standing for an interval.
    fn examine(&mut self, now: Time, law: &Codel) -> Option<(Waiting<P>, bool)> {
        let Some(head) = self.pop() else {
            (self.first_above_time, self.is_dropping) = (None, false);
            return None;
        };
        if now.since(head.arrived) < law.target || self.bytes <= self.max_packet {
            self.first_above_time = None;
            return Some((head, false));
        }
        let due = *self.first_above_time.get_or_insert(now + law.interval);
        Some((head, now >= due))
    }

    fn begin_dropping(&mut self, now: Time, law: &Codel) {
        self.is_dropping = true;
        let delta = self.count.saturating_sub(self.last_count);
        let is_recent = now.since(self.drop_next) < law.interval * REMEMBERED_INTERVALS;
        self.count = if delta > 1 && is_recent { delta } else { 1 };
        self.last_count = self.count;
        self.drop_next = now + self.spacing(law);
    }

    /// `control_law`: drops come closer and closer, so that a loss-based sender's rate falls linearly.
    fn spacing(&self, law: &Codel) -> Duration {
        law.interval.div_f64(f64::from(self.count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAW: Codel =
        Codel { target: Duration::from_millis(5), interval: Duration::from_millis(100), ecn: false };

    fn at_ms(n: u64) -> Time {
        Time::ZERO + Duration::from_millis(n)
    }

    /// Serves one datagram every millisecond out of a queue that is kept `standing_ms` long; gives the
    /// milliseconds of drops and of marks.
    fn serve(law: &Codel, millis: std::ops::Range<u64>, standing_ms: u64, ect: bool) -> [Vec<u64>; 2] {
        let mut queue = CodelQueue::new();
        serve_from(&mut queue, law, millis, standing_ms, ect)
    }

    fn serve_from(
        queue: &mut CodelQueue<()>,
        law: &Codel,
        millis: std::ops::Range<u64>,
        standing_ms: u64,
        ect: bool,
    ) -> [Vec<u64>; 2] {
        let (mut drops, mut marks) = (vec![], vec![]);
        while queue.pop().is_some() {}
        for now in millis {
            // What is at the head now came `standing_ms` ago; the backlog is as many datagrams.
            while queue.len() as u64 <= standing_ms + 1 {
                let arrived = at_ms(now.saturating_sub(standing_ms));
                queue.push(Waiting { arrived, size: 1_000, ect, packet: () });
            }
            for waiting in &mut queue.waiting {
                waiting.arrived = at_ms(now.saturating_sub(standing_ms));
            }
            if let Some((_, true)) = queue.dequeue(at_ms(now), law, &mut |()| drops.push(now)) {
                marks.push(now);
            }
        }
        [drops, marks]
    }

    #[test]
    fn a_queue_below_target_is_left_alone_however_long_it_stands() {
        assert_eq!(serve(&LAW, 1_000..10_000, 4, false), [vec![], vec![]]);
    }

    #[test]
    fn drops_begin_an_interval_after_target_and_come_closer_by_the_square_root_of_their_number() {
        let [drops, _] = serve(&LAW, 1_000..1_600, 10, false);
        // 100 ms after the first look, then 100, 100 / sqrt 2, 100 / sqrt 3 ... later.
        let mut expected = vec![1_100.0, 1_200.0];
        for n in 2..10 {
            expected.push(expected[n - 1] + 100.0 / (n as f64).sqrt());
        }
        let expected: Vec<u64> = expected.iter().map(|at: &f64| at.ceil() as u64).collect();
        assert_eq!(drops[..7], expected[..7]);
    }

    #[test]
    fn marks_take_the_place_of_drops_for_datagrams_that_understand_them() {
        let [drops, _] = serve(&LAW, 1_000..3_000, 10, false);
        let ecn = Codel { ecn: true, ..LAW };
        assert_eq!(serve(&ecn, 1_000..3_000, 10, true), [vec![], drops.clone()]);
        assert_eq!(serve(&ecn, 1_000..3_000, 10, false), [drops.clone(), vec![]]);
        assert_eq!(serve(&LAW, 1_000..3_000, 10, true), [drops, vec![]], "ECN is off on this link");
    }

    #[test]
    fn a_new_spell_soon_after_the_last_goes_on_at_its_rate_and_a_late_one_starts_anew() {
        let second_spell = |pause: u64| {
            let mut queue = CodelQueue::new();
            let end = 5_000;
            serve_from(&mut queue, &LAW, 1_000..end, 10, false);
            serve_from(&mut queue, &LAW, end..end + pause, 0, false);
            serve_from(&mut queue, &LAW, end + pause..end + pause + 400, 10, false)[0].len()
        };
        assert!(second_spell(50) > 30, "{}", second_spell(50));
        assert_eq!(second_spell(5_000), 5);
    }

    #[test]
    fn the_last_datagrams_of_a_flow_are_not_dropped() {
        let mut queue = CodelQueue::new();
        for tag in 0..3 {
            queue.push(Waiting { arrived: Time::ZERO, size: 1_000, ect: false, packet: tag });
        }
        let mut dropped = vec![];
        let served: Vec<_> = (0..4)
            .map(|k| queue.dequeue(at_ms(200 + 200 * k), &LAW, &mut |tag| dropped.push(tag)))
            .map(|head| head.map(|(head, _)| head.packet))
            .collect();
        assert_eq!((served, dropped), (vec![Some(0), Some(1), Some(2), None], vec![]));
    }
}
