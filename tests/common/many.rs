//! Many connections to one receiver, in memory: what the bench of scale and the test of memory share.
#![allow(dead_code)] // each uses a part

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtcp::connection::{Config, View};
use rtcp::endpoint::mux::{ConnectOptions, MuxConfig};
use rtcp::endpoint::{ConnId, Event, Mux};
use rtcp::time::Time;

/// Connections of one dialler: its inner ports run from here.
const PER_DIALLER: usize = 50_000;
const FIRST_PORT: u16 = 2000;
const SERVER: &str = "192.0.2.1:1000";
/// Opened before the answers are looked at: a receiver queues 256 to strangers.
pub(crate) const BURST: usize = 200;
/// What a connection sends at a time.
const MESSAGE: [u8; 1000] = [7; 1000];
/// One receiver and those who dial it.
pub(crate) struct Net {
    now: Time,
    pub(crate) server: Mux,
    diallers: Vec<Mux>,
    /// By order of dialling: the dialler and the id there.
    dialled: Vec<(usize, ConnId)>,
    buffer: Vec<u8>,
    events: Vec<Event>,
    /// Time spent in the receiver.
    pub(crate) in_server: Duration,
    /// Bytes that the link still takes towards the receiver. What is below zero is a debt.
    pub(crate) room: i64,
    /// What the receiver does now is for the instruction counter.
    pub(crate) is_counted: bool,
}

/// What is counted: a function of its own, never inlined.
#[inline(never)]
fn measured_at_server<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

fn at_server<R>(is_counted: bool, work: impl FnOnce() -> R) -> R {
    if is_counted { measured_at_server(work) } else { work() }
}

fn mux(max_clients: usize, seed: u8) -> Mux {
    let config = MuxConfig {
        connection: Config::default(),
        max_clients,
        ack_to: None,
        any_source: false,
        local_tcp_port: 0,
        remote_tcp_port: 0,
        udp_port: 1000,
    };
    Mux::new(config, [seed; 32])
}

fn address(dialler: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, dialler as u8 + 1], 1000))
}

impl Net {
    pub(crate) fn new(connections: usize) -> Self {
        let diallers = (0..connections.div_ceil(PER_DIALLER)).map(|n| mux(0, n as u8 + 2)).collect();
        Self {
            now: Time::from_nanos(1_000_000_000),
            server: mux(connections, 1),
            diallers,
            dialled: Vec::with_capacity(connections),
            buffer: Vec::with_capacity(1 << 17),
            events: Vec::with_capacity(1024),
            in_server: Duration::ZERO,
            room: i64::MAX,
            is_counted: false,
        }
    }

    /// A link without delay, until nobody has anything to send or the `room` towards the receiver is used up.
    fn run(&mut self) {
        let server: SocketAddr = SERVER.parse().expect("an address");
        loop {
            let mut moved = false;
            for (index, dialler) in self.diallers.iter_mut().enumerate() {
                self.buffer.clear();
                while self.room > 0
                    && let Some(sent) = dialler.poll_transmit(self.now, 44, &mut self.buffer)
                {
                    self.room -= self.buffer.len() as i64;
                    let begin = Instant::now();
                    for datagram in self.buffer.chunks(sent.segment_size.unwrap_or(sent.size)) {
                        let server = &mut self.server;
                        at_server(self.is_counted, || {
                            server.handle_datagram(self.now, address(index), None, false, datagram);
                        });
                    }
                    self.in_server += begin.elapsed();
                    self.buffer.clear();
                    moved = true;
                }
            }
            let mut begin = Instant::now();
            while let Some(sent) =
                at_server(self.is_counted, || self.server.poll_transmit(self.now, 44, &mut self.buffer))
            {
                self.in_server += begin.elapsed();
                let index = (0..self.diallers.len()).find(|n| address(*n) == sent.to).expect("a dialler");
                for datagram in self.buffer.chunks(sent.segment_size.unwrap_or(sent.size)) {
                    self.diallers[index].handle_datagram(self.now, server, None, false, datagram);
                }
                self.buffer.clear();
                moved = true;
                begin = Instant::now();
            }
            if !moved {
                return;
            }
        }
    }

