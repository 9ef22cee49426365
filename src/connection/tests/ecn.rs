//! Congestion marks: who asks and grants, what leaves as ECT, what comes back, what follows from it.

use std::collections::VecDeque;
use std::time::Duration;

use super::pair::{ms, pattern};
use super::solo::{PEERS, Peer, Solo};
use crate::connection::{
    Algorithm, Config, Connection, EcnMode, Identity, IntegrityMode, Offer, Terms, WriteError, emit_syn_ack,
};
use crate::time::Time;
use crate::wire::{Extension, Flags, Segment, SeqNum};

/// What a router does with a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Mark,
    Drop,
}

/// A datagram on its way.
struct Datagram {
    at: Time,
    from_a: bool,
    ect: bool,
    ce: bool,
    bytes: Vec<u8>,
}

impl Datagram {
    fn segment(&self) -> Segment<'_> {
        Segment::parse(&self.bytes).expect("what we send parses")
    }

    fn is_data(&self) -> bool {
        !self.segment().payload.is_empty()
    }
}

type Router = Box<dyn FnMut(&Datagram) -> Fate>;

/// `a` dials `b` over a path of 10 ms each way with one router, which sees the ECN field.
struct Net {
    now: Time,
    a: Connection,
    b: Option<Connection>,
    b_config: Config,
    b_offer: Option<(Offer, Terms)>,
    router: Router,
    queue: VecDeque<Datagram>,
    /// Everything sent so far, dropped or not.
    log: Vec<Datagram>,
    unwritten: Vec<u8>,
    received: usize,
}

const DELAY: Duration = ms(10);
const A: Identity = Identity { local_port: 1, peer_port: 2, iss: SeqNum::new(u32::MAX - 9), ts_offset: 3 };
const B: Identity = Identity { local_port: 2, peer_port: 1, iss: SeqNum::new(77), ts_offset: 9 };

