//! One direction of a link.

use super::faults::{BurstState, Schedule, flip_bits};
use super::impairments::Impairments;
use super::line::{Serialiser, Service, Wire};
use super::rng::Rng;
use crate::time::Time;
use std::time::Duration;

/// Buffers kept for reuse; more than this are simply freed.
const POOLED_BUFFERS: usize = 256;

/// What has become of the datagrams of one direction. Each has one fate:
/// `packets_in + duplicated = delivered + lost + burst_lost + blackout_dropped + queue_dropped +
/// mtu_dropped` + those still on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams that came in.
    pub packets_in: u64,
    /// Their payload bytes.
    pub bytes_in: u64,
    /// Datagrams given back, copies included.
    pub delivered: u64,
    /// Their payload bytes.
    pub bytes_delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost by burst loss.
    pub burst_lost: u64,
    /// Lost in a blackout or an outage.
    pub blackout_dropped: u64,
    /// Dropped because the queue was full.
    pub queue_dropped: u64,
    /// Dropped because they were larger than the MTU.
    pub mtu_dropped: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Datagrams and copies put on the wire with at least one bit flipped.
    pub corrupted: u64,
    /// Bits flipped in those.
    pub bits_flipped: u64,
    /// Datagrams delayed by `late_by`.
    pub late: u64,
    /// Datagrams delivered after one that came in later, whatever the cause; copies do not count.
    pub reordered: u64,
    /// Time spent in the queue before service, summed over all datagrams that got to the wire.
    pub queue_delay_sum: Duration,
    /// The longest of these.
    pub queue_delay_max: Duration,
    /// The most bytes that were queued at once.
    pub queue_bytes_max: usize,
}

/// A datagram at the far end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// What the sender attached.
    pub tag: T,
    /// The moment it was due; not after the `now` of the call.
    pub due: Time,
    /// Its bytes. [`Link::recycle`] takes the buffer back.
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
struct Packet<T> {
    /// Which push it came with.
    index: u64,
    copy: bool,
    tag: T,
    bytes: Vec<u8>,
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
    /// Seeds of a stream per datagram, as how many numbers bit errors take depends on its length.
    bit_errors: u64,
    copy_bit_errors: u64,
}

/// Everything that chance decides about one datagram. Drawn for every datagram that comes in, whatever
/// becomes of it: the k-th datagram's luck depends on k and the seed only.
struct Luck {
    lost: bool,
    burst: f64,
    reorder: bool,
    late: bool,
    duplicate: bool,
    jitter: Duration,
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

/// One direction of a bad link. `T` travels with each datagram untouched.
///
/// Time must not go backwards; an earlier push counts as one at the time of the latest. Scheduled impairments count
/// from [`Time::ZERO`]. The same pushes at the same times with the same seed give the same deliveries, no
/// matter how often the link is polled.
#[derive(Debug)]
pub struct Link<T = ()> {
    impairments: Impairments,
    streams: Streams,
    burst_state: BurstState,
    blackouts: Schedule,
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
                bit_errors: stream(BIT_ERRORS).next_u64(),
                copy_bit_errors: stream(COPY_BIT_ERRORS).next_u64(),
            },
            burst_state: BurstState::new(stream(BURST_STATE)),
            blackouts: Schedule::new(&impairments.blackouts),
            impairments,
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
    /// streams of chance go on where they are.
    pub fn set_impairments(&mut self, impairments: Impairments) {
        self.blackouts = Schedule::new(&impairments.blackouts);
        self.serialiser.reset_steps();
        self.impairments = impairments;
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
        self.wire.len() + held
    }