    pub(crate) fn dial(&mut self, connections: usize) {
        let server: SocketAddr = SERVER.parse().expect("an address");
        for n in 0..connections {
            let dialler = n / PER_DIALLER;
            let options = ConnectOptions {
                config: Config::default(),
                user_data: n,
                local_tcp_port: FIRST_PORT + (n % PER_DIALLER) as u16,
                remote_tcp_port: 0,
                ignore_refused: false,
                alternatives: Vec::new(),
            };
            let (id, _) =
                self.diallers[dialler].connect(self.now, server, options).expect("a new connection");
            self.dialled.push((dialler, id));
            if n % BURST == BURST - 1 {
                self.settle(Duration::from_millis(1));
            }
        }
        self.settle(Duration::from_millis(1));
        assert_eq!(self.server.connections(), connections);
    }

    pub(crate) fn settle(&mut self, step: Duration) {
        self.now += step;
        self.run();
        self.poll();
    }

    /// Takes the records and reads what came, at both ends.
    pub(crate) fn poll(&mut self) {
        let (now, events) = (self.now, &mut self.events);
        self.diallers.iter_mut().for_each(|mux| take_all(mux, now, events));
        at_server(self.is_counted, || take_all(&mut self.server, now, events));
    }

    /// Bytes that the receiver has got from each connection.
    pub(crate) fn received_by_each(&self) -> impl Iterator<Item = u64> {
        let ids = self.server.held_ids().into_iter();
        ids.filter_map(|id| Some(self.server.connection(id)?.stats().bytes_received))
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.diallers.iter().chain([&self.server]).filter_map(Mux::poll_timeout).min()
    }

    fn handle_timeouts(&mut self) {
        let now = self.now;
        let is_due = |mux: &&mut Mux| mux.poll_timeout().is_some_and(|at| at <= now);
        self.diallers.iter_mut().filter(is_due).for_each(|mux| mux.handle_timeout(now));
        if is_due(&&mut self.server) {
            at_server(self.is_counted, || self.server.handle_timeout(now));
        }
        self.run();
    }

    /// So much time, with every deadline in it.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        self.settle(Duration::ZERO);
        while let Some(next) = self.deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.handle_timeouts();
            self.poll();
        }
        self.now = until;
    }

    /// Every deadline until there is none: how many.
    pub(crate) fn wait(&mut self) -> usize {
        let mut wakes = 0;
        while let Some(next) = self.deadline() {
            self.now = self.now.max(next);
            self.handle_timeouts();
            wakes += 1;
        }
        rtcp::udp::give_memory_back(); // as the endpoint does
        wakes
    }

    /// One message of each of `count` connections, in turn from the `first`.
    pub(crate) fn send(&mut self, first: usize, count: usize) {
        self.send_if(first, count, |_| true);
    }

    /// The same, but only of those of whom it `may` be.
    pub(crate) fn send_if(&mut self, first: usize, count: usize, may: impl Fn(View<'_>) -> bool) {
        for n in first..first + count {
            let (dialler, id) = self.dialled[n % self.dialled.len()];
            if !self.diallers[dialler].connection(id).is_some_and(&may) {
                continue;
            }
            let sent = self.diallers[dialler].write(self.now, id, &MESSAGE);
            assert_eq!(sent, Ok(MESSAGE.len()));
        }
    }
}

fn take_all(mux: &mut Mux, now: Time, events: &mut Vec<Event>) {
    let mut room = [0; 4096];
    loop {
        events.clear();
        if mux.poll_events(now, 1024, events) == 0 {
            return;
        }
        for event in &*events {
            while mux.read(now, event.conn, &mut room).is_ok_and(|n| n > 0) {}
        }
    }
}

pub(crate) fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096.0
}
