//! Many flows through one bottleneck, in virtual time.
//!
//! Every sender's datagrams go through one shared link, every receiver's through another one back, so flows
//! meet in a queue as they do at a router. The work per event does not grow with the number of flows: timers
//! lie in a heap, and only the connection that an event is for is looked at.
#![allow(dead_code)] // each test program uses a part of it

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use rtcp::connection::congestion::Controller;
use rtcp::connection::{
    Config, Connection, Identity, Offer, ReadError, Stats, Terms, WriteError, emit_syn_ack,
};
use rtcp::emulator::{Delivery, Impairments, Link, LinkStats, Rng};
use rtcp::time::Time;
use rtcp::wire::{Flags, Segment, SeqNum, checksum_ok, crc_key, crc_ok};

/// Length of the payload pattern's period: prime, so that no segment size or buffer size divides it.
const PERIOD: u64 = 65_521;
/// Most segments in one `poll_transmit`.
const BATCH: usize = 16;
/// Hosts have run for a day when a simulation begins: what a connection takes for long ago without having been told so
/// would show in no simulation that begins with the clock.
fn uptime(now: Time) -> Time {
    now + Duration::from_secs(86_400)
}

/// How often an application that has not always more to say looks whether it has.
const SAY: Duration = Duration::from_millis(1);
/// Work within one moment after which the world is said to spin.
const SPIN_LIMIT: u32 = 1_000_000;

/// One transfer from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Of the sender; the receiver takes the same one.
    pub(crate) config: Config,
    /// Of the sender, instead of the one that `config` names.
    pub(crate) controller: Option<fn() -> Box<dyn Controller>>,
    pub(crate) start: Duration,
    /// `None` never ends.
    pub(crate) bytes: Option<u64>,
    /// How many bytes the application has had to say a time after the beginning; `None`: always more.
    pub(crate) said: Option<fn(Duration) -> u64>,
    /// Nothing more is written from then on, so the stream ends.
    pub(crate) stop: Option<Duration>,
    /// How long after a datagram's arrival, or after a deadline, either end's host gets to it; what came
    /// meanwhile it takes with it. Zero is a host that takes each datagram by itself.
    pub(crate) lag: Duration,
    /// Added on its way back, beyond the shared link: its round trip is so much longer.
    pub(crate) extra_delay: Duration,
}

impl Flow {
    /// Endless, from the beginning.
    pub(crate) fn endless(config: Config) -> Self {
        let (start, lag, extra_delay) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { config, controller: None, start, bytes: None, said: None, stop: None, lag, extra_delay }
    }
}

/// What happened to one flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlowReport {
    /// Bytes that the receiving application read within the window, and in all.
    pub(crate) delivered: u64,
    pub(crate) delivered_in_all: u64,
    /// Payload bytes that left the sender within the window, and in all.
    pub(crate) sent: u64,
    pub(crate) sent_in_all: u64,
    /// Those of them, in all, that had been sent before.
    pub(crate) resent: u64,
    pub(crate) first_byte: Option<Time>,
    pub(crate) last_byte: Option<Time>,
    /// When the receiving application learned that there is no more.
    pub(crate) end_of_stream: Option<Time>,
    /// When a flow with an end had its last byte acknowledged.
    pub(crate) finished: Option<Time>,
    /// Of the sender, at the end.
    pub(crate) stats: Stats,
    pub(crate) algorithm: &'static str,
}

impl FlowReport {
    /// Payload bytes sent for each one delivered, over its whole life.
    pub(crate) fn waste(&self) -> f64 {
        self.sent_in_all as f64 / self.delivered_in_all.max(1) as f64
    }
}

/// What happened in one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) flows: Vec<FlowReport>,
    /// The length of the window, or of what there was of it when all flows were acknowledged.
    pub(crate) window: Duration,
    /// Of the shared link to the right: over the whole run, and over the window.
    pub(crate) link: LinkStats,
    pub(crate) link_in_window: LinkStats,
    pub(crate) back: LinkStats,
    /// When it ended.
    pub(crate) end: Time,
}

