//! Two muxes, an emulated link each way, virtual time: the world of the simulation tests.
#![allow(dead_code)] // each test program uses a part of it

pub(crate) mod app;
pub(crate) mod pattern;
pub(crate) mod scenario;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use app::{App, Plan};
use rtcp::connection::{Config, End};
use rtcp::emulator::{Impairments, Link};
use rtcp::endpoint::mux::{ConnectOptions, Event, MuxConfig, event};
use rtcp::endpoint::{ConnId, Mux};
use rtcp::time::Time;
use rtcp::wire::Segment;

/// Rounds of work within one moment after which the world is said to spin.
const SPIN_LIMIT: usize = 200_000;

pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;
/// The inner port that servers listen on.
pub(crate) const LISTEN_PORT: u16 = 80;
/// The inner port of a client's first connection.
pub(crate) const FIRST_PORT: u16 = 5000;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A link that only takes its time.
pub(crate) fn clean(delay: Duration) -> Impairments {
    Impairments { delay, ..Impairments::default() }
}

/// One host: a mux and the applications on it, with a clock of its own.
pub(crate) struct Host {
    pub(crate) mux: Mux,
    pub(crate) addr: SocketAddr,
    /// What its clock shows when the world begins.
    pub(crate) clock: Duration,
    /// Off: it neither receives nor sends, and its clock stands still.
    pub(crate) is_alive: bool,
    pub(crate) apps: Vec<App>,
    /// Plans for connections that peers will begin, by the peer's inner port.
    pub(crate) expected: BTreeMap<u16, Plan>,
    /// Most segments in one `poll_transmit`.
    pub(crate) batch: usize,
    /// Datagrams to addresses that are no host of this world.
    pub(crate) strays: u64,
    events: Vec<Event>,
}

/// What a tap does with a segment that is about to enter its link.
pub(crate) enum Fate {
    Pass,
    Drop,
    Twice,
    /// Put on the link only after so long.
    Late(Duration),
}

/// Sees each segment with the host that sends it and its number, both directions counted together.
pub(crate) type Tap = Box<dyn FnMut(usize, u64, &mut Vec<u8>) -> Fate + Send>;

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) hosts: [Host; 2],
    /// `links[i]` carries what host `i` sends.
    pub(crate) links: [Link; 2],
    pub(crate) tap: Option<Tap>,
    pub(crate) sent: u64,
    /// Of every datagram sent and every record reported, with its time.
    pub(crate) log_hash: u64,
    pub(crate) is_traced: bool,
    settled: u64,
    late: Vec<(Time, usize, Vec<u8>)>,
    out: Vec<u8>,
}

/// The configuration of one of the two muxes.
pub(crate) fn mux_config(host: usize, connection: Config, max_clients: usize) -> MuxConfig {
    MuxConfig {
        connection,
        max_clients,
        ack_to: None,
        any_source: false,
        local_tcp_port: 0,
        remote_tcp_port: 0,
        udp_port: addr(host).port(),
    }
}

pub(crate) fn addr(host: usize) -> SocketAddr {
    let text = if host == CLIENT { "192.0.2.1:4001" } else { "192.0.2.2:4002" };
    text.parse().expect("an address")
}

/// The `number`-th connection of the client.
pub(crate) fn dial(config: &Config, number: u16) -> ConnectOptions {
    ConnectOptions {
        config: config.clone(),
        user_data: 0,
        local_tcp_port: FIRST_PORT + number,
        remote_tcp_port: LISTEN_PORT,
        ignore_refused: false,
        alternatives: Vec::new(),
    }
}

/// The secrets of one host.
pub(crate) fn mux_seed(host: usize, seed: u64) -> [u8; 32] {
    let mut rng = rtcp::emulator::Rng::stream(seed, 100 + host as u64);
    std::array::from_fn(|_| rng.next_u64() as u8)
}

impl Host {
    fn new(host: usize, config: MuxConfig, seed: u64) -> Self {
        Self {
            mux: Mux::new(config, mux_seed(host, seed)),
            addr: addr(host),
            clock: Duration::ZERO,
            is_alive: true,
            apps: Vec::new(),
            expected: BTreeMap::new(),
            batch: 16,
            strays: 0,
            events: Vec::new(),
        }
    }

    pub(crate) fn time(&self, now: Time) -> Time {
        now + self.clock
    }

    fn next_event(&self, now: Time) -> Option<Time> {
        if !self.is_alive {
            return None;
        }
        let local = self.time(now);
        let timers = self.apps.iter().filter_map(|app| app.next_timer(local));
        timers.chain(self.mux.poll_timeout()).min().map(|at| at.before(self.clock))
    }

