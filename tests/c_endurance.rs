//! C programs that last: thousands of clients, lossy handshakes, peers that die, threads that meet in one handle, and
//! nothing at all for seconds.
#![cfg(all(target_os = "linux", feature = "capi"))]

#[path = "common/cc.rs"]
mod cc_tools;
#[path = "common/program.rs"]
mod program;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use cc_tools::{Link, build, scratch, source_tree};
use program::{Running, patience};

const LIMIT: Duration = Duration::from_secs(50);

/// With the library's own thread, and driven by the program's calls.
const WAYS: [&[&str]; 2] = [&[], &["--no-thread"]];

static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = scratch("c_endurance_bin");
    for name in ["endure_server.c", "endure_client.c", "endure_threads.c"] {
        build(&source_tree().join("tests/c").join(name), &dir, Link::Static);
    }
    dir
});

struct Server {
    running: Running,
    address: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut running = Running::start(&PROGRAMS.join("endure_server"), options);
        let address = running.address();
        Self { running, address }
    }

    fn client(&self, options: &[&str], mode: &[&str]) -> Running {
        client(&self.address, options, mode)
    }

    /// Runs a client to its successful end.
    fn serve(&self, options: &[&str], mode: &[&str]) {
        let ended = self.client(options, mode).wait(LIMIT).expect(0);
        assert_eq!(ended.stderr, "");
    }

    /// Descriptors and resident KiB, once every connection is over.
    fn settled(&self) -> (usize, u64) {
        thread::sleep(Duration::from_millis(300));
        (self.running.descriptors(), self.running.resident_kib())
    }
}

fn client(address: &str, options: &[&str], mode: &[&str]) -> Running {
    let (_, port) = address.rsplit_once(':').expect("an address has a port");
    Running::start(&PROGRAMS.join("endure_client"), &[options, &[port], mode].concat())
}

/// Resident memory that a server may gain over 1,000 clients after its first 700: what the allocator does not give back.
const GROWTH_KIB: u64 = 512;

#[test]
fn a_receiver_outlives_a_thousand_clients_in_turn_and_five_hundred_at_once_in_the_same_memory() {
    for way in WAYS {
        let server = Server::start(way);
        let at_once: &[&str] = &["parallel", "500"];
        server.serve(&["--no-thread"], at_once);
        server.serve(&[], &["serial", "200"]);
        let (descriptors, before) = server.settled();
        server.serve(&[], &["serial", "1000"]);
        server.serve(&["--no-thread"], at_once);
        let (descriptors_after, after) = server.settled();
        eprintln!("{way:?}: {before} KiB, then {after} KiB");
        assert_eq!(descriptors_after, descriptors);
        assert!(after <= before + GROWTH_KIB, "{way:?}: {before} KiB grew to {after} KiB");
    }
}

#[test]
fn fifty_handshakes_and_transfers_complete_though_three_in_ten_datagrams_are_lost_both_ways() {
    let server = Server::start(&[]);
    let faults = ["--listen", "127.0.0.1:0", "--to", &server.address, "--loss", "30", "--back", "same"];
    let mut link = Running::start(Path::new(env!("CARGO_BIN_EXE_udpl")), &faults);
    let proxy = link.address();
    client(&proxy, &[], &["parallel", "50"]).wait(LIMIT).expect(0);
}

#[test]
fn a_sender_whose_peer_is_killed_is_told_within_the_user_timeout() {
    let limit = Duration::from_millis(1500);
    for way in WAYS {
        let server = Server::start(&[way, &["--sink"]].concat());
        let mut sender = server.client(&[way, &["--user-timeout-ms", "1500"]].concat(), &["bulk"]);
        assert_eq!(sender.line(), "under way");
        let killed = Instant::now();
        server.running.signal("KILL");
        assert_eq!(sender.line(), "failed RTCP_EPEERTIMEOUT", "{way:?}");
        let (took, slack) = (killed.elapsed(), Duration::from_millis(700) * patience());
        assert!(took <= limit + slack, "{way:?}: told after {took:?}");
        assert!(
            took >= limit / 2,
            "{way:?}: told after {took:?} that the peer had not answered for {limit:?}"
        );
        sender.wait(LIMIT).expect(0);
    }
}

#[test]
fn a_receiver_whose_client_is_killed_is_told_within_the_idle_timeout() {
    let limit = Duration::from_millis(1500);
    for way in WAYS {
        let mut server = Server::start(&[way, &["--sink", "--idle-ms", "1500"]].concat());
        let mut sender = server.client(way, &["bulk"]);
        assert_eq!(sender.line(), "under way");
        let killed = Instant::now();
        sender.signal("KILL");
        assert_eq!(server.running.line(), "ended RTCP_EPEERTIMEOUT", "{way:?}");
        let (took, slack) = (killed.elapsed(), Duration::from_millis(700) * patience());
        assert!(took <= limit + slack, "{way:?}: told after {took:?}");
        assert_eq!(server.client(way, &["bulk"]).line(), "under way", "it serves the next");
    }
}

#[test]
fn small_messages_go_back_and_forth_two_thousand_times() {
    for way in WAYS {
        Server::start(way).serve(way, &["pingpong", "2000"]);
    }
}

#[test]
fn threads_and_signals_meet_in_one_handle() {
    for way in WAYS {
        let server = Server::start(way);
        let (_, port) = server.address.rsplit_once(':').expect("an address has a port");
        let ended = Running::start(&PROGRAMS.join("endure_threads"), &[way, &[port]].concat()).wait(LIMIT);
        assert_eq!(ended.expect(0).stderr, "", "{way:?}");
        server.serve(way, &["serial", "3"]);
    }
}

#[test]
fn an_idle_connection_wakes_nobody() {
    let ways = WAYS.map(|way| {
        let server = Server::start(way);
        let mut idle = server.client(way, &["idle"]);
        assert_eq!(idle.line(), "connected");
        (way, server, idle)
    });
    thread::sleep(Duration::from_secs(1)); // delayed ACKs, tail probes, the seat's grace
    let switches =
        || ways.each_ref().map(|(_, server, idle)| [&server.running, idle].map(Running::times_asleep));
    let before = switches();
    thread::sleep(Duration::from_secs(3));
    for ((before, after), (way, ..)) in before.into_iter().zip(switches()).zip(&ways) {
        assert_eq!(before, after, "{way:?}: server, client");
    }
}