impl Report {
    /// Bits per second that flow `index` delivered over the window.
    pub(crate) fn goodput(&self, index: usize) -> f64 {
        self.flows[index].delivered as f64 * 8.0 / self.window.as_secs_f64()
    }

    /// Of all flows together.
    pub(crate) fn total_goodput(&self) -> f64 {
        (0..self.flows.len()).map(|index| self.goodput(index)).sum()
    }

    /// What share of the delivered bytes flow `index` got.
    pub(crate) fn share(&self, index: usize) -> f64 {
        self.goodput(index) / self.total_goodput()
    }

    /// Jain's index of the goodputs: 1 is equal shares, 1/n is one taking all.
    pub(crate) fn jain(&self) -> f64 {
        let squares: f64 = (0..self.flows.len()).map(|index| self.goodput(index).powi(2)).sum();
        self.total_goodput().powi(2) / (self.flows.len() as f64 * squares)
    }

    /// Payload bytes sent for each one delivered, by all flows over the whole run.
    pub(crate) fn waste(&self) -> f64 {
        let sum = |of: fn(&FlowReport) -> u64| self.flows.iter().map(of).sum::<u64>() as f64;
        sum(|flow| flow.sent_in_all) / sum(|flow| flow.delivered_in_all).max(1.0)
    }

    /// Datagrams dropped before the wire for each one that came in, within the window.
    pub(crate) fn congestion_loss(&self) -> f64 {
        dropped_share(&self.link_in_window)
    }
}

/// Datagrams dropped before the wire for each one that came in.
pub(crate) fn dropped_share(link: &LinkStats) -> f64 {
    (link.queue_dropped + link.aqm_dropped + link.policed) as f64 / link.packets_in.max(1) as f64
}

/// What is to be simulated.
#[derive(Clone, Debug)]
pub(crate) struct Dumbbell {
    /// The shared link that carries data, and the one that carries acknowledgements.
    pub(crate) forward: Impairments,
    pub(crate) back: Impairments,
    pub(crate) flows: Vec<Flow>,
    pub(crate) seed: u64,
}

impl Dumbbell {
    /// Runs until `end`, or until all flows are acknowledged; figures are of the part within `window`.
    pub(crate) fn run(&self, end: Duration, window: Range<Duration>) -> Report {
        self.run_watched(end, window, Duration::MAX, |_, _, _| {})
    }

    /// Like [`Self::run`]; every `interval` shows each sender that has begun: when, which, its statistics.
    pub(crate) fn run_watched(
        &self,
        end: Duration,
        window: Range<Duration>,
        interval: Duration,
        mut watch: impl FnMut(Duration, usize, &Connection),
    ) -> Report {
        let mut world = World::new(self);
        let (begin, end) = (Time::ZERO + window.start, Time::ZERO + end);
        world.run_until(begin.min(end), interval, &mut watch);
        let before: Vec<_> = world.pipes.iter().map(|pipe| pipe.report.clone()).collect();
        let link_before = world.links[RIGHT].stats().clone();
        world.run_until((Time::ZERO + window.end).min(end), interval, &mut watch);
        let link_in_window = difference(world.links[RIGHT].stats(), &link_before);
        let after: Vec<_> = world.pipes.iter().map(|pipe| pipe.report.clone()).collect();
        let window = world.now.since(begin);
        world.run_until(end, interval, &mut watch);
        let flows = world.pipes.iter().zip(before.iter().zip(&after)).map(|(pipe, (before, after))| {
            let report = FlowReport {
                delivered: after.delivered_in_all - before.delivered_in_all,
                sent: after.sent_in_all - before.sent_in_all,
                ..pipe.report.clone()
            };
            FlowReport {
                stats: pipe.ends[LEFT].connection.as_ref().map_or(report.stats, |c| c.stats()),
                ..report
            }
        });
        Report {
            flows: flows.collect(),
            window,
            link_in_window,
            link: world.links[RIGHT].stats().clone(),
            back: world.links[LEFT].stats().clone(),
            end: world.now,
        }
    }
}