    /// Lets the applications act. True if one did.
    fn run_apps(&mut self, now: Time, log: &mut u64, trace: Option<Time>) -> bool {
        let now = self.time(now);
        let mut busy = false;
        let mut events = std::mem::take(&mut self.events);
        self.mux.poll_events(now, usize::MAX, &mut events);
        for record in events.drain(..) {
            fold(log, now.as_nanos());
            fold(log, u64::from(record.events) << 32 | record.user_data as u64);
            if let Some(at) = trace {
                eprintln!("{at:?} {}: {record:?}", self.addr);
            }
            if record.events & event::ACCEPTED != 0 {
                self.adopt(now, record.conn);
            }
            let found = self.apps.iter_mut().find(|app| app.id == record.conn);
            let app = found.expect("a record belongs to an application");
            busy |= app.on_event(&mut self.mux, now, &record);
        }
        self.events = events;
        for app in self.apps.iter_mut().filter(|app| app.end.is_none()) {
            busy |= app.act(&mut self.mux, now, 0);
        }
        busy
    }

    fn adopt(&mut self, now: Time, id: ConnId) {
        let port = self.mux.connection(id).expect("it was just accepted").identity().peer_port;
        let plan = self.expected.remove(&port);
        let plan = plan.unwrap_or_else(|| panic!("a connection from port {port} that nobody began"));
        self.apps.push(App::new(now, id, plan));
    }
}