    /// The payload bytes of those.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    /// When [`Link::poll_delivery`] will have something next, if nothing more is pushed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let deadline = self.held.as_ref().map(|held| held.deadline);
        [self.wire.next_at(), deadline].into_iter().flatten().min()
    }

    /// Puts a datagram on the link at `now`.
    pub fn push(&mut self, now: Time, tag: T, datagram: &[u8]) {
        self.now = self.now.max(now);
        let index = self.stats.packets_in;
        self.stats.packets_in += 1;
        self.stats.bytes_in += datagram.len() as u64;
        let luck = self.draw();
        let Some(sent) = self.survive(&luck, datagram.len()) else { return };
        let due = self.arrival(&luck, sent);
        self.release_at_deadline(due);

        let copy = luck.duplicate.then(|| Packet {
            copy: true,
            bytes: self.transmitted(self.streams.copy_bit_errors, index, datagram),
            index,
            tag: tag.clone(),
        });
        let bytes = self.transmitted(self.streams.bit_errors, index, datagram);
        let packet = Packet { index, copy: false, tag, bytes };
        self.stats.duplicated += u64::from(copy.is_some());
        if luck.reorder && self.held.is_none() {
            let deadline = due + self.impairments.reorder_hold;
            self.held = Some(Held { due, deadline, packet, copy });
        } else {
            self.put(due, packet, copy);
            self.release_behind(due);
        }
    }

    /// The next datagram that has arrived by `now`, or `None`. Call it until it gives `None`.
    pub fn poll_delivery(&mut self, now: Time) -> Option<Delivery<T>> {
        self.release_at_deadline(now);
        let (due, packet) = self.wire.take_due(now)?;
        self.bytes_in_flight -= packet.bytes.len();
        self.stats.delivered += 1;
        self.stats.bytes_delivered += packet.bytes.len() as u64;
        let overtaken = self.last_delivered.is_some_and(|last| packet.index < last);
        self.stats.reordered += u64::from(overtaken && !packet.copy);
        self.last_delivered = self.last_delivered.max(Some(packet.index));
        Some(Delivery { tag: packet.tag, due, bytes: packet.bytes })
    }

    /// Takes the buffer of a [`Delivery`] back for a later datagram; to drop it instead is fine.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.pool.len() < POOLED_BUFFERS {
            buffer.clear();
            self.pool.push(buffer);
        }
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
        }
    }

    /// When the datagram's last bit gets on the wire, unless something loses it before or there.
    fn survive(&mut self, luck: &Luck, len: usize) -> Option<Time> {
        let (what, stats) = (&self.impairments, &mut self.stats);
        let size = len.saturating_add(what.overhead_bytes);
        if what.mtu.is_some_and(|mtu| size > mtu) {
            stats.mtu_dropped += 1;
            return None;
        }
        let service =
            self.serialiser.offer(self.now, size, what.queue_bytes, what.rate_bit_per_s, &what.rate_steps);
        let (started, sent) = match service {
            Service::Sent { started, sent } => (started, sent),
            Service::QueueFull => {
                stats.queue_dropped += 1;
                return None;
            }
            Service::Never => {
                stats.blackout_dropped += 1;
                return None;
            }
        };
        let queue_delay = started.since(self.now);
        stats.queue_delay_sum += queue_delay;
        stats.queue_delay_max = stats.queue_delay_max.max(queue_delay);
        stats.queue_bytes_max = stats.queue_bytes_max.max(self.serialiser.queued_bytes());

        let burst_loss = what.burst_loss.as_ref().map_or(0.0, |burst| self.burst_state.loss_at(sent, burst));
        let dead = self.blackouts.covers(sent) || what.outage.is_some_and(|outage| outage.covers(sent));
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

    /// The bytes of the `index`-th datagram as the wire leaves them.
    fn transmitted(&mut self, seed: u64, index: u64, datagram: &[u8]) -> Vec<u8> {
        let mut bytes = self.pool.pop().unwrap_or_default();
        bytes.extend_from_slice(datagram);
        let flips = flip_bits(&mut Rng::stream(seed, index), self.impairments.bit_error_rate, &mut bytes);
        self.stats.bits_flipped += flips;
        self.stats.corrupted += u64::from(flips > 0);
        self.bytes_in_flight += bytes.len();
        bytes
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

#[cfg(test)]
mod tests;