/// The counters of `after` that did not happen before; its maxima are those of the whole run.
fn difference(after: &LinkStats, before: &LinkStats) -> LinkStats {
    LinkStats {
        packets_in: after.packets_in - before.packets_in,
        bytes_in: after.bytes_in - before.bytes_in,
        delivered: after.delivered - before.delivered,
        bytes_delivered: after.bytes_delivered - before.bytes_delivered,
        lost: after.lost - before.lost,
        burst_lost: after.burst_lost - before.burst_lost,
        queue_dropped: after.queue_dropped - before.queue_dropped,
        aqm_dropped: after.aqm_dropped - before.aqm_dropped,
        policed: after.policed - before.policed,
        ce_marked: after.ce_marked - before.ce_marked,
        served: after.served - before.served,
        queue_delay_sum: after.queue_delay_sum - before.queue_delay_sum,
        ..after.clone()
    }
}

/// The sides, and the links by the side they lead to.
const LEFT: usize = 0;
const RIGHT: usize = 1;

/// A connection, as soon as there is one.
struct End {
    connection: Option<Connection>,
    identity: Identity,
    config: Config,
    controller: Option<fn() -> Box<dyn Controller>>,
    half_open: Option<(Offer, Terms, Option<Time>)>,
    /// The earliest timer event in the heap that is not yet over.
    wakes_at: Time,
    /// What waits in the socket for the host.
    inbox: Vec<(Vec<u8>, bool)>,
}

/// One flow at work: the sender on the left, the receiver on the right.
struct Pipe {
    ends: [End; 2],
    bytes: Option<u64>,
    said: Option<fn(Duration) -> u64>,
    stop: Time,
    lag: Duration,
    extra_delay: Duration,
    /// The furthest stream position sent; the pattern's first byte.
    sent_to: u64,
    skew: u64,
    report: FlowReport,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The sender dials.
    Start(usize),
    /// An application that has not always more to say may have now.
    Say(usize),
    /// A deadline of the connection of this flow and side.
    Timer(usize, usize),
    /// The host of this flow and side gets to what waits in its socket.
    Wake(usize, usize),
    /// A datagram arrives after its flow's extra delay.
    Arrival(usize, Vec<u8>, bool),
}

struct World {
    now: Time,
    /// By the side they lead to.
    links: [Link<usize>; 2],
    pipes: Vec<Pipe>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    order: u64,
    /// Two periods of the pattern: any stretch of one period is contiguous.
    pattern: Vec<u8>,
    out: Vec<u8>,
    read: Vec<u8>,
    unfinished: usize,
    next_watch: Time,
}