fn fold(hash: &mut u64, value: u64) {
    *hash = (*hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
}

impl World {
    pub(crate) fn new(configs: [MuxConfig; 2], links: [Impairments; 2], seed: u64) -> Self {
        let [client, server] = configs;
        let [there, back] = links;
        Self {
            now: Time::ZERO + ms(1),
            hosts: [Host::new(CLIENT, client, seed), Host::new(SERVER, server, seed)],
            links: [Link::new(there, seed.wrapping_mul(2)), Link::new(back, seed.wrapping_mul(2) + 1)],
            tap: None,
            sent: 0,
            log_hash: seed,
            is_traced: std::env::var_os("SIM_TRACE").is_some(),
            settled: 0,
            late: Vec::new(),
            out: Vec::with_capacity(1 << 16),
        }
    }

    /// A client and a server with this configuration.
    pub(crate) fn simple(config: &Config, links: [Impairments; 2], seed: u64) -> Self {
        let client = mux_config(CLIENT, config.clone(), 0);
        let server = mux_config(SERVER, config.clone(), 1024);
        Self::new([client, server], links, seed)
    }

    /// The client dials its `number`-th connection; both ends follow their plans.
    pub(crate) fn begin(&mut self, config: &Config, number: u16, client: Plan, server: Plan) -> ConnId {
        self.hosts[SERVER].expected.insert(FIRST_PORT + number, server);
        self.dial(CLIENT, dial(config, number), client)
    }

    pub(crate) fn dial(&mut self, host: usize, options: ConnectOptions, plan: Plan) -> ConnId {
        let to = self.hosts[1 - host].addr;
        let host = &mut self.hosts[host];
        let now = host.time(self.now);
        let (id, existing) = host.mux.connect(now, to, options).expect("dialling");
        assert!(!existing, "a connection of its own");
        host.apps.push(App::new(now, id, plan));
        id
    }

    pub(crate) fn apps(&self) -> impl Iterator<Item = &App> {
        self.hosts.iter().flat_map(|host| &host.apps)
    }

    /// Every connection that was begun is over at both ends.
    pub(crate) fn is_over(&self) -> bool {
        self.hosts.iter().all(|host| host.expected.is_empty()) && self.apps().all(|app| app.end.is_some())
    }

    pub(crate) fn is_over_at_the_client(&self) -> bool {
        self.hosts[CLIENT].apps.iter().all(|app| app.end.is_some())
    }

    /// Drops the applications that have seen the end of their connection.
    pub(crate) fn forget_ended(&mut self) {
        for host in &mut self.hosts {
            host.apps.retain(|app| app.end.is_none());
        }
    }

    /// Every connection delivered its bytes exactly and closed in good order.
    pub(crate) fn assert_exact(&self) {
        for host in &self.hosts {
            assert!(host.expected.is_empty(), "never accepted: {:?}", host.expected.keys());
            for app in &host.apps {
                assert_eq!(app.wrong, None, "{}: a wrong byte", host.addr);
                assert_eq!(app.end, Some(End::Orderly), "{}: {}", host.addr, self.describe());
                assert!(app.is_exact(), "{}: {}", host.addr, self.describe());
            }
        }
    }

    /// Where everything stands, for a failure's message.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("at {:?}, {} segments sent", self.now, self.sent);
        for host in &self.hosts {
            for app in &host.apps {
                let state = host.mux.connection(app.id).map(|connection| connection.state());
                text += &format!(
                    "\n  {} {:?} {state:?}: wrote {}/{}, read {}/{}, eof {}, finished {}, end {:?}",
                    host.addr,
                    app.id,
                    app.written,
                    app.plan.send,
                    app.read,
                    app.plan.expect,
                    app.eof,
                    app.finished,
                    app.end
                );
            }
        }
        text
    }

    /// All faults off: from here on everything must finish.
    pub(crate) fn heal(&mut self) {
        for link in &mut self.links {
            link.set_impairments(clean(ms(1)));
        }
    }

    /// Lets everything happen that is due now.
    pub(crate) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < SPIN_LIMIT, "it spins: {}", self.describe());
            let mut busy = self.deliver();
            let trace = self.is_traced.then_some(self.now);
            for host in self.hosts.iter_mut().filter(|host| host.is_alive) {
                let now = host.time(self.now);
                if host.mux.poll_timeout().is_some_and(|at| at <= now) {
                    host.mux.handle_timeout(now);
                    busy = true;
                }
                busy |= host.run_apps(self.now, &mut self.log_hash, trace);
            }
            busy |= self.transmit(CLIENT) | self.transmit(SERVER);
            if !busy {
                break;
            }
        }
        self.settled += 1;
        // With hundreds of connections at every step it would take most of the time.
        if self.hosts[CLIENT].apps.len() < 16 || self.settled.is_multiple_of(64) {
            self.assert_invariants();
        }
    }

    fn assert_invariants(&self) {
        for host in &self.hosts {
            #[cfg(debug_assertions)]
            host.mux.assert_invariants();
            for app in host.apps.iter().filter(|app| app.end.is_none()) {
                if let Some(connection) = host.mux.connection(app.id) {
                    connection.assert_invariants();
                }
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let mut busy = false;
        while let Some(index) = self.late.iter().position(|(at, ..)| *at <= self.now) {
            let (_, from, bytes) = self.late.remove(index);
            self.links[from].push(self.now, (), &bytes);
        }
        for from in [CLIENT, SERVER] {
            let sender = self.hosts[from].addr;
            let host = &mut self.hosts[1 - from];
            let now = host.time(self.now);
            while let Some(arrived) = self.links[from].poll_delivery(self.now) {
                if host.is_alive {
                    host.mux.handle_datagram(now, sender, None, arrived.ce, &arrived.bytes);
                }
                self.links[from].recycle(arrived.bytes);
                busy = true;
            }
        }
        busy
    }

    fn transmit(&mut self, from: usize) -> bool {
        let mut busy = false;
        let mut out = std::mem::take(&mut self.out);
        let (to, batch) = (self.hosts[1 - from].addr, self.hosts[from].batch);
        while self.hosts[from].is_alive {
            out.clear();
            let host = &mut self.hosts[from];
            let now = host.time(self.now);
            let Some(transmit) = host.mux.poll_transmit(now, batch, &mut out) else { break };
            assert_eq!(transmit.size, out.len());
            busy = true;
            if transmit.to != to {
                host.strays += 1;
                continue;
            }
            for datagram in out.chunks(transmit.segment_size.unwrap_or(out.len()).max(1)) {
                self.send(from, datagram, transmit.ect);
            }
        }
        self.out = out;
        busy
    }

    fn send(&mut self, from: usize, datagram: &[u8], ect: bool) {
        let number = self.sent;
        self.sent += 1;
        fold(&mut self.log_hash, self.now.as_nanos());
        fold(&mut self.log_hash, u64::from(crc_fast::crc32_iscsi(datagram)) << 1 | from as u64);
        if self.is_traced {
            let text = Segment::parse(datagram).map(|segment| segment.to_string());
            let arrow = if from == CLIENT { ">" } else { "<" };
            eprintln!("{:?} #{number} {arrow} {}", self.now, text.unwrap_or_default());
        }
        let Some(tap) = &mut self.tap else { return self.links[from].push_ecn(self.now, (), datagram, ect) };
        let mut bytes = datagram.to_vec();
        match tap(from, number, &mut bytes) {
            Fate::Pass => self.links[from].push_ecn(self.now, (), &bytes, ect),
            Fate::Drop => {}
            Fate::Twice => {
                self.links[from].push_ecn(self.now, (), &bytes, ect);
                self.links[from].push_ecn(self.now, (), &bytes, ect);
            }
            Fate::Late(by) => self.late.push((self.now + by, from, bytes)),
        }
    }

    /// When something happens next.
    pub(crate) fn next_event(&self) -> Option<Time> {
        let hosts = self.hosts.iter().filter_map(|host| host.next_event(self.now));
        let links = self.links.iter().filter_map(Link::poll_timeout);
        hosts.chain(links).chain(self.late.iter().map(|(at, ..)| *at)).min()
    }

    /// One step of virtual time; false when nothing is left to happen before `end`.
    pub(crate) fn step(&mut self, end: Time) -> bool {
        self.settle();
        match self.next_event().filter(|at| *at <= end) {
            Some(next) => self.now = self.now.max(next),
            None => self.now = self.now.max(end),
        }
        self.now < end
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.settle();
    }

    /// Runs until `done`, at most for `limit`: how long it took, if it was done.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (begin, end) = (self.now, self.now + limit);
        self.settle();
        while !done(self) {
            if !self.step(end) {
                self.settle();
                return done(self).then(|| self.now - begin);
            }
            self.settle();
        }
        Some(self.now - begin)
    }
}
