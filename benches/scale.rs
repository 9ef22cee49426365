//! Many connections in one process, without sockets: what an idle one holds, what a handshake and a segment cost.
//!
//! `cargo bench --bench scale` prints a Markdown table. Each figure comes from a process of its own, so that none
//! sees the memory of another. Instructions are counted by callgrind; without valgrind that row is left out.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rtcp::connection::Config;
use rtcp::endpoint::mux::{ConnectOptions, MuxConfig};
use rtcp::endpoint::{ConnId, Event, Mux};
use rtcp::time::Time;

/// Connections of one dialler: its inner ports run from here.
const PER_DIALLER: usize = 50_000;
const FIRST_PORT: u16 = 2000;
const SERVER: &str = "192.0.2.1:1000";
/// Opened before the answers are looked at: a receiver queues 256 to strangers.
const BURST: usize = 200;
/// What a connection sends at a time.
const MESSAGE: [u8; 1000] = [7; 1000];
const MIB: f64 = 1_048_576.0;

fn main() {
    // Cargo passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |index: usize| args.get(index).and_then(|arg| arg.parse::<usize>().ok()).unwrap_or(0);
    match args.first().map(String::as_str) {
        Some("memory") => memory(number(1)),
        Some("handshakes") => handshakes(number(1)),
        Some("segments") => segments(number(1), number(2)),
        _ => report(),
    }
}

fn report() {
    println!("| connections | figure | value |\n|---:|---|---:|");
    for count in [10_000, 100_000] {
        print!("{}", own(&["memory", &count.to_string()]));
    }
    print!("{}", own(&["handshakes", "100000"]));
    let counts = [10, 100_000];
    let costs = counts.map(|count| {
        instructions(count)
            .zip(instructions_of_start(count))
            .map(|(all, start)| (all - start) as f64 / SEGMENTS as f64)
    });
    for (count, cost) in counts.iter().zip(costs) {
        if let Some(cost) = cost {
            println!("| {count} | instructions per segment, both ends, ACKs included | {cost:.0} |");
        }
    }
    if let [Some(few), Some(many)] = costs {
        println!("| {} : {} | ratio | {:.2} |", counts[1], counts[0], many / few);
    }
}