impl Net {
    fn new(a: &Config, b: &Config, router: impl FnMut(&Datagram) -> Fate + 'static) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        Self {
            now,
            a: Connection::connect(now, a, A),
            b: None,
            b_config: b.clone(),
            b_offer: None,
            router: Box::new(router),
            queue: VecDeque::new(),
            log: vec![],
            unwritten: vec![],
            received: 0,
        }
    }

    /// `a` has sent `len` bytes to `b`, and all were acknowledged within `limit`.
    fn transfer(&mut self, len: usize, limit: Duration) {
        let (end, total) = (self.now + limit, self.received + len);
        self.unwritten = pattern(len, 1);
        while self.received < total || !self.a.is_acked() {
            assert!(self.now < end, "{} of {total} bytes: {:?}", self.received, self.a.stats());
            self.step();
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    /// A millisecond.
    fn step(&mut self) {
        while self.queue.front().is_some_and(|d| d.at <= self.now) {
            let d = self.queue.pop_front().expect("looked at");
            self.deliver(&d);
        }
        if !self.unwritten.is_empty() {
            match self.a.write(self.now, &self.unwritten) {
                Ok(n) => drop(self.unwritten.drain(..n)),
                Err(error) => assert_eq!(error, WriteError::WouldBlock),
            }
        }
        if let Some(b) = &mut self.b {
            let mut buf = [0; 65536];
            while let Ok(n @ 1..) = b.read(self.now, &mut buf) {
                self.received += n;
            }
        }
        self.flush(true);
        self.flush(false);
        self.now += ms(1);
        self.a.handle_timeout(self.now);
        if let Some(b) = &mut self.b {
            b.handle_timeout(self.now);
        }
    }

    fn deliver(&mut self, d: &Datagram) {
        let segment = d.segment();
        if !d.from_a {
            return self.a.handle_segment(self.now, &segment, &d.bytes, d.ce);
        }
        if self.b.is_none() && segment.flags.contains(Flags::SYN) {
            let offer = Offer::from_segment(&segment, &d.bytes);
            let mut out = vec![];
            let terms = emit_syn_ack(&self.b_config, 2, 1, B.iss, 1, &offer, d.bytes.len(), &mut out);
            self.b_offer = Some((offer, terms.expect("both sides get along")));
            return self.send(false, false, out);
        }
        if let (None, Some((offer, terms))) = (&self.b, self.b_offer) {
            self.b = Some(Connection::accept(self.now, &self.b_config, B, &offer, terms, None));
        }
        self.b.as_mut().expect("just made").handle_segment(self.now, &segment, &d.bytes, d.ce);
    }

    fn flush(&mut self, from_a: bool) {
        let mut out = vec![];
        while let Some(conn) = if from_a { Some(&mut self.a) } else { self.b.as_mut() }
            && let Some(transmit) = conn.poll_transmit(self.now, 16, &mut out)
        {
            let size = transmit.segment_size.unwrap_or(transmit.size);
            for bytes in std::mem::take(&mut out).chunks(size) {
                self.send(from_a, transmit.ect, bytes.to_vec());
            }
        }
    }

    fn send(&mut self, from_a: bool, ect: bool, bytes: Vec<u8>) {
        let mut d = Datagram { at: self.now + DELAY, from_a, ect, ce: false, bytes };
        match (self.router)(&d) {
            Fate::Drop => {}
            Fate::Mark if !ect => panic!("a router drops what it may not mark"),
            fate => {
                d.ce = fate == Fate::Mark;
                self.queue.push_back(Datagram { bytes: d.bytes.clone(), ..d });
            }
        }
        self.log.push(d);
    }

    fn modes(&self) -> (EcnMode, EcnMode) {
        (self.a.stats().ecn, self.b.as_ref().expect("connected").stats().ecn)
    }
}

fn ours() -> Config {
    Config { algorithm: Algorithm::Cubic, ..Config::default() }
}

fn plain() -> Config {
    Config { integrity: IntegrityMode::Off, ..ours() }
}

fn pass(_: &Datagram) -> Fate {
    Fate::Pass
}

/// Marks each `n`th data segment that may be marked.
fn mark_each(n: u64) -> impl FnMut(&Datagram) -> Fate {
    let mut count = 0;
    move |d| {
        count += u64::from(d.ect);
        if d.ect && count % n == 0 { Fate::Mark } else { Fate::Pass }
    }
}

/// Drops every `n`th datagram with data, whatever its ECN field says.
fn lose_each(n: u64) -> impl FnMut(&Datagram) -> Fate {
    let mut count = 0;
    move |d| {
        count += u64::from(d.is_data());
        if d.is_data() && count % n == 0 { Fate::Drop } else { Fate::Pass }
    }
}

#[test]
fn both_must_want_it_and_the_extension_makes_it_exact() {
    for bits in 0..16u32 {
        let is = |bit: u32| bits & bit != 0;
        let config = |ecn, extension| Config { ecn, ..if extension { ours() } else { plain() } };
        let mut net = Net::new(&config(is(1), is(2)), &config(is(4), is(8)), pass);
        net.run_for(ms(100));
        let want = match (is(1) && is(4), is(2) && is(8)) {
            (false, _) => EcnMode::Off,
            (true, false) => EcnMode::Classic,
            (true, true) => EcnMode::Accurate,
        };
        assert_eq!(net.modes(), (want, want), "{bits:b}");
        let ecn_bits = |d: &Datagram| (d.segment().flags.bits() & 0xc0, d.ect);
        assert_eq!(ecn_bits(&net.log[0]), (if is(1) { 0xc0 } else { 0 }, false), "SYN {bits:b}");
        assert_eq!(ecn_bits(&net.log[1]), (if is(1) && is(4) { 0x40 } else { 0 }, false), "SYN-ACK {bits:b}");
    }
}

#[test]
fn other_combinations_of_the_bits_ask_for_nothing_and_grant_nothing() {
    for peer in PEERS {
        for bits in [0, 0x40, 0x80, 0xc0] {
            let mut solo = Solo::opening(&ours(), peer);
            solo.output();
            let flags = Flags::SYN | Flags::ACK | Flags::from_bits(bits);
            let syn_ack = solo.syn(flags);
            solo.gets_stateless(&syn_ack);
            assert_eq!(solo.conn.stats().ecn != EcnMode::Off, bits == 0x40, "SYN-ACK {bits:x} {peer:?}");

            let syn = solo.syn(Flags::SYN | Flags::from_bits(bits));
            assert_eq!(Offer::from_segment(&syn, &[0; 20]).ecn, bits == 0xc0, "SYN {bits:x}");
        }
    }
}

#[test]
fn after_a_second_syns_no_longer_ask_and_then_nothing_leaves_as_ect_but_marks_are_still_told() {
    let mut solo = Solo::opening(&ours(), Peer::Plain);
    let syns = solo.run(ms(1500));
    let asked: Vec<_> =
        syns.iter().map(|(_, s)| s.segment().flags.contains(Flags::ECE | Flags::CWR)).collect();
    assert_eq!(asked, [true, true, true, false], "at 0, 0.3, 0.7 and 1.2 s");
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK | Flags::ECE);
    solo.gets_stateless(&syn_ack);
    solo.conn.write(solo.now, &[1; 5000]).unwrap();
    let mut out = vec![];
    assert!(!solo.conn.poll_transmit(solo.now, 16, &mut out).unwrap().ect);
    solo.output();
    let answers = gets_marked(&mut solo, Flags::default());
    assert!(answers[0].segment().flags.contains(Flags::ECE));
}