impl World {
    fn new(what: &Dumbbell) -> Self {
        let mut chance = Rng::stream(what.seed, 1_000);
        let period: Vec<u8> = (0..PERIOD).map(|_| chance.next_u64() as u8).collect();
        let mut world = Self {
            now: Time::ZERO,
            links: [
                Link::new(what.back.clone(), Rng::stream(what.seed, 1_001).next_u64()),
                Link::new(what.forward.clone(), what.seed),
            ],
            pipes: what.flows.iter().map(|flow| Pipe::new(flow, &mut chance)).collect(),
            events: BinaryHeap::new(),
            order: 0,
            pattern: period.repeat(2),
            out: Vec::with_capacity(1 << 16),
            read: vec![0; PERIOD as usize],
            unfinished: what.flows.len(),
            next_watch: Time::ZERO,
        };
        for (index, flow) in what.flows.iter().enumerate() {
            world.schedule(Time::ZERO + flow.start, Event::Start(index));
            if flow.said.is_some() {
                world.schedule(Time::ZERO + flow.start + SAY, Event::Say(index));
            }
        }
        world
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn run_until(
        &mut self,
        end: Time,
        interval: Duration,
        watch: &mut impl FnMut(Duration, usize, &Connection),
    ) {
        let (mut moment, mut rounds) = (self.now, 0);
        while self.unfinished > 0 {
            let heap = self.events.peek().map(|Reverse(next)| next.0);
            let links = self.links.iter().filter_map(Link::poll_timeout);
            let next = links.chain(heap).min().unwrap_or(Time::MAX);
            if interval < Duration::MAX && self.next_watch <= next.min(end) {
                self.show(watch);
                self.next_watch += interval;
                continue;
            }
            if next > end {
                break;
            }
            rounds = if next > moment { 0 } else { rounds + 1 };
            assert!(rounds < SPIN_LIMIT, "the world spins at {:?}", self.now);
            moment = moment.max(next);
            self.now = moment;
            self.step();
        }
        if self.unfinished > 0 {
            self.now = end;
        }
    }

    fn show(&self, watch: &mut impl FnMut(Duration, usize, &Connection)) {
        for (index, pipe) in self.pipes.iter().enumerate() {
            if let Some(connection) = &pipe.ends[LEFT].connection {
                watch(self.next_watch.since(Time::ZERO), index, connection);
            }
        }
    }

    /// Lets everything happen that is due now.
    fn step(&mut self) {
        for side in [LEFT, RIGHT] {
            while let Some(delivery) = self.links[side].poll_delivery(self.now) {
                let Delivery { tag: flow, bytes, ce, .. } = delivery;
                let extra = self.pipes[flow].extra_delay;
                if side == LEFT && extra > Duration::ZERO {
                    self.schedule(self.now + extra, Event::Arrival(flow, bytes, ce));
                } else {
                    self.arrive(flow, side, bytes, ce);
                }
            }
        }
        while self.events.peek().is_some_and(|Reverse(next)| next.0 <= self.now) {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            match event {
                Event::Start(flow) => {
                    let end = &mut self.pipes[flow].ends[LEFT];
                    let mut connection = Connection::connect(uptime(self.now), &end.config, end.identity);
                    if let Some(controller) = end.controller {
                        connection.set_controller(controller());
                    }
                    end.connection = Some(connection);
                    self.attend(flow, LEFT);
                }
                Event::Say(flow) => {
                    self.attend(flow, LEFT);
                    if self.unfinished > 0 {
                        self.schedule(self.now + SAY, Event::Say(flow));
                    }
                }
                Event::Timer(flow, side) => {
                    let end = &mut self.pipes[flow].ends[side];
                    if end.wakes_at != at {
                        continue; // an earlier one took its place
                    }
                    end.wakes_at = Time::MAX;
                    self.take_inbox(flow, side);
                    if let Some(connection) = &mut self.pipes[flow].ends[side].connection {
                        connection.handle_timeout(uptime(self.now));
                    }
                    self.attend(flow, side);
                }
                Event::Wake(flow, side) => {
                    if self.take_inbox(flow, side) {
                        self.attend(flow, side);
                    }
                }
                Event::Arrival(flow, bytes, ce) => self.arrive(flow, LEFT, bytes, ce),
            }
        }
    }

    fn arrive(&mut self, flow: usize, side: usize, datagram: Vec<u8>, ce: bool) {
        let pipe = &mut self.pipes[flow];
        let (lag, inbox) = (pipe.lag, &mut pipe.ends[side].inbox);
        inbox.push((datagram, ce));
        if lag == Duration::ZERO {
            self.take_inbox(flow, side);
            self.attend(flow, side);
        } else if inbox.len() == 1 {
            self.schedule(self.now + lag, Event::Wake(flow, side));
        }
    }

    /// The connection's turn with all that came; false if nothing did.
    fn take_inbox(&mut self, flow: usize, side: usize) -> bool {
        let mut inbox = std::mem::take(&mut self.pipes[flow].ends[side].inbox);
        let is_news = !inbox.is_empty();
        for (datagram, ce) in inbox.drain(..) {
            if let Some(reply) = self.pipes[flow].ends[side].receive(uptime(self.now), &datagram, ce) {
                self.links[1 - side].push(self.now, flow, &reply);
            }
            self.links[side].recycle(datagram);
        }
        self.pipes[flow].ends[side].inbox = inbox;
        is_news
    }

    /// The application's turn and the connection's, after something happened to it.
    fn attend(&mut self, flow: usize, side: usize) {
        let pipe = &mut self.pipes[flow];
        if pipe.ends[side].connection.is_none() {
            return;
        }
        match side {
            LEFT => pipe.write(self.now, &self.pattern),
            _ => pipe.read(self.now, &self.pattern, &mut self.read),
        }
        self.flush(flow, side);
        let pipe = &mut self.pipes[flow];
        if side == LEFT && pipe.is_over() && pipe.report.finished.is_none() {
            pipe.report.finished = Some(self.now);
            self.unfinished -= 1;
        }
        let lag = pipe.lag;
        let end = &mut self.pipes[flow].ends[side];
        let due = end.connection.as_ref().and_then(Connection::poll_timeout);
        let due = due.map_or(Time::MAX, |due| Time::ZERO + due.since(uptime(Time::ZERO)));
        let due = if due == Time::MAX { due } else { due.max(self.now) + lag };
        if due < end.wakes_at {
            end.wakes_at = due;
            self.schedule(due, Event::Timer(flow, side));
        }
    }

    fn flush(&mut self, flow: usize, side: usize) {
        loop {
            let pipe = &mut self.pipes[flow];
            let Some(connection) = &mut pipe.ends[side].connection else { return };
            self.out.clear();
            let Some(transmit) = connection.poll_transmit(uptime(self.now), BATCH, &mut self.out) else {
                return;
            };
            let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
            for datagram in self.out.chunks(size) {
                if side == LEFT {
                    pipe.note_sent(datagram);
                }
                self.links[1 - side].push_ecn(self.now, flow, datagram, transmit.ect);
            }
        }
    }
}

impl End {
    fn new(config: &Config, ports: (u16, u16), chance: &mut Rng) -> Self {
        let (local_port, peer_port) = ports;
        let iss = SeqNum::new(chance.next_u64() as u32);
        let identity = Identity { local_port, peer_port, iss, ts_offset: chance.next_u64() as u32 };
        Self {
            connection: None,
            identity,
            config: config.clone(),
            controller: None,
            half_open: None,
            wakes_at: Time::MAX,
            inbox: vec![],
        }
    }