/// The output of this program with other arguments.
fn own(args: &[&str]) -> String {
    let program = std::env::current_exe().expect("our own path");
    let output = Command::new(program).args(args).output().expect("it runs again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Segments counted: as many for few connections as for many.
const SEGMENTS: usize = 100_000;

fn instructions(connections: usize) -> Option<u64> {
    callgrind(connections, 2 * SEGMENTS)
}

/// The same with half the segments: the handshakes, and what the first segment of a connection allocates.
fn instructions_of_start(connections: usize) -> Option<u64> {
    callgrind(connections, SEGMENTS)
}

fn callgrind(connections: usize, segments: usize) -> Option<u64> {
    let program = std::env::current_exe().expect("our own path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["segments", &connections.to_string(), &segments.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok())
}

/// One receiver and those who dial it.
struct Net {
    now: Time,
    server: Mux,
    diallers: Vec<Mux>,
    /// By order of dialling: the dialler and the id there.
    dialled: Vec<(usize, ConnId)>,
    buffer: Vec<u8>,
    events: Vec<Event>,
    /// Time spent in the receiver.
    in_server: Duration,
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
    fn new(connections: usize) -> Self {
        let diallers = (0..connections.div_ceil(PER_DIALLER)).map(|n| mux(0, n as u8 + 2)).collect();
        Self {
            now: Time::from_nanos(1_000_000_000),
            server: mux(connections, 1),
            diallers,
            dialled: Vec::with_capacity(connections),
            buffer: Vec::with_capacity(1 << 17),
            events: Vec::with_capacity(1024),
            in_server: Duration::ZERO,
        }
    }

    /// A link without delay, until nobody has anything to send.
    fn run(&mut self) {
        let server: SocketAddr = SERVER.parse().expect("an address");
        loop {
            let mut moved = false;
            for (index, dialler) in self.diallers.iter_mut().enumerate() {
                self.buffer.clear();
                while let Some(sent) = dialler.poll_transmit(self.now, 44, &mut self.buffer) {
                    let begin = Instant::now();
                    for datagram in self.buffer.chunks(sent.segment_size.unwrap_or(sent.size)) {
                        self.server.handle_datagram(self.now, address(index), None, false, datagram);
                    }
                    self.in_server += begin.elapsed();
                    self.buffer.clear();
                    moved = true;
                }
            }
            let mut begin = Instant::now();
            while let Some(sent) = self.server.poll_transmit(self.now, 44, &mut self.buffer) {
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

    fn dial(&mut self, connections: usize) {
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
                self.settle();
            }
        }
        self.settle();
        assert_eq!(self.server.connections(), connections);
    }

    fn settle(&mut self) {
        self.now += Duration::from_millis(1);
        self.run();
        self.poll();
    }

    /// Takes the records and reads what came, at both ends.
    fn poll(&mut self) {
        let mut room = [0; 4096];
        for mux in self.diallers.iter_mut().chain([&mut self.server]) {
            loop {
                self.events.clear();
                if mux.poll_events(self.now, 1024, &mut self.events) == 0 {
                    break;
                }
                for event in &self.events {
                    while mux.read(self.now, event.conn, &mut room).is_ok_and(|n| n > 0) {}
                }
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.diallers.iter().chain([&self.server]).filter_map(Mux::poll_timeout).min()
    }

    /// Every deadline until there is none: how many.
    fn wait(&mut self) -> usize {
        let mut wakes = 0;
        while let Some(next) = self.deadline() {
            self.now = self.now.max(next);
            self.diallers.iter_mut().chain([&mut self.server]).for_each(|mux| mux.handle_timeout(self.now));
            self.run();
            wakes += 1;
        }
        rtcp::udp::give_memory_back(); // as the endpoint does
        wakes
    }

    /// One message of each of `count` connections, in turn from the `first`.
    fn send(&mut self, first: usize, count: usize) {
        for n in first..first + count {
            let (dialler, id) = self.dialled[n % self.dialled.len()];
            let sent = self.diallers[dialler].write(self.now, id, &MESSAGE);
            assert_eq!(sent, Ok(MESSAGE.len()));
        }
    }
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096.0
}

/// Both ends are in this process: an end is a connection.
fn memory(connections: usize) {
    let mut net = Net::new(connections);
    let before = resident();
    let show = |what: &str, now: f64| {
        println!(
            "| {connections} | resident bytes of a connection, {what} | {:.0} |",
            now / (2 * connections) as f64
        );
    };
    net.dial(connections);
    show("just established", resident() - before);
    println!("| {connections} | wake-ups until all rest | {} |", net.wait());
    show("established, idle", resident() - before);
    for first in (0..connections).step_by(BURST) {
        net.send(first, BURST.min(connections - first));
        net.settle();
    }
    show("after a message", resident() - before);
    net.wait();
    show("after a message and 10 s", resident() - before);
    assert!(net.deadline().is_none());
    eprintln!("{:.0} MiB", resident() / MIB);
}

fn handshakes(connections: usize) {
    let mut net = Net::new(connections);
    let begin = Instant::now();
    net.dial(connections);
    let both = begin.elapsed();
    let rate = |time: Duration| connections as f64 / time.as_secs_f64();
    println!(
        "| {connections} | handshakes per second of one core, the receiver | {:.0} |",
        rate(net.in_server)
    );
    println!("| {connections} | the same, both ends and the events | {:.0} |", rate(both));
}

/// For callgrind: `segments` messages, each connection in turn, both ends.
fn segments(connections: usize, segments: usize) {
    let mut net = Net::new(connections);
    net.dial(connections);
    for first in (0..segments).step_by(10) {
        net.send(first, 10);
        net.settle();
    }
}
