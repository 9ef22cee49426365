//! Two connections, an emulated link each way, virtual time.

use std::time::Duration;

use crate::connection::{
    Config, Connection, End, Identity, Offer, ReadError, Terms, WriteError, emit_syn_ack,
};
use crate::emulator::{Impairments, Link, Rng};
use crate::time::Time;
use crate::wire::{Flags, Segment, SeqNum};

/// One end: a connection once there is one, and what its application has done so far.
pub(super) struct Side {
    pub(super) config: Config,
    pub(super) conn: Option<Connection>,
    identity: Identity,
    half_open: Option<(Offer, Terms, Option<Time>)>,
    pub(super) to_write: Vec<u8>,
    pub(super) written: usize,
    pub(super) received: Vec<u8>,
    pub(super) eof: bool,
    pub(super) finish_when_written: bool,
    pub(super) reads: bool,
}

type Filter = Box<dyn FnMut(bool, u64, &mut Vec<u8>) -> bool>;

pub(super) struct Pair {
    pub(super) now: Time,
    pub(super) a: Side,
    pub(super) b: Side,
    pub(super) ab: Link,
    pub(super) ba: Link,
    /// Looks at each datagram before the link does: false drops it. Arguments: a to b?, index, bytes.
    pub(super) filter: Filter,
    sent: [u64; 2],
    pub(super) trace: bool,
}

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Bytes that tell where they belong.
pub(super) fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8) ^ ((i >> 8) as u8).wrapping_mul(31) ^ ((i >> 16) as u8).wrapping_mul(7) ^ salt)
        .collect()
}

impl Side {
    fn new(config: Config, local_port: u16, peer_port: u16, iss: u32) -> Self {
        Self {
            config,
            conn: None,
            identity: Identity {
                local_port,
                peer_port,
                iss: SeqNum::new(iss),
                ts_offset: iss.rotate_left(7),
            },
            half_open: None,
            to_write: vec![],
            written: 0,
            received: vec![],
            eof: false,
            finish_when_written: true,
            reads: true,
        }
    }

    pub(super) fn conn(&mut self) -> &mut Connection {
        self.conn.as_mut().expect("the connection is open")
    }

    /// LISTEN as the endpoint does it: answers SYNs without a connection, makes one for the first ACK.
    fn listen(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8]) -> Option<Vec<u8>> {
        if segment.flags.contains(Flags::SYN) && !segment.flags.contains(Flags::ACK) {
            let is_ok = crate::wire::checksum_ok(datagram)
                && (segment.options.ext.is_none() || crate::wire::crc_ok(datagram, 0));
            if !is_ok {
                return None;
            }
            let offer = Offer::from_segment(segment, datagram);
            let mut out = vec![];
            let ts = (now.as_millis() as u32).wrapping_add(self.identity.ts_offset);
            let Identity { local_port, peer_port, iss, .. } = self.identity;
            let len = datagram.len();
            let terms =
                emit_syn_ack(&self.config, local_port, peer_port, iss, ts, &offer, len, &mut out).ok()?;
            let first = self.half_open.is_none();
            self.half_open = Some((offer, terms, first.then_some(now)));
            return Some(out);
        }
        let (offer, terms, sent) = self.half_open?;
        let key = crate::wire::crc_key(offer.isn, self.identity.iss);
        let intact = if terms.extension {
            crate::wire::crc_ok(datagram, key)
        } else {
            crate::wire::checksum_ok(datagram)
        };
        if segment.flags.contains(Flags::ACK) && segment.ack == self.identity.iss + 1 && intact {
            self.conn = Some(Connection::accept(now, &self.config, self.identity, &offer, terms, sent));
        }
        None
    }

    fn handle(&mut self, now: Time, datagram: &[u8]) -> Option<Vec<u8>> {
        let Ok(segment) = Segment::parse(datagram) else { return None };
        let mut reply = None;
        if self.conn.is_none() {
            reply = self.listen(now, &segment, datagram);
        } else if self.half_open.is_some()
            && segment.flags.contains(Flags::SYN)
            && !self.conn().is_established()
        {
            return None;
        }
        if let Some(conn) = &mut self.conn {
            conn.handle_segment(now, &segment, datagram, false);
        }
        reply
    }

    /// The application: writes what it has, reads what there is, finishes when done.
    fn drive(&mut self, now: Time) {
        let Some(conn) = &mut self.conn else { return };
        while self.written < self.to_write.len() {
            match conn.write(now, &self.to_write[self.written..]) {
                Ok(n) => self.written += n,
                Err(WriteError::WouldBlock) => break,
                Err(_) => return,
            }
        }
        if self.written == self.to_write.len() && self.finish_when_written {
            conn.finish(now);
        }
        if self.reads {
            let mut buf = [0; 65536];
            loop {
                match conn.read(now, &mut buf) {
                    Ok(0) => {
                        self.eof = true;
                        break;
                    }
                    Ok(n) => self.received.extend_from_slice(&buf[..n]),
                    Err(ReadError::WouldBlock | ReadError::Ended(_)) => break,
                }
            }
        }
    }
}

