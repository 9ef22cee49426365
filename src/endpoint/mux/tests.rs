//! Two mux and a wire between them, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::connection::{EcnMode, End, Error, IntegrityMode};
use crate::wire::{Flags, Integrity, Segment, SeqNum};

mod crowd;
mod fallback;
mod rest;

const A: &str = "192.0.2.1:1000";
const B: &str = "192.0.2.2:2000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn mux_with(port: u16, max_clients: usize, connection: Config) -> Mux {
    let config = MuxConfig {
        connection,
        max_clients,
        ack_to: None,
        any_source: false,
        local_tcp_port: 0,
        remote_tcp_port: 0,
        udp_port: port,
    };
    Mux::new(config, [port as u8; 32])
}

fn options(user_data: usize) -> ConnectOptions {
    ConnectOptions {
        config: Config::default(),
        user_data,
        local_tcp_port: 0,
        remote_tcp_port: 0,
        ignore_refused: false,
        alternatives: Vec::new(),
    }
}

/// `a` at A and `b` at B, 10 ms apart, on a link without faults.
struct Net {
    now: Time,
    ends: [Mux; 2],
    wire: VecDeque<(Time, usize, Vec<u8>)>,
}

impl Net {
    fn new(a: Mux, b: Mux) -> Self {
        Self { now: Time::ZERO + Duration::from_secs(1), ends: [a, b], wire: VecDeque::new() }
    }

    fn plain() -> Self {
        Self::new(mux_with(1000, 10, Config::default()), mux_with(2000, 10, Config::default()))
    }

