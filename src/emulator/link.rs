//! One direction of a link.

use super::codel::{CodelQueue, Waiting};
use super::faults::{BurstState, Schedule, flip_bits};
use super::impairments::Impairments;
use super::line::{Serialiser, Wire};
use super::policer::Bucket;
use super::rng::Rng;
use super::stats::LinkStats;
use crate::time::Time;
use std::time::Duration;

/// Buffers kept for reuse; more than this are simply freed.
const POOLED_BUFFERS: usize = 256;
/// The smallest step of time.
const TICK: Duration = Duration::from_nanos(1);

/// A datagram at the far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// What the sender attached.
    pub tag: T,
    /// The moment it was due; not after the `now` of the call.
    pub due: Time,
    /// It carries the mark "congestion experienced" (RFC 3168).
    pub ce: bool,
    /// Its bytes. [`Link::recycle`] takes the buffer back.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Packet<T> {
    /// Which push it came with.
    index: u64,
    copy: bool,
    ce: bool,
    tag: T,
    bytes: Vec<u8>,
}

/// A datagram that has not been served yet.
#[derive(Debug)]
struct Queued<T> {
    luck: Luck,
    packet: Packet<T>,
}

/// A datagram that waits for its successor to pass.
#[derive(Debug)]
struct Held<T> {
    due: Time,
    deadline: Time,
    packet: Packet<T>,
    copy: Option<Packet<T>>,
}

/// One stream of chance per impairment, so that adding one leaves the others' choices alone.
#[derive(Debug)]
struct Streams {
    loss: Rng,
    burst: Rng,
    reorder: Rng,
    late: Rng,
    duplicate: Rng,
    jitter: Rng,
    outage: Rng,
    /// Seeds of a stream per datagram, as how many numbers bit errors take depends on its length.
    bit_errors: u64,
    copy_bit_errors: u64,
}

/// Everything that chance decides about one datagram. Drawn for every datagram that comes in, whatever
/// becomes of it: the k-th datagram's luck depends on k and the seed only.
#[derive(Debug)]
struct Luck {
    lost: bool,
    burst: f64,
    reorder: bool,
    late: bool,
    duplicate: bool,
    jitter: Duration,
    /// Lost should there be an outage.
    outage: bool,
}

// Stream numbers are part of what a seed means: never renumber.
const LOSS: u64 = 1;
const BURST: u64 = 2;
const BURST_STATE: u64 = 3;
const REORDER: u64 = 4;
const LATE: u64 = 5;
const DUPLICATE: u64 = 6;
const JITTER: u64 = 7;
const BIT_ERRORS: u64 = 8;
const COPY_BIT_ERRORS: u64 = 9;
const OUTAGE: u64 = 10;

/// One direction of a bad link. `T` travels with each datagram untouched.
///
/// Time must not go backwards; an earlier push counts as one at the time of the latest. Scheduled impairments count
/// from [`Time::ZERO`]. The same pushes at the same times with the same seed give the same deliveries, no
/// matter how often the link is polled.
///
/// A drop-tail queue knows its schedule, so a datagram passes all stations at once, in [`Link::push`], and
/// only its arrival waits. CoDel decides by the state of the queue at the moment a datagram leaves it; until
/// then the datagram stays in `managed`. Every call first serves what was due before its `now`, and
/// strictly before, so that a call at the same moment comes too early to make a difference.
#[derive(Debug)]
pub struct Link<T = ()> {
    impairments: Impairments,
    streams: Streams,
    burst_state: BurstState,
    blackouts: Schedule,
    policer: Bucket,
    /// What CoDel has not decided on; empty without it.
    managed: CodelQueue<Queued<T>>,
    serialiser: Serialiser,
    wire: Wire<Packet<T>>,
    held: Option<Held<T>>,
    /// The time of the latest push.
    now: Time,
    /// Without `jitter_reorder` nothing arrives before this.
    last_in_order: Time,
    /// The latest push of which a datagram was delivered.
    last_delivered: Option<u64>,
    bytes_in_flight: usize,
    pool: Vec<Vec<u8>>,
    stats: LinkStats,
}