/// The peer's next data segment arrives marked.
fn gets_marked(solo: &mut Solo, flags: Flags) -> Vec<super::solo::Sent> {
    let segment = Segment { payload: b"data", flags: Flags::ACK | flags, ..solo.segment() };
    solo.gets_with(&segment, true)
}

#[test]
fn a_simultaneous_open_agrees_too_unless_the_second_answer_takes_it_back() {
    for (grant, want) in [(Flags::ECE, EcnMode::Accurate), (Flags::default(), EcnMode::Off)] {
        let mut solo = Solo::opening(&ours(), Peer::Extension);
        solo.output();
        let syn = solo.syn(Flags::SYN | Flags::ECE | Flags::CWR);
        let answer = solo.gets_stateless(&syn);
        let flags = answer[0].segment().flags;
        assert_eq!(flags, Flags::SYN | Flags::ACK | Flags::ECE);
        let syn_ack = solo.syn(Flags::SYN | Flags::ACK | grant);
        solo.gets_stateless(&syn_ack);
        assert!(solo.conn.is_established());
        assert_eq!(solo.conn.stats().ecn, want);
    }
}

#[test]
fn new_data_leaves_as_ect_retransmissions_only_with_the_extension_all_else_never() {
    for (config, repeats) in [(ours(), true), (plain(), false)] {
        let mut net = Net::new(&config, &config, lose_each(40));
        net.transfer(1_000_000, ms(20_000));
        net.a.finish(net.now);
        net.run_for(ms(100));
        let mut highest = A.iss + 1;
        let (mut new, mut again) = (0, 0);
        for d in net.log.iter().filter(|d| d.from_a) {
            let segment = d.segment();
            if segment.payload.is_empty() {
                assert!(!d.ect, "{segment}");
            } else if segment.seq == highest {
                assert!(d.ect, "{segment}");
                highest = segment.seq + segment.seq_len();
                new += 1;
            } else {
                assert_eq!(d.ect, repeats, "{segment}");
                again += 1;
            }
        }
        assert!(new > 600 && again > 10, "{new} {again}");
        assert!(net.log.iter().all(|d| d.from_a || !d.ect), "b sends nothing but ACKs");
        assert_eq!(net.a.stats().rto_count, 0, "after a timeout nothing leaves as ECT");
    }
}

#[test]
fn a_plain_receiver_echoes_a_mark_on_every_ack_until_cwr_comes() {
    let mut solo = Solo::opening(&ours(), Peer::Plain);
    solo.output();
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK | Flags::ECE);
    solo.gets_stateless(&syn_ack);
    let echoes = |sent: &[super::solo::Sent]| sent.iter().all(|s| s.segment().flags.contains(Flags::ECE));
    assert!(!echoes(&solo.gets_data(b"data")));
    assert!(echoes(&gets_marked(&mut solo, Flags::default())));
    assert!(echoes(&solo.gets_data(b"data")), "still");
    solo.conn.write(solo.now, b"an answer").unwrap();
    assert!(echoes(&solo.output()), "on data as well");
    assert!(echoes(&gets_marked(&mut solo, Flags::CWR)), "a mark on the segment with CWR is a new one");
    let segment = Segment { payload: b"data", flags: Flags::ACK | Flags::CWR, ..solo.segment() };
    assert!(!echoes(&solo.gets(&segment)));
    assert_eq!(solo.conn.stats().packets_ce, 2);
}