impl Pair {
    pub(super) fn new(config: &Config, ab: Impairments, ba: Impairments, seed: u64) -> Self {
        Self::with(config, config, ab, ba, seed)
    }

    /// Two sides that are configured differently.
    pub(super) fn with(a: &Config, b: &Config, ab: Impairments, ba: Impairments, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let (iss_a, iss_b) = (rng.next_u64() as u32, rng.next_u64() as u32);
        let mut pair = Self {
            now: Time::from_nanos(1_000_000_000),
            a: Side::new(a.clone(), 1000, 2000, iss_a),
            b: Side::new(b.clone(), 2000, 1000, iss_b),
            ab: Link::new(ab, seed.wrapping_mul(2) + 1),
            ba: Link::new(ba, seed.wrapping_mul(2) + 2),
            filter: Box::new(|_, _, _| true),
            sent: [0; 2],
            trace: false,
        };
        let conn = Connection::connect(pair.now, &pair.a.config, pair.a.identity);
        pair.a.conn = Some(conn);
        pair
    }

    /// `b` dials too: a simultaneous open.
    pub(super) fn connect_b(&mut self) {
        self.b.conn = Some(Connection::connect(self.now, &self.b.config, self.b.identity));
    }

    /// Both sides of a clean link of 10 ms each way, connected.
    pub(super) fn connected(config: &Config) -> Self {
        let link = Impairments { delay: ms(10), ..Impairments::default() };
        let mut pair = Self::new(config, link.clone(), link, 7);
        pair.a.finish_when_written = false;
        pair.b.finish_when_written = false;
        pair.run_for(ms(100));
        assert!(pair.a.conn().is_established() && pair.b.conn().is_established());
        pair
    }

    fn send(&mut self, from_a: bool, mut datagram: Vec<u8>) {
        let index = &mut self.sent[usize::from(!from_a)];
        *index += 1;
        if self.trace {
            let text = Segment::parse(&datagram).map(|s| s.to_string());
            eprintln!("{:?} {} {}", self.now, if from_a { "a>" } else { "<b" }, text.unwrap_or_default());
        }
        if (self.filter)(from_a, *index, &mut datagram) {
            let link = if from_a { &mut self.ab } else { &mut self.ba };
            link.push(self.now, (), &datagram);
        }
    }

    fn flush(&mut self, from_a: bool) {
        let side = if from_a { &mut self.a } else { &mut self.b };
        let Some(conn) = &mut side.conn else { return };
        let mut batches = vec![];
        let mut out = Vec::with_capacity(65536);
        while let Some(transmit) = conn.poll_transmit(self.now, 16, &mut out) {
            assert_eq!(transmit.size, out.len());
            let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
            batches.extend(out.chunks(size).map(<[u8]>::to_vec));
            out.clear();
        }
        for datagram in batches {
            self.send(from_a, datagram);
        }
    }

    /// Lets everything happen that is due now.
    pub(super) fn settle(&mut self) {
        for _ in 0..3 {
            while let Some(d) = self.ab.poll_delivery(self.now) {
                if let Some(reply) = self.b.handle(self.now, &d.bytes) {
                    self.send(false, reply);
                }
            }
            while let Some(d) = self.ba.poll_delivery(self.now) {
                self.a.handle(self.now, &d.bytes);
            }
            self.a.drive(self.now);
            self.b.drive(self.now);
            self.flush(true);
            self.flush(false);
        }
    }

    fn next_event(&self) -> Option<Time> {
        let timers = [&self.a, &self.b].into_iter().filter_map(|s| s.conn.as_ref()?.poll_timeout());
        timers.chain(self.ab.poll_timeout()).chain(self.ba.poll_timeout()).min()
    }

    /// One step of virtual time; false when nothing is left to happen before `end`.
    pub(super) fn step(&mut self, end: Time) -> bool {
        self.settle();
        let Some(next) = self.next_event().filter(|at| *at <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        for side in [&mut self.a, &mut self.b] {
            if let Some(conn) = &mut side.conn {
                conn.handle_timeout(self.now);
            }
        }
        true
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.settle();
    }

    /// Runs until both sides have ended (or the limit); returns the time it took.
    pub(super) fn run_to_end(&mut self, limit: Duration) -> Duration {
        let (begin, end) = (self.now, self.now + limit);
        loop {
            self.settle();
            if self.is_over() || !self.step(end) {
                return self.now - begin;
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        [&self.a, &self.b].into_iter().all(|s| s.conn.as_ref().is_some_and(|c| c.end().is_some()))
    }

    pub(super) fn assert_exact(&mut self) {
        assert!(self.a.received == self.b.to_write, "b to a: {} bytes", self.a.received.len());
        assert!(self.b.received == self.a.to_write, "a to b: {} bytes", self.b.received.len());
        assert_eq!(self.a.conn().end(), Some(End::Orderly));
        assert_eq!(self.b.conn().end(), Some(End::Orderly));
    }
}