impl<T: Clone> Link<T> {
    /// A link with nothing on it.
    #[must_use]
    pub fn new(impairments: Impairments, seed: u64) -> Self {
        let stream = |number| Rng::stream(seed, number);
        Self {
            streams: Streams {
                loss: stream(LOSS),
                burst: stream(BURST),
                reorder: stream(REORDER),
                late: stream(LATE),
                duplicate: stream(DUPLICATE),
                jitter: stream(JITTER),
                outage: stream(OUTAGE),
                bit_errors: stream(BIT_ERRORS).next_u64(),
                copy_bit_errors: stream(COPY_BIT_ERRORS).next_u64(),
            },
            burst_state: BurstState::new(stream(BURST_STATE)),
            blackouts: Schedule::new(&impairments.blackouts),
            impairments,
            policer: Bucket::default(),
            managed: CodelQueue::new(),
            serialiser: Serialiser::default(),
            wire: Wire::new(),
            held: None,
            now: Time::ZERO,
            last_in_order: Time::ZERO,
            last_delivered: None,
            bytes_in_flight: 0,
            pool: Vec::new(),
            stats: LinkStats::default(),
        }
    }

    /// What is wrong with the link.
    #[must_use]
    pub fn impairments(&self) -> &Impairments {
        &self.impairments
    }

    /// Changes what is wrong with the link for datagrams to come; those on their way keep their fate. The
    /// streams of chance go on where they are. What waits in a queue under CoDel counts as still to come.
    pub fn set_impairments(&mut self, impairments: Impairments) {
        self.blackouts = Schedule::new(&impairments.blackouts);
        self.serialiser.reset_steps();
        self.impairments = impairments;
        if self.impairments.codel.is_none() {
            while let Some(head) = self.managed.pop() {
                self.transmit(head, false);
            }
        }
    }

    /// What has become of the datagrams so far.
    #[must_use]
    pub fn stats(&self) -> &LinkStats {
        &self.stats
    }