    /// Takes a datagram; gives the answer to a SYN.
    fn receive(&mut self, now: Time, datagram: &[u8], ce: bool) -> Option<Vec<u8>> {
        let segment = Segment::parse(datagram).ok()?;
        if self.connection.is_none() {
            return self.listen(now, &segment, datagram, ce);
        }
        if let Some(connection) = &mut self.connection {
            connection.handle_segment(now, &segment, datagram, ce);
        }
        None
    }

    /// LISTEN, as an endpoint does it: answers SYNs, and makes a connection for the first ACK of its answer.
    fn listen(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8], ce: bool) -> Option<Vec<u8>> {
        let Identity { local_port, peer_port, iss, ts_offset } = self.identity;
        if segment.flags.contains(Flags::SYN) {
            if !checksum_ok(datagram) || (segment.options.ext.is_some() && !crc_ok(datagram, 0)) {
                return None;
            }
            let offer = Offer::from_segment(segment, datagram);
            let ts = (now.as_millis() as u32).wrapping_add(ts_offset);
            let mut out = vec![];
            let len = datagram.len();
            let terms = emit_syn_ack(&self.config, local_port, peer_port, iss, ts, &offer, len, &mut out);
            let sent = self.half_open.is_none().then_some(now);
            self.half_open = Some((offer, terms.expect("terms that both sides offer"), sent));
            return Some(out);
        }
        let (offer, terms, sent) = self.half_open?;
        let is_intact = match terms.extension {
            true => crc_ok(datagram, crc_key(offer.isn, iss)),
            false => checksum_ok(datagram),
        };
        if is_intact && segment.flags.contains(Flags::ACK) && segment.ack == iss + 1 {
            let mut connection = Connection::accept(now, &self.config, self.identity, &offer, terms, sent);
            connection.handle_segment(now, segment, datagram, ce);
            self.connection = Some(connection);
        }
        None
    }
}