#[test]
fn a_plain_sender_reduces_once_a_round_trip_and_says_so_on_the_next_new_segment() {
    let mut net = Net::new(&plain(), &plain(), mark_each(u64::MAX));
    net.transfer(200_000, ms(5000));
    net.log.clear();
    let mut marks = 0;
    net.router = Box::new(move |d| {
        marks += u64::from(d.ect);
        if d.ect && (5..15).contains(&marks) { Fate::Mark } else { Fate::Pass }
    });
    net.unwritten = pattern(400_000, 1);
    let mut flight = 0;
    while net.a.stats().bytes_ce == 0 {
        flight = net.a.stats().bytes_in_flight;
        net.step();
    }
    net.run_for(ms(1000));
    assert_eq!(net.received, 600_000);
    let stats = net.a.stats();
    // ACKs of the millisecond in which the echo came may have been before it.
    let once = flight * 85 / 100;
    assert!((once - 4000..=once).contains(&stats.ssthresh), "{flight} {stats:?}");
    let with = |flag, from_a: bool| {
        net.log.iter().filter(|d| d.from_a == from_a && d.segment().flags.contains(flag)).count()
    };
    assert_eq!(with(Flags::CWR, true), 1);
    assert!(with(Flags::ECE, false) > 0);
    let last = net.log.iter().rfind(|d| !d.from_a).unwrap().segment().flags;
    assert!(!last.contains(Flags::ECE), "CWR was heard");
    assert_eq!(net.a.stats().bytes_ce, 1180 - 12, "one segment for one round trip");
}

#[test]
fn every_marked_byte_is_counted_once_though_acks_are_lost() {
    let marked = std::rc::Rc::new(std::cell::Cell::new(0));
    let sum = marked.clone();
    let (mut data, mut acks, mut next) = (0, 0, A.iss + 1);
    let router = move |d: &Datagram| {
        data += u64::from(d.ect);
        acks += u64::from(!d.from_a);
        let is_new = d.is_data() && d.segment().seq == next;
        if is_new {
            next = d.segment().seq + d.segment().seq_len();
        }
        if is_new && d.ect && data % 7 == 0 {
            sum.set(sum.get() + d.segment().payload.len() as u64);
            return Fate::Mark;
        }
        if !d.from_a && acks > 2 && acks % 3 == 0 { Fate::Drop } else { Fate::Pass }
    };
    let mut net = Net::new(&ours(), &ours(), router);
    net.transfer(2_000_000, ms(60_000));
    assert!(marked.get() > 200_000);
    assert_eq!(net.a.stats().bytes_ce, marked.get());
    assert!(
        net.log
            .iter()
            .all(|d| !d.segment().flags.intersects(Flags::CWR) || d.segment().flags.contains(Flags::SYN))
    );
}

#[test]
fn data_both_ways_does_not_keep_the_count_back() {
    let mut solo = Solo::opening(&ours(), Peer::Extension);
    solo.output();
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK | Flags::ECE);
    solo.gets_stateless(&syn_ack);
    solo.conn.write(solo.now, &[1; 3000]).unwrap();
    let segment = Segment { payload: b"data", ..solo.segment() };
    let sent = solo.gets_with(&segment, true);
    let tails: Vec<_> = sent.iter().map(|s| s.segment().options.ext.unwrap().tail.to_vec()).collect();
    assert_eq!(tails[0], 4u32.to_be_bytes());
    assert!(sent.len() > 2 && tails[1..].iter().all(Vec::is_empty), "data segments keep their header");
}

/// An established sender of `len` bytes, as many in flight as ECT as the window takes, towards a peer with the extension.
fn sender_in_flight(len: usize) -> Solo {
    let mut solo = Solo::opening(&ours(), Peer::Extension);
    solo.output();
    solo.now += ms(20);
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK | Flags::ECE);
    solo.gets_stateless(&syn_ack);
    solo.conn.write(solo.now, &vec![1; len]).unwrap();
    solo.output();
    solo.now += ms(20);
    solo
}

fn gets_count(solo: &mut Solo, acked: i64, count: u32) {
    let tail = count.to_be_bytes();
    let ext = Some(Extension { flags: 0, tail: &tail });
    let mut segment = Segment { ack: solo.una(acked), ..solo.segment() };
    segment.options.ext = ext;
    solo.gets(&segment);
}

#[test]
fn the_count_wraps_and_an_older_one_says_nothing() {
    let mut solo = sender_in_flight(11_000);
    let ecn = &mut solo.conn.snd.ecn;
    *ecn = ecn.with_history(u64::from(u32::MAX) - 999);
    gets_count(&mut solo, 2000, 1000);
    assert_eq!(solo.conn.stats().bytes_ce, u64::from(u32::MAX) + 1001);
    for older in [999, 0, u32::MAX, 1000] {
        gets_count(&mut solo, 0, older);
        assert_eq!(solo.conn.stats().bytes_ce, u64::from(u32::MAX) + 1001, "{older}");
    }
    assert_eq!(solo.conn.stats().ecn, EcnMode::Accurate);
}

