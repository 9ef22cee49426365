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

const LIMIT: Duration = Duration::from_secs(300);

/// What the end of anything certain may take where everything is slow.
const PATIENCE: Duration = Duration::from_secs(60);

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

    /// Waits until it has no more than that; a moment ago its last connection may not have been over yet.
    #[track_caller]
    fn settles_to(&self, descriptors: usize, kib: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = (self.running.descriptors(), self.running.resident_kib());
            if now.0 <= descriptors && now.1 <= kib {
                return;
            }
            assert!(Instant::now() < deadline, "{now:?} descriptors and KiB, not {descriptors} and {kib}");
            thread::sleep(Duration::from_millis(50));
        }
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
        thread::sleep(Duration::from_millis(300)); // for a more exact bound, if the last connections are over then
        let (descriptors, before) = (server.running.descriptors(), server.running.resident_kib());
        server.serve(&[], &["serial", "1000"]);
        server.serve(&["--no-thread"], at_once);
        server.settles_to(descriptors, before + GROWTH_KIB);
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

/// How late a busy machine may make the end of a limit: the limit itself would be 100 s, or none, without the option.
const SLACK: Duration = Duration::from_secs(20);

#[test]
fn a_sender_whose_peer_is_killed_is_told_within_the_user_timeout() {
    let limit = Duration::from_secs(5);
    let at_once = |way: &[&str]| {
        let server = Server::start(&[way, &["--sink"]].concat());
        let begun = Instant::now();
        let mut sender = server.client(&[way, &["--user-timeout-ms", "5000"]].concat(), &["bulk"]);
        assert_eq!(sender.line(), "under way");
        let killed = Instant::now();
        server.running.signal("KILL");
        assert_eq!(sender.line(), "failed RTCP_EPEERTIMEOUT", "{way:?}");
        let (took, least) = (killed.elapsed(), begun.elapsed());
        assert!(took <= limit + SLACK * patience(), "{way:?}: told after {took:?}");
        assert!(least >= limit, "{way:?}: told {least:?} after it began that nobody answers for {limit:?}");
        sender.wait(LIMIT).expect(0);
    };
    thread::scope(|scope| WAYS.iter().for_each(|way| drop(scope.spawn(|| at_once(way)))));
}

#[test]
fn a_receiver_whose_client_is_killed_is_told_within_the_idle_timeout() {
    let limit = Duration::from_secs(5);
    let at_once = |way: &[&str]| {
        let mut server = Server::start(&[way, &["--sink", "--idle-ms", "5000"]].concat());
        let mut sender = server.client(way, &["bulk"]);
        assert_eq!(sender.line(), "under way");
        let killed = Instant::now();
        sender.signal("KILL");
        assert_eq!(server.running.line(), "ended RTCP_EPEERTIMEOUT", "{way:?}");
        let took = killed.elapsed();
        assert!(took <= limit + SLACK * patience(), "{way:?}: told after {took:?}");
        assert_eq!(server.client(way, &["bulk"]).line(), "under way", "it serves the next");
    };
    thread::scope(|scope| WAYS.iter().for_each(|way| drop(scope.spawn(|| at_once(way)))));
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
    let switches =
        || ways.each_ref().map(|(_, server, idle)| [&server.running, idle].map(Running::times_asleep));
    // Delayed ACKs, tail probes, the seat's grace come first.
    let (deadline, mut before) = (Instant::now() + PATIENCE, switches());
    loop {
        thread::sleep(Duration::from_secs(3));
        let now = switches();
        if now == before {
            return;
        }
        assert!(Instant::now() < deadline, "{WAYS:?}, server and client each: {before:?}, 3 s later {now:?}");
        before = now;
    }
}