impl Pipe {
    fn new(flow: &Flow, chance: &mut Rng) -> Self {
        let ports = (5_000, 80);
        let (left, right) =
            (End::new(&flow.config, ports, chance), End::new(&flow.config, (ports.1, ports.0), chance));
        let build = || flow.config.algorithm.build(1_200);
        let name = flow.controller.map_or_else(build, |make| make()).name();
        Self {
            ends: [End { controller: flow.controller, ..left }, right],
            bytes: flow.bytes,
            said: flow.said,
            stop: flow.stop.map_or(Time::MAX, |stop| Time::ZERO + stop),
            lag: flow.lag,
            extra_delay: flow.extra_delay,
            sent_to: 0,
            skew: chance.below(PERIOD),
            report: FlowReport { algorithm: name, ..FlowReport::default() },
        }
    }

    /// The stretch of the pattern that begins at stream position `at`, one period long.
    fn stretch<'p>(&self, at: u64, pattern: &'p [u8]) -> &'p [u8] {
        let begin = ((at + self.skew) % PERIOD) as usize;
        &pattern[begin..begin + PERIOD as usize]
    }

    fn write(&mut self, now: Time, pattern: &[u8]) {
        if now >= self.stop
            && let Some(connection) = &mut self.ends[LEFT].connection
        {
            self.stop = Time::MAX;
            self.bytes = Some(connection.bytes_written());
            connection.finish(uptime(now));
        }
        let end = self.bytes.unwrap_or(u64::MAX);
        let said = self.said.map_or(end, |said| said(now.since(Time::ZERO)).min(end));
        while let Some(connection) = &self.ends[LEFT].connection
            && connection.is_writable()
            && connection.bytes_written() < said
        {
            let at = connection.bytes_written();
            let stretch = self.stretch(at, pattern);
            let len = (said - at).min(stretch.len() as u64) as usize;
            let Some(connection) = &mut self.ends[LEFT].connection else { return };
            match connection.write(uptime(now), &stretch[..len]) {
                Ok(taken) if taken as u64 == end - at => connection.finish(uptime(now)),
                Ok(_) => {}
                Err(WriteError::WouldBlock) => return,
                Err(error) => panic!("{:?} at {now:?}: {error:?}", self.ends[LEFT].identity),
            }
        }
    }

    fn read(&mut self, now: Time, pattern: &[u8], buffer: &mut [u8]) {
        loop {
            let Some(connection) = &mut self.ends[RIGHT].connection else { return };
            match connection.read(uptime(now), buffer) {
                Ok(0) => {
                    self.report.end_of_stream.get_or_insert(now);
                    return connection.finish(uptime(now));
                }
                Ok(read) => {
                    let at = self.report.delivered_in_all;
                    let expected = &self.stretch(at, pattern)[..read];
                    assert!(expected == &buffer[..read], "wrong bytes after position {at}, at {now:?}");
                    self.report.delivered_in_all += read as u64;
                    self.report.first_byte.get_or_insert(now);
                    self.report.last_byte = Some(now);
                }
                Err(ReadError::WouldBlock) => return,
                Err(error) => panic!("{:?} at {now:?}: {error:?}", self.ends[RIGHT].identity),
            }
        }
    }

    fn note_sent(&mut self, datagram: &[u8]) {
        let Ok(segment) = Segment::parse(datagram) else { return };
        let len = segment.payload.len() as u64;
        if len == 0 {
            return;
        }
        // The stream's first byte has the number after the SYN's; the nearest position is meant.
        let expected = self.ends[LEFT].identity.iss + 1 + self.sent_to as u32;
        let end = self.sent_to.saturating_add_signed(i64::from(segment.seq.delta(expected))) + len;
        let new = end.saturating_sub(self.sent_to).min(len);
        self.sent_to += new;
        self.report.sent_in_all += len;
        self.report.resent += len - new;
    }

    /// The sender knows that all has arrived, and the receiver that it is all.
    fn is_over(&self) -> bool {
        self.report.end_of_stream.is_some()
            && self.bytes.is_some_and(|bytes| {
                self.ends[LEFT].connection.as_ref().is_some_and(|sender| sender.bytes_acked() >= bytes)
            })
    }
}