#[test]
fn a_count_of_more_than_was_sent_is_not_believed_and_ends_ecn() {
    for (count, believed) in [(11_000, true), (11_001, false), (0x7fff_ffff, false)] {
        let mut solo = sender_in_flight(11_000);
        let before = solo.conn.stats().cwnd;
        gets_count(&mut solo, 2000, count);
        let stats = solo.conn.stats();
        assert_eq!(stats.bytes_ce, if believed { 11_000 } else { 0 });
        assert_eq!(stats.ecn == EcnMode::Accurate, believed, "{count}");
        assert_eq!(stats.cwnd < before, believed, "{count}");
    }
}

#[test]
fn marks_of_one_round_trip_are_one_reduction_and_the_window_stands() {
    let mut solo = sender_in_flight(11_600);
    let first = solo.conn.stats().cwnd;
    gets_count(&mut solo, 1160, 1160);
    let reduced = solo.conn.stats().cwnd;
    assert_eq!(reduced, first * 85 / 100);
    for more in 2..=8 {
        gets_count(&mut solo, 1160, 1160 * more);
        assert_eq!(solo.conn.stats().cwnd, reduced, "and no growth either");
    }
    solo.gets_ack();
    solo.conn.write(solo.now, &[1; 11_000]).unwrap();
    solo.output();
    solo.now += ms(20);
    gets_count(&mut solo, 1160, 1160 * 9);
    assert!(solo.conn.stats().cwnd < reduced * 9 / 10, "the next round trip is another");
}

#[test]
fn a_path_that_drops_ect_costs_one_timeout() {
    for config in [ours(), plain()] {
        let mut net = Net::new(&config, &config, |d| if d.ect { Fate::Drop } else { Fate::Pass });
        net.transfer(500_000, ms(5000));
        assert_eq!(net.a.stats().ecn, EcnMode::Off);
        assert_eq!(net.a.stats().rto_count, 1);
    }
}

#[test]
fn a_path_that_begins_to_drop_ect_is_found_out_and_an_outage_is_not_taken_for_one() {
    for config in [ours(), plain()] {
        let mut net = Net::new(&config, &config, pass);
        net.transfer(100_000, ms(5000));
        net.router = Box::new(|d| if d.from_a { Fate::Drop } else { Fate::Pass });
        net.unwritten = vec![0; 100_000];
        net.run_for(ms(3000));
        // With the extension PROBEs ask after the second.
        assert!(net.a.stats().rto_count >= 2);
        net.router = Box::new(pass);
        net.transfer(300_000, ms(20_000));
        assert_ne!(net.a.stats().ecn, EcnMode::Off, "an outage");

        net.router = Box::new(|d| if d.ect { Fate::Drop } else { Fate::Pass });
        net.transfer(500_000, ms(20_000));
        assert_eq!(net.a.stats().ecn, EcnMode::Off);
    }
}

#[test]
fn a_path_that_marks_everything_is_not_listened_to_for_long() {
    let config = ours();
    let mut net = Net::new(&config, &config, mark_each(1));
    net.transfer(1_000_000, ms(10_000));
    assert_eq!(net.a.stats().ecn, EcnMode::Off);
    let mut net = Net::new(&config, &config, mark_each(2));
    net.transfer(1_000_000, ms(60_000));
    assert_eq!(net.a.stats().ecn, EcnMode::Accurate, "half of everything may be a queue");
}

#[test]
fn a_path_that_erases_the_field_costs_nothing() {
    // Marks never come, so what is lost says it all.
    let mut net = Net::new(&ours(), &ours(), lose_each(100));
    net.transfer(500_000, ms(10_000));
    let stats = net.a.stats();
    assert_eq!((stats.ecn, stats.bytes_ce), (EcnMode::Accurate, 0));
    assert!(stats.packets_lost >= 3);
}

#[test]
fn a_first_flight_that_was_only_late_brings_ecn_back() {
    let mut solo = sender_in_flight(30_000);
    let late = solo.segment();
    while solo.conn.stats().rto_count == 0 {
        solo.run(ms(1));
    }
    assert_eq!(solo.conn.stats().ecn, EcnMode::Off);
    solo.gets(&late);
    assert_eq!(solo.conn.stats().ecn, EcnMode::Accurate);
}