    /// Datagrams and copies that are still on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| 1 + usize::from(held.copy.is_some()));
        self.managed.len() + self.wire.len() + held
    }

    /// The payload bytes of those.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    /// When [`Link::poll_delivery`] will have something next, if nothing more is pushed. Under CoDel it may
    /// turn out to be nothing yet: ask again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let deadline = self.held.as_ref().map(|held| held.deadline);
        // Nothing that is served at `start` or later arrives before `start + delay`.
        let undecided = self.next_start().map(|start| start + self.impairments.delay + TICK);
        [self.wire.next_at(), deadline, undecided].into_iter().flatten().min()
    }

    /// Puts a datagram on the link at `now` whose sender does not know ECN.
    pub fn push(&mut self, now: Time, tag: T, datagram: &[u8]) {
        self.push_ecn(now, tag, datagram, false);
    }

    /// Puts a datagram on the link at `now`; with `ect` it is ECN-capable and may arrive marked.
    pub fn push_ecn(&mut self, now: Time, tag: T, datagram: &[u8], ect: bool) {
        self.serve_before(now);
        self.now = self.now.max(now);
        let index = self.stats.packets_in;
        self.stats.packets_in += 1;
        self.stats.bytes_in += datagram.len() as u64;
        let luck = self.draw();
        let size = datagram.len().saturating_add(self.impairments.overhead_bytes);
        if !self.admit(size) {
            return;
        }
        let ce = ect && self.impairments.mark_above_bytes.is_some_and(|limit| self.queued_bytes() > limit);
        self.stats.ce_marked += u64::from(ce);
        let packet = Packet { index, copy: false, ce, tag, bytes: self.buffer(datagram) };
        let queued = Waiting { arrived: self.now, size, ect: ect && !ce, packet: Queued { luck, packet } };
        if self.impairments.codel.is_some() {
            self.managed.push(queued);
        } else {
            self.transmit(queued, false);
        }
        self.stats.queue_bytes_max = self.stats.queue_bytes_max.max(self.queued_bytes());
    }

    /// The next datagram that has arrived by `now`, or `None`. Call it until it gives `None`.
    pub fn poll_delivery(&mut self, now: Time) -> Option<Delivery<T>> {
        self.serve_before(now);
        self.release_at_deadline(now);
        let (due, packet) = self.wire.take_due(now)?;
        self.bytes_in_flight -= packet.bytes.len();
        self.stats.delivered += 1;
        self.stats.bytes_delivered += packet.bytes.len() as u64;
        let overtaken = self.last_delivered.is_some_and(|last| packet.index < last);
        self.stats.reordered += u64::from(overtaken && !packet.copy);
        self.last_delivered = self.last_delivered.max(Some(packet.index));
        Some(Delivery { tag: packet.tag, due, ce: packet.ce, bytes: packet.bytes })
    }

    /// Takes the buffer of a [`Delivery`] back for a later datagram; to drop it instead is fine.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        recycle(&mut self.pool, buffer);
    }

    fn draw(&mut self) -> Luck {
        let (chance, what) = (&mut self.streams, &self.impairments);
        Luck {
            lost: chance.loss.chance(what.loss),
            burst: chance.burst.unit(),
            reorder: chance.reorder.chance(what.reorder),
            late: chance.late.chance(what.late),
            duplicate: chance.duplicate.chance(what.duplicate),
            jitter: what.jitter.mul_f64(chance.jitter.unit()),
            outage: chance.outage.chance(what.outage_loss),
        }
    }

    /// Whether a datagram of `size` bytes gets into the queue.
    fn admit(&mut self, size: usize) -> bool {
        let queued = self.queued_bytes();
        let (what, stats) = (&self.impairments, &mut self.stats);
        let cause = if what.mtu.is_some_and(|mtu| size > mtu) {
            &mut stats.mtu_dropped
        } else if what.policer.is_some_and(|policer| !self.policer.admit(self.now, size, &policer)) {
            &mut stats.policed
        } else if queued > 0 && what.queue_bytes.is_some_and(|limit| queued.saturating_add(size) > limit) {
            &mut stats.queue_dropped
        } else {
            return true;
        };
        *cause += 1;
        false
    }

    fn queued_bytes(&mut self) -> usize {
        self.serialiser.queued_bytes(self.now).saturating_add(self.managed.bytes())
    }

    /// When the next datagram leaves the managed queue.
    fn next_start(&self) -> Option<Time> {
        self.managed.head_arrived().map(|arrived| self.serialiser.free_at(arrived))
    }

    /// Lets CoDel decide on what left its queue before `now`: everything that came by then is known.
    fn serve_before(&mut self, now: Time) {
        let Some(codel) = self.impairments.codel else { return };
        self.now = self.now.max(now);
        while let Some(start) = self.next_start().filter(|start| *start < now) {
            let (stats, pool) = (&mut self.stats, &mut self.pool);
            let mut dropped = |queued: Queued<T>| {
                stats.aqm_dropped += 1;
                self.bytes_in_flight -= queued.packet.bytes.len();
                recycle(pool, queued.packet.bytes);
            };
            let head = self.managed.dequeue(start, &codel, &mut dropped);
            if let Some((head, marked)) = head {
                self.transmit(head, marked);
            }
        }
    }

    /// Takes the next datagram through the serialiser and over the wire.
    fn transmit(&mut self, head: Waiting<Queued<T>>, marked: bool) {
        let Waiting { arrived, size, packet: Queued { luck, mut packet }, .. } = head;
        self.stats.ce_marked += u64::from(marked);
        packet.ce |= marked;
        let Some(sent) = self.survive(&luck, arrived, size) else {
            self.bytes_in_flight -= packet.bytes.len();
            return self.recycle(packet.bytes);
        };
        if self.impairments.ecn_bleach {
            self.stats.ce_bleached += u64::from(packet.ce);
            packet.ce = false;
        }
        let due = self.arrival(&luck, sent);
        self.release_at_deadline(due);

        let copy = luck.duplicate.then(|| {
            let bytes = self.buffer(&packet.bytes);
            let mut copy = Packet { copy: true, tag: packet.tag.clone(), bytes, ..packet };
            self.damage(self.streams.copy_bit_errors, &mut copy);
            copy
        });
        self.damage(self.streams.bit_errors, &mut packet);
        self.stats.duplicated += u64::from(copy.is_some());
        if luck.reorder && self.held.is_none() {
            let deadline = due + self.impairments.reorder_hold;
            self.held = Some(Held { due, deadline, packet, copy });
        } else {
            self.put(due, packet, copy);
            self.release_behind(due);
        }
    }

    /// When the datagram's last bit gets on the wire, unless something loses it there.
    fn survive(&mut self, luck: &Luck, arrived: Time, size: usize) -> Option<Time> {
        let (what, stats) = (&self.impairments, &mut self.stats);
        let Some((started, sent)) =
            self.serialiser.serve(arrived, size, what.rate_bit_per_s, &what.rate_steps)
        else {
            stats.blackout_dropped += 1;
            return None;
        };
        let queue_delay = started.since(arrived);
        stats.served += 1;
        stats.queue_delay_sum += queue_delay;
        stats.queue_delay_max = stats.queue_delay_max.max(queue_delay);

        let burst_loss = what.burst_loss.as_ref().map_or(0.0, |burst| self.burst_state.loss_at(sent, burst));
        let dead = self.blackouts.covers(sent)
            || luck.outage && what.outage.is_some_and(|outage| outage.covers(sent));
        let cause = if dead {
            &mut stats.blackout_dropped
        } else if luck.lost {
            &mut stats.lost
        } else if luck.burst < burst_loss {
            &mut stats.burst_lost
        } else {
            return Some(sent);
        };
        *cause += 1;
        None
    }

    fn arrival(&mut self, luck: &Luck, sent: Time) -> Time {
        let mut due = sent + self.impairments.delay + luck.jitter;
        if !self.impairments.jitter_reorder {
            due = due.max(self.last_in_order);
        }
        self.last_in_order = self.last_in_order.max(due);
        if luck.late {
            self.stats.late += 1;
            due += self.impairments.late_by;
        }
        due
    }

    /// A buffer with `datagram` in it, counted as on its way.
    fn buffer(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut bytes = self.pool.pop().unwrap_or_default();
        bytes.extend_from_slice(datagram);
        self.bytes_in_flight += bytes.len();
        bytes
    }

    /// What bit errors the wire makes in `packet`.
    fn damage(&mut self, seed: u64, packet: &mut Packet<T>) {
        let mut chance = Rng::stream(seed, packet.index);
        let flips = flip_bits(&mut chance, self.impairments.bit_error_rate, &mut packet.bytes);
        self.stats.bits_flipped += flips;
        self.stats.corrupted += u64::from(flips > 0);
    }

    fn put(&mut self, due: Time, packet: Packet<T>, copy: Option<Packet<T>>) {
        self.wire.put(due, packet);
        if let Some(copy) = copy {
            self.wire.put(due + self.impairments.duplicate_delay, copy);
        }
    }

    fn release_at_deadline(&mut self, now: Time) {
        if let Some(held) = self.held.take_if(|held| held.deadline <= now) {
            self.put(held.deadline, held.packet, held.copy);
        }
    }

    /// Lets the held datagram go right behind the one that passes at `passed`.
    fn release_behind(&mut self, passed: Time) {
        if let Some(held) = self.held.take() {
            self.put(held.due.max(passed), held.packet, held.copy);
        }
    }
}

fn recycle(pool: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if pool.len() < POOLED_BUFFERS {
        buffer.clear();
        pool.push(buffer);
    }
}

#[cfg(test)]
mod tests;