    fn collect(&mut self) {
        for (side, mux) in self.ends.iter_mut().enumerate() {
            let mut out = Vec::new();
            while let Some(transmit) = mux.poll_transmit(self.now, 4, &mut out) {
                assert_eq!(transmit.to, addr([B, A][side]));
                for datagram in out.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                    self.wire.push_back((self.now + Duration::from_millis(10), 1 - side, datagram.to_vec()));
                }
                out.clear();
            }
        }
    }

    /// Runs until `until`, or for ten minutes, whichever comes first; true if `until` came.
    fn run_until(&mut self, mut until: impl FnMut(&mut [Mux; 2]) -> bool) -> bool {
        let limit = self.now + Duration::from_secs(600);
        loop {
            self.collect();
            if until(&mut self.ends) {
                return true;
            }
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let timers = self.ends.iter().filter_map(Mux::poll_timeout);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next < limit) else { return false };
            self.now = self.now.max(next);
            while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
                let Some((_, side, datagram)) = self.wire.pop_front() else { break };
                self.ends[side].handle_datagram(self.now, addr([A, B][1 - side]), None, false, &datagram);
            }
            self.ends.iter_mut().for_each(|mux| mux.handle_timeout(self.now));
        }
    }

    fn events(&mut self, side: usize) -> Vec<Event> {
        let mut events = Vec::new();
        self.ends[side].poll_events(self.now, 100, &mut events);
        events
    }

    /// Dials from a to b: both ids, with the first events taken.
    fn connect(&mut self) -> (ConnId, ConnId) {
        let (id, existed) = self.ends[0].connect(self.now, addr(B), options(7)).unwrap();
        assert!(!existed);
        assert!(self.run_until(|ends| ends[0].has_events() && ends[1].has_events()));
        let event = self.events(0)[0];
        assert_eq!((event.conn, event.user_data, event.events), (id, 7, event::CONNECTED));
        let event = self.events(1)[0];
        assert_eq!(event.events, event::ACCEPTED);
        (id, event.conn)
    }

    fn read_all(&mut self, side: usize, id: ConnId) -> Result<Vec<u8>, OpError> {
        let (mut all, mut room) = (Vec::new(), [0; 4096]);
        loop {
            match self.ends[side].read(self.now, id, &mut room) {
                Ok(0) | Err(OpError::WouldBlock) => return Ok(all),
                Ok(count) => all.extend_from_slice(&room[..count]),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A segment of a peer that knows no extension.
fn plain(flags: Flags, src_port: u16, seq: u32, ack: u32) -> Vec<u8> {
    let mut datagram = Vec::new();
    let (seq, ack) = (SeqNum::new(seq), SeqNum::new(ack));
    let segment = Segment { src_port, dst_port: 2000, seq, ack, flags, window: 1000, ..Segment::default() };
    segment.emit(&mut datagram, Integrity::Checksum);
    datagram
}

fn answers(mux: &mut Mux, now: Time) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut out = Vec::new();
    while let Some(transmit) = mux.poll_transmit(now, 1, &mut out) {
        assert_eq!(transmit.size, out.len());
        all.push(std::mem::take(&mut out));
    }
    all
}

#[test]
fn events_of_a_whole_life_come_once_and_levels_while_they_hold() {
    let mut net = Net::plain();
    let (a, b) = net.connect();
    assert_eq!(net.ends[0].write(net.now, a, b"hello").unwrap(), 5);
    net.ends[0].finish(net.now, a).unwrap();
    assert!(net.run_until(|ends| ends[1].has_events()));
    for _ in 0..3 {
        assert_eq!(net.events(1)[0].events, event::READABLE, "as long as it holds");
    }
    net.ends[1].watch(b, 0).unwrap();
    assert!(net.events(1).is_empty(), "not watched");
    net.ends[1].watch(b, event::READABLE | event::WRITABLE).unwrap();
    assert_eq!(net.events(1)[0].events, event::READABLE | event::WRITABLE);
    net.ends[1].watch(b, event::READABLE).unwrap();
    assert_eq!(net.read_all(1, b).unwrap(), b"hello");
    net.ends[1].finish(net.now, b).unwrap();
    net.ends[0].watch(a, event::READABLE | event::ACKED).unwrap();
    assert!(
        net.run_until(|ends| ends[0].has_events() && ends[0].connection(a).is_some_and(|c| c.is_readable()))
    );
    assert_eq!(net.events(0)[0].events, event::READABLE | event::ACKED);
    assert!(net.read_all(0, a).unwrap().is_empty());
    for (side, id) in [(0, a), (1, b)] {
        assert!(net.run_until(|ends| ends[side].has_events()));
        let mut event = net.events(side)[0];
        event.events &= !event::ACKED;
        assert_eq!((event.conn, event.events, event.end), (id, event::CLOSED, Some(End::Orderly)));
        assert!(net.ends[side].connection(id).is_some(), "the id serves until the next poll");
        assert!(net.events(side).is_empty());
        assert!(net.ends[side].connection(id).is_none());
    }
    assert_eq!(net.ends[0].waiting() + net.ends[1].waiting(), 1, "one side is in TIME-WAIT");
    net.run_until(|ends| ends.iter().all(|mux| mux.size() == 0));
    assert_eq!(net.ends.iter().map(Mux::size).sum::<usize>(), 0, "no slot is left");
}

#[test]
fn an_idle_connection_has_no_deadline() {
    let mut net = Net::plain();
    let (a, _) = net.connect();
    net.ends[0].write(net.now, a, b"x").unwrap();
    assert!(!net.run_until(|_| false), "it came to rest");
    assert_eq!(net.ends[0].poll_timeout(), None);
    assert_eq!(net.ends[1].poll_timeout(), None);
}

#[test]
fn dialling_a_peer_twice_finds_the_first() {
    let mut net = Net::plain();
    let (a, b) = net.connect();
    assert_eq!(net.ends[0].connect(net.now, addr(B), options(9)).unwrap(), (a, true));
    assert_eq!(net.ends[1].connect(net.now, addr(A), options(9)).unwrap(), (b, true), "whoever began it");
    net.ends[0].abort(net.now, a).unwrap();
    let again = net.ends[0].connect(net.now, addr(B), options(9));
    assert!(matches!(again, Err(ConnectError::Closing) | Ok((_, false))));
}

#[test]
fn both_sides_dial_at_once_and_get_one_connection() {
    let mut net = Net::plain();
    let (a, _) = net.ends[0].connect(net.now, addr(B), options(1)).unwrap();
    let (b, _) = net.ends[1].connect(net.now, addr(A), options(2)).unwrap();
    assert!(net.run_until(|ends| ends.iter().all(Mux::has_events)));
    assert_eq!(net.events(0)[0].events, event::CONNECTED);
    assert_eq!(net.events(1)[0].events, event::CONNECTED);
    net.ends[0].write(net.now, a, b"ping").unwrap();
    assert!(net.run_until(|ends| ends[1].has_events()));
    assert_eq!(net.read_all(1, b).unwrap(), b"ping");
}

#[test]
fn dialling_a_peer_whose_syn_was_just_answered_joins_that_handshake() {
    let mut net = Net::plain();
    let (a, _) = net.ends[0].connect(net.now, addr(B), options(1)).unwrap();
    net.collect();
    let (_, side, syn) = net.wire.pop_front().unwrap();
    net.ends[side].handle_datagram(net.now, addr(A), None, false, &syn);
    let (b, existed) = net.ends[1].connect(net.now, addr(A), options(2)).unwrap();
    assert!(!existed);
    assert!(net.run_until(|ends| ends.iter().all(Mux::has_events)));
    net.events(1);
    let mode = |mux: &Mux, id| mux.connection(id).unwrap().stats().ecn;
    assert_eq!((mode(&net.ends[0], a), mode(&net.ends[1], b)), (EcnMode::Accurate, EcnMode::Accurate));
    net.ends[0].write(net.now, a, b"ping").unwrap();
    assert!(net.run_until(|ends| ends[1].has_events()));
    assert_eq!(net.read_all(1, b).unwrap(), b"ping");
}

#[test]
fn an_abort_is_reported_on_both_sides() {
    let mut net = Net::plain();
    let (a, b) = net.connect();
    net.ends[0].abort(net.now, a).unwrap();
    assert_eq!(net.ends[0].write(net.now, a, b"x"), Err(OpError::NotFound));
    let event = net.events(0)[0];
    assert_eq!((event.events, event.end), (event::CLOSED, Some(End::Failed(Error::Aborted))));
    assert!(net.run_until(|ends| ends[1].has_events()));
    let event = net.events(1)[0];
    assert_eq!(event.conn, b);
    assert_eq!(event.events & event::CLOSED, event::CLOSED);
    assert_eq!(event.end, Some(End::Failed(Error::Reset)));
}

#[test]
fn a_released_connection_delivers_and_is_cut_off_at_its_limit() {
    let mut net = Net::plain();
    let (a, b) = net.connect();
    net.ends[0].write(net.now, a, b"last words").unwrap();
    net.ends[0].release(net.now, a, Some(Duration::from_secs(5))).unwrap();
    assert!(net.run_until(|ends| ends[1].has_events()));
    assert_eq!(net.read_all(1, b).unwrap(), b"last words");
    net.ends[1].finish(net.now, b).unwrap();
    assert!(net.run_until(|ends| ends[0].has_events()));
    let event = net.events(0)[0];
    assert_eq!((event.events, event.end, event.linger_expired), (event::CLOSED, Some(End::Orderly), false));

    let mut net = Net::plain();
    let (a, _) = net.connect();
    net.ends[0].write(net.now, a, b"to nobody").unwrap();
    net.ends[0].release(net.now, a, Some(Duration::from_secs(5))).unwrap();
    while !net.ends[0].has_events() {
        net.collect();
        net.wire.clear(); // the peer has vanished
        let Some(next) = net.ends[0].poll_timeout() else { break };
        net.now = next;
        net.ends[0].handle_timeout(net.now);
    }
    assert!(net.events(0)[0].linger_expired);
}

#[test]
fn a_segment_that_belongs_to_nobody_is_reset_and_a_reset_is_not() {
    let mut mux = mux_with(2000, 10, Config::default());
    mux.handle_datagram(Time::ZERO, addr(A), None, false, &plain(Flags::ACK, 5, 100, 200));
    let reply = answers(&mut mux, Time::ZERO);
    let reset = Segment::parse(&reply[0]).unwrap();
    assert_eq!((reset.flags, reset.seq, reset.dst_port), (Flags::RST, SeqNum::new(200), 5));
    mux.handle_datagram(Time::ZERO, addr(A), None, false, &plain(Flags::RST, 5, 100, 200));
    mux.handle_datagram(Time::ZERO, addr("0.0.0.0:5"), None, false, &plain(Flags::ACK, 5, 100, 200));
    let mut damaged = plain(Flags::ACK, 5, 100, 200);
    damaged[7] ^= 1;
    mux.handle_datagram(Time::ZERO, addr(A), None, false, &damaged);
    assert!(answers(&mut mux, Time::ZERO).is_empty());
    assert_eq!((mux.stats().packets_corrupt, mux.stats().packets_dropped), (1, 3));
}

#[test]
fn who_takes_no_more_clients_refuses() {
    let mut net = Net::new(mux_with(1000, 0, Config::default()), mux_with(2000, 0, Config::default()));
    net.ends[0].connect(net.now, addr(B), options(0)).unwrap();
    assert!(net.run_until(|ends| ends[0].has_events()));
    assert_eq!(net.events(0)[0].end, Some(End::Failed(Error::Refused)));

    let strict = Config { integrity: IntegrityMode::Require, ..Config::default() };
    let mut mux = mux_with(2000, 10, strict);
    mux.handle_datagram(Time::ZERO, addr(A), None, false, &plain(Flags::SYN, 5, 100, 0));
    let reply = answers(&mut mux, Time::ZERO);
    assert_eq!(Segment::parse(&reply[0]).unwrap().flags, Flags::RST | Flags::ACK);
}

#[test]
fn a_flood_of_syns_costs_no_memory_and_a_client_still_gets_in_by_a_cookie() {
    let mut net = Net::plain();
    for round in 0..50_000u32 {
        let from = SocketAddr::from(([10, (round >> 16) as u8, (round >> 8) as u8, round as u8], 99));
        net.ends[1].handle_datagram(net.now, from, None, false, &plain(Flags::SYN, 5, round, 0));
        for reply in answers(&mut net.ends[1], net.now) {
            assert!(reply.len() <= 20, "an answer longer than the SYN");
        }
    }
    assert_eq!(net.ends[1].half_open.len(), half_open::CAPACITY);
    assert_eq!(net.ends[1].size(), 0);
    net.ends[0].connect(net.now, addr(B), options(0)).unwrap();
    net.collect();
    let (_, side, syn) = net.wire.pop_front().unwrap();
    net.ends[side].handle_datagram(net.now, addr(A), None, false, &syn);
    net.collect();
    let arrived = |ends: &mut [Mux; 2]| {
        // The flood's own SYN-ACKs, re-sent, have nowhere to go in this net.
        while ends[1].replies.pop().is_some() {}
        ends[1].has_events()
    };
    assert!(net.run_until(arrived), "the cookie was not taken");
    let accepted = net.events(1)[0];
    assert_eq!(accepted.events, event::ACCEPTED);
    let stats = net.ends[1].connection(accepted.conn).unwrap().stats();
    assert_eq!(stats.ecn, EcnMode::Accurate, "the cookie held that too");
    assert_eq!(net.ends[1].half_open.len(), half_open::CAPACITY);
}

#[test]
fn while_cookies_are_out_an_unknown_ack_is_not_reset() {
    let mut mux = mux_with(2000, 10, Config::default());
    for port in 1..=half_open::CAPACITY as u16 + 1 {
        mux.handle_datagram(Time::ZERO, addr(A), None, false, &plain(Flags::SYN, port, 1, 0));
        answers(&mut mux, Time::ZERO);
    }
    mux.handle_datagram(Time::ZERO, addr(A), None, false, &plain(Flags::ACK, 5000, 100, 200));
    assert!(answers(&mut mux, Time::ZERO).is_empty());
    let later = Time::ZERO + Duration::from_secs(200);
    mux.handle_datagram(later, addr(A), None, false, &plain(Flags::ACK, 5000, 100, 200));
    assert_eq!(answers(&mut mux, later).len(), 1);
}

#[test]
fn a_one_way_proxy_needs_only_the_inner_ports_and_an_address_for_acks() {
    let sender =
        Mux::new(MuxConfig { any_source: true, ..mux_with(1000, 0, Config::default()).config }, [1; 32]);
    let receiver = Mux::new(
        MuxConfig { ack_to: Some(addr(A)), ..mux_with(2000, 10, Config::default()).config },
        [2; 32],
    );
    let (mut sender, mut receiver) = (sender, receiver);
    let (proxy_in, proxy_out) = (addr("192.0.2.77:41192"), addr("192.0.2.77:50000"));
    let mut now = Time::ZERO;
    let (a, _) = sender.connect(now, proxy_in, options(0)).unwrap();
    sender.write(now, a, b"through the proxy").unwrap();
    let mut out = Vec::new();
    for _ in 0..20 {
        while let Some(transmit) = sender.poll_transmit(now, 1, &mut out) {
            assert_eq!(transmit.to, proxy_in);
            receiver.handle_datagram(now, proxy_out, None, false, &std::mem::take(&mut out));
        }
        while let Some(transmit) = receiver.poll_transmit(now, 1, &mut out) {
            assert_eq!(transmit.to, addr(A), "not back through the proxy");
            sender.handle_datagram(now, addr(B), None, false, &std::mem::take(&mut out));
        }
        now += Duration::from_millis(1);
    }
    assert!(sender.connection(a).unwrap().is_acked());
    let local_port = sender.connection(a).unwrap().identity().local_port;
    assert_ne!(local_port, 1000, "random, since outer addresses tell nothing apart");
    let mut events = Vec::new();
    receiver.poll_events(now, 1, &mut events);
    assert_eq!(receiver.peer_addr(events[0].conn), Some(proxy_out));
    assert_eq!(receiver.connection(events[0].conn).unwrap().identity().local_port, proxy_in.port());
}

/// The address for answers was kept as the peer's: the record in TIME-WAIT was not found again when it went, and the next
/// segment for it, from whoever knew the ports, brought the endpoint down.
#[test]
fn a_connection_whose_answers_go_elsewhere_leaves_time_wait_like_others() {
    let mut receiver = Mux::new(
        MuxConfig { ack_to: Some(addr(A)), ..mux_with(2000, 10, Config::default()).config },
        [2; 32],
    );
    let (proxy, mut now) = (addr("192.0.2.77:50000"), Time::ZERO);
    for port in [1000, 1001] {
        let config = mux_with(port, 0, Config::default()).config;
        let mut sender = Mux::new(config, [1; 32]);
        let (a, _) = sender.connect(now, addr(B), options(0)).unwrap();
        let mut out = Vec::new();
        for round in 0..40 {
            while let Some(transmit) = sender.poll_transmit(now, 1, &mut out) {
                assert_eq!(transmit.to, addr(B));
                receiver.handle_datagram(now, proxy, None, false, &std::mem::take(&mut out));
            }
            while receiver.poll_transmit(now, 1, &mut out).is_some() {
                sender.handle_datagram(now, addr(B), None, false, &std::mem::take(&mut out));
            }
            if round == 10 {
                let mut events = Vec::new();
                receiver.poll_events(now, 9, &mut events);
                let accepted = events.iter().find(|event| event.events & event::ACCEPTED != 0).unwrap();
                receiver.finish(now, accepted.conn).unwrap();
            } else if round == 20 {
                sender.finish(now, a).unwrap();
            }
            now += Duration::from_millis(1);
        }
        assert_eq!(receiver.time_wait.len(), 1, "the one before is forgotten");
        receiver.time_wait.assert_invariants();
        now += Duration::from_secs(200);
    }
}

#[test]
fn a_timer_fires_when_it_is_due_and_not_in_a_loop() {
    let mut mux = mux_with(1000, 0, Config::default());
    mux.connect(Time::ZERO, addr(B), options(0)).unwrap();
    let (mut out, mut wake_ups, mut sent, mut now) = (Vec::new(), 0, 0, Time::ZERO);
    while let Some(next) = mux.poll_timeout().or_else(|| (sent == 0).then_some(now)) {
        assert!(next >= now);
        now = next;
        mux.handle_timeout(now);
        while mux.poll_transmit(now, 1, &mut out).is_some() {
            sent += 1;
        }
        assert!(mux.poll_timeout().is_none_or(|next| next > now), "it would loop");
        wake_ups += 1;
    }
    assert!(sent > 5, "the SYN and its repetitions");
    assert!(wake_ups <= sent + 2, "{wake_ups} wake-ups for {sent} segments");
    assert_eq!(mux.connection(mux.held_ids()[0]).unwrap().end(), Some(End::Failed(Error::ConnectTimeout)));
}

#[test]
fn a_syn_that_comes_again_without_asking_for_ecn_takes_it_back() {
    let mut mux = mux_with(2000, 10, Config::default());
    let now = Time::ZERO + Duration::from_secs(1);
    let asks = Flags::SYN | Flags::ECE | Flags::CWR;
    let mut answer = |flags| {
        mux.handle_datagram(now, addr(A), None, false, &plain(flags, 1000, 5, 0));
        let answers = answers(&mut mux, now);
        Segment::parse(&answers[0]).unwrap().flags.contains(Flags::ECE)
    };
    assert!(answer(asks) && answer(asks));
    assert!(!answer(Flags::SYN));
    assert!(!answer(asks), "the first, late");
    mux.handle_datagram(now, addr(A), None, false, &plain(asks, 1001, 5, 0));
    let syn_ack = answers(&mut mux, now).remove(0);
    let iss = Segment::parse(&syn_ack).unwrap().seq.get();
    mux.handle_datagram(now, addr(A), None, false, &plain(Flags::ACK, 1001, 6, iss.wrapping_add(1)));
    let mut events = Vec::new();
    mux.poll_events(now, 9, &mut events);
    assert_eq!(mux.connection(events[0].conn).unwrap().stats().ecn, EcnMode::Classic);
}

#[test]
fn who_accepts_nobody_dials_one_peer_once_for_each_inner_port_and_is_then_told_that_there_are_no_more() {
    const PORTS: usize = 65_536 - 1024;
    let mut mux = mux_with(1000, 0, Config::default());
    let mut dial = || mux.connect(Time::ZERO, addr(B), options(0));
    // With the socket's own port, which is below them.
    let ids: std::collections::HashSet<_> = (0..=PORTS).map(|_| dial().expect("a free port").0).collect();
    assert_eq!(ids.len(), PORTS + 1, "each is a connection of its own");
    assert_eq!(dial(), Err(ConnectError::NoPort));
    let other = mux.connect(Time::ZERO, addr("192.0.2.3:2000"), options(0));
    assert!(matches!(other, Ok((_, false))), "another peer's ports are its own");
}
