//! The link model between real sockets: one thread, one wait for all of them.

use crate::args::Options;
use crate::clients::Clients;
use rtcp::emulator::{Delivery, Link, LinkStats, Rng};
use rtcp::time::Time;
use rtcp::udp::{Termination, WaitSet};
use socket2::SockRef;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const FRONT: u64 = 0;
const TERMINATION: u64 = 1;
const FIRST_CLIENT: u64 = 2;

/// Datagrams taken from one socket before the others and the deliveries get their turn.
const RECEIVE_BATCH: usize = 64;
/// What arrives while the thread is busy waits here instead of being lost outside of the model.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Bound of what both directions may keep on their way, each; without it the memory of a link with delay
/// and without rate is up to the sender.
const IN_FLIGHT_MAX_BYTES: usize = 256 << 20;
/// What a datagram costs beyond its payload, roughly.
const BOOKKEEPING_BYTES: usize = 128;

/// One direction: the model, and what happens to datagrams outside of it.
pub(crate) struct Direction {
    link: Link<u64>,
    /// Not taken because too much was on its way.
    pub(crate) overrun: u64,
    /// Refused by the kernel, or for a client that is forgotten.
    pub(crate) unsent: u64,
    lag_sum: Duration,
    pub(crate) lag_max: Duration,
}

impl Direction {
    fn new(link: Link<u64>) -> Self {
        Self { link, overrun: 0, unsent: 0, lag_sum: Duration::ZERO, lag_max: Duration::ZERO }
    }

    pub(crate) fn stats(&self) -> &LinkStats {
        self.link.stats()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.link.in_flight()
    }

    /// How far behind its moment the average datagram was sent on.
    pub(crate) fn lag_mean(&self) -> Duration {
        self.lag_sum.div_f64(self.stats().delivered.max(1) as f64)
    }

    fn push(&mut self, now: Time, token: u64, datagram: &[u8]) {
        let held = self.link.bytes_in_flight() + self.link.in_flight() * BOOKKEEPING_BYTES;
        if held > IN_FLIGHT_MAX_BYTES {
            self.overrun += 1;
        } else {
            self.link.push(now, token, datagram);
        }
    }

    /// Hands every datagram that is due to `send`, which says whether it went.
    fn deliver(&mut self, clock: &Clock, mut send: impl FnMut(&Delivery<u64>) -> bool) {
        while let Some(delivery) = self.link.poll_delivery(clock.now()) {
            let lag = clock.now() - delivery.due;
            self.lag_sum += lag;
            self.lag_max = self.lag_max.max(lag);
            self.unsent += u64::from(!send(&delivery));
            self.link.recycle(delivery.bytes);
        }
    }
}

/// Time since the first datagram.
#[derive(Default)]
struct Clock(Option<Instant>);

impl Clock {
    fn start(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    fn now(&self) -> Time {
        self.0.map_or(Time::ZERO, |origin| Time::ZERO + origin.elapsed())
    }
}

/// The proxy.
pub(crate) struct Proxy {
    front: UdpSocket,
    to: SocketAddr,
    wait_set: WaitSet,
    clock: Clock,
    clients: Clients,
    pub(crate) forward: Direction,
    pub(crate) back: Option<Direction>,
    buffer: Vec<u8>,
}

impl Proxy {
    /// Takes the listening port.
    pub(crate) fn bind(options: &Options) -> io::Result<Self> {
        let front = UdpSocket::bind(options.listen)?;
        front.set_nonblocking(true)?;
        let socket = SockRef::from(&front);
        // Less than asked for is no reason to give up; the kernel's limit may be low.
        _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        let wait_set = WaitSet::new()?;
        wait_set.add(&front, FRONT)?;
        let back_seed = Rng::stream(options.seed, 1).next_u64();
        Ok(Self {
            front,
            to: options.to,
            wait_set,
            clock: Clock::default(),
            clients: Clients::new(options.to, FIRST_CLIENT),
            forward: Direction::new(Link::new(options.forward.clone(), options.seed)),
            back: options.back.clone().map(|back| Direction::new(Link::new(back, back_seed))),
            buffer: vec![0; 65_535],
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.front.local_addr()
    }

    pub(crate) fn clients_seen(&self) -> u64 {
        self.clients.seen()
    }

    /// Moves datagrams until a signal comes or `end`.
    pub(crate) fn run(&mut self, termination: &Termination, end: Option<Instant>) -> io::Result<()> {
        self.wait_set.add(termination, TERMINATION)?;
        let mut ready = Vec::new();
        loop {
            self.wait_set.wait(self.until_next(end), &mut ready)?;
            for &token in &ready {
                match token {
                    FRONT => self.receive_from_clients(),
                    TERMINATION => {
                        if termination.arrived() {
                            return Ok(());
                        }
                    }
                    client => self.receive_answers(client),
                }
            }
            self.deliver();
            if end.is_some_and(|end| end <= Instant::now()) {
                return Ok(());
            }
        }
    }

    /// How long nothing is due. `None`: until something arrives.
    fn until_next(&self, end: Option<Instant>) -> Option<Duration> {
        let back = self.back.as_ref().and_then(|back| back.link.poll_timeout());
        let due = [self.forward.link.poll_timeout(), back].into_iter().flatten().min();
        let delivery = due.map(|due| due - self.clock.now());
        let end = end.map(|end| end.saturating_duration_since(Instant::now()));
        [delivery, end].into_iter().flatten().min()
    }

    fn receive_from_clients(&mut self) {
        for _ in 0..RECEIVE_BATCH {
            // An error is the ICMP answer to an earlier send, or that there is nothing more.
            let Ok((length, from)) = self.front.recv_from(&mut self.buffer) else { return };
            self.clock.start();
            let now = self.clock.now();
            let (wait_set, answers) = (&self.wait_set, self.back.is_some());
            let added = |token, upstream: &UdpSocket| {
                _ = SockRef::from(upstream).set_send_buffer_size(SOCKET_BUFFER_BYTES);
                if answers { wait_set.add(upstream, token) } else { Ok(()) }
            };
            match self.clients.token_of(from, now, added) {
                Ok(token) => self.forward.push(now, token, &self.buffer[..length]),
                Err(_) => self.forward.overrun += 1,
            }
        }
    }

    fn receive_answers(&mut self, token: u64) {
        let (Some(back), now) = (&mut self.back, self.clock.now()) else { return };
        // A client that was forgotten while its answer waited has closed its socket.
        let Some(client) = self.clients.find(token) else { return };
        for _ in 0..RECEIVE_BATCH {
            let Ok((length, _)) = client.upstream.recv_from(&mut self.buffer) else { break };
            back.push(now, token, &self.buffer[..length]);
        }
        self.clients.used(token, now);
    }

    fn deliver(&mut self) {
        let (clients, to, front) = (&self.clients, self.to, &self.front);
        self.forward.deliver(&self.clock, |delivery| {
            let client = clients.find(delivery.tag);
            client.is_some_and(|client| client.upstream.send_to(&delivery.bytes, to).is_ok())
        });
        if let Some(back) = &mut self.back {
            back.deliver(&self.clock, |delivery| {
                let client = clients.find(delivery.tag);
                client.is_some_and(|client| front.send_to(&delivery.bytes, client.address).is_ok())
            });
        }
    }
}
