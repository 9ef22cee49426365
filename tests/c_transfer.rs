//! Files cross the link between two C programs: `rtcp_sendfile` and `rtcp_recvfile`, built as a user would build them.
#![cfg(all(target_os = "linux", feature = "capi"))]

#[path = "common/cc.rs"]
mod cc_tools;
#[path = "common/program.rs"]
mod program;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cc_tools::{Link, scratch};
use program::{Ended, Running, build_example, patience};

const LIMIT: Duration = Duration::from_secs(120);
/// The programs' own limit without `--timeout-s` is 30 s.
const SOON: Duration = Duration::from_secs(25);
const WAYS: [(Link, &[&str]); 4] = [
    (Link::Static, &[]),
    (Link::Shared, &[]),
    (Link::Static, &["--no-thread"]),
    (Link::Shared, &["--no-thread"]),
];

/// The programs, built once for all tests here.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = scratch("c_transfer_bin");
    let shared = ["c-examples/cli.c", "c-examples/filemsg.c", "c-examples/sha256.c"];
    for (link, suffix) in [(Link::Static, ""), (Link::Shared, "-shared")] {
        for name in ["rtcp_sendfile", "rtcp_recvfile"] {
            let main = format!("c-examples/{name}.c");
            build_example(
                &[&[main.as_str()], &shared[..]].concat(),
                link,
                &dir.join(format!("{name}{suffix}")),
            );
        }
    }
    let liar = ["tests/c/filemsg_liar.c", "c-examples/filemsg.c", "c-examples/sha256.c"];
    build_example(&liar, Link::Static, &dir.join("filemsg_liar"));
    dir
});

fn binary(name: &str, link: Link) -> PathBuf {
    PROGRAMS.join(match link {
        Link::Static => name.to_owned(),
        Link::Shared => format!("{name}-shared"),
    })
}

/// A receiver with the directory it fills.
struct Receiver {
    running: Running,
    address: String,
    dir: PathBuf,
}

impl Receiver {
    fn start(test: &str, link: Link, options: &[&str]) -> Self {
        Self::start_in(scratch(&format!("c_transfer_{test}")), link, options)
    }

    fn start_in(dir: PathBuf, link: Link, options: &[&str]) -> Self {
        let dest = dir.display().to_string();
        let args = [options, &["127.0.0.1:0", dest.as_str()]].concat();
        let mut running = Running::start(&binary("rtcp_recvfile", link), &args);
        let address = running.address();
        Self { running, address, dir }
    }

    /// What lies in its directory, hidden files included.
    fn files(&self) -> Vec<String> {
        names_in(&self.dir)
    }

    fn interrupt(self) -> Ended {
        self.running.signal("INT");
        self.running.wait(LIMIT)
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("readable").file_name().into_string().expect("ASCII")).collect();
    names.sort();
    names
}

/// A file of `len` bytes that look random, different for each `seed`.
fn file(dir: &Path, name: &str, len: usize, seed: u64) -> PathBuf {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect();
    let path = dir.join(name);
    fs::write(&path, bytes).expect("the directory is writable");
    path
}

fn send(link: Link, options: &[&str], path: &Path, to: &str) -> Running {
    let path = path.display().to_string();
    Running::start(&binary("rtcp_sendfile", link), &[options, &[path.as_str(), to]].concat())
}

/// The number called `name` in a JSON line.
fn figure(line: &str, name: &str) -> f64 {
    let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {line}"));
    let end = rest.find([',', '}']).expect("a JSON object ends");
    rest[..end].parse().unwrap_or_else(|_| panic!("{name} is no number in {line}"))
}

/// Waits until `condition` holds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT * patience();
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn free_port() -> String {
    format!("127.0.0.1:{}", cc_tools::free_port())
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).expect("readable") == fs::read(b).expect("readable")
}

/// A one-way proxy: data goes through it, ACKs do not.
fn udpl(to: &str, options: &[&str]) -> (Running, String) {
    let args = [&["--listen", "127.0.0.1:0", "--to", to], options].concat();
    let mut running = Running::start(Path::new(env!("CARGO_BIN_EXE_udpl")), &args);
    let address = running.address();
    (running, address)
}

#[test]
fn a_file_arrives_whichever_way_the_library_is_linked_and_driven() {
    for (i, (link, options)) in WAYS.into_iter().enumerate() {
        let source = scratch(&format!("c_transfer_clean_from_{i}"));
        let path = file(&source, "photo.jpg", 300_000, 1);
        let receiver =
            Receiver::start(&format!("clean_{i}"), link, &[options, &["--once", "--json"]].concat());
        let sent =
            send(link, &[options, &["--json"]].concat(), &path, &receiver.address).wait(LIMIT).expect(0);
        assert_eq!(receiver.files(), ["photo.jpg"]);
        assert!(same(&path, &receiver.dir.join("photo.jpg")), "{link:?} {options:?}");
        assert_eq!(figure(&sent.stdout, "bytes"), 300_000.0);
        assert!(figure(&sent.stdout, "goodput_mbps") > 0.0);
        assert_eq!(sent.stderr, "", "silence in a pipe");
        let received = receiver.running.wait(LIMIT).expect(0);
        assert_eq!(figure(&received.stdout, "bytes"), 300_000.0);
    }
}

#[test]
fn a_file_crosses_a_link_that_loses_and_swaps_half_and_flips_bits() {
    let mut caught = 0.0;
    for (i, (link, options)) in WAYS.into_iter().enumerate() {
        let source = scratch(&format!("c_transfer_bad_from_{i}"));
        let path = file(&source, "data", 60_000, 2);
        let back = free_port();
        // The sender's last ACK may be lost and the sender gone: then the time limit ends the receiver.
        let own = ["--once", "--json", "--timeout-s", "10", "--ack-to", &back];
        let receiver = Receiver::start(&format!("bad_{i}"), link, &[options, &own].concat());
        let seed = (i + 1).to_string();
        let faults = ["--loss", "50", "--reorder", "50", "--bit-error", "3", "--rate-kbit", "10000"];
        let (_link, proxy) =
            udpl(&receiver.address, &[&faults[..], &["--queue", "8192", "--seed", &seed]].concat());
        let window: &[&str] = if i % 2 == 0 { &[] } else { &["--window", "8192"] };
        let own = ["--json", "--bind", &back, "--any-source"];
        let sent = send(link, &[options, &own, window].concat(), &path, &proxy).wait(LIMIT * 4).expect(0);
        assert!(same(&path, &receiver.dir.join("data")), "{link:?} {options:?}");
        assert!(figure(&sent.stdout, "retransmitted") > 0.0, "half is lost: {}", sent.stdout);
        let received = receiver.running.wait(LIMIT).expect(0);
        caught += figure(&received.stdout, "packets_corrupt");
    }
    assert!(caught > 0.0, "the link flips bits, and the receiver says so");
}

#[test]
fn twenty_clients_at_once_and_twenty_one_after_another() {
    let receiver = Receiver::start("many", Link::Static, &[]);
    let source = scratch("c_transfer_many_from");
    let files: Vec<_> = (0..40).map(|i| file(&source, &format!("f{i:02}"), 3_777 * i, i as u64)).collect();
    let at_once: Vec<_> = files[..20].iter().map(|f| send(Link::Static, &[], f, &receiver.address)).collect();
    for sender in at_once {
        sender.wait(LIMIT).expect(0);
    }
    for path in &files[20..] {
        send(Link::Static, &[], path, &receiver.address).wait(LIMIT).expect(0);
    }
    assert_eq!(receiver.files(), names_in(&source));
    for path in &files {
        assert!(same(path, &receiver.dir.join(path.file_name().expect("it has one"))), "{path:?}");
    }
    let ended = receiver.interrupt().expect(130);
    assert_eq!(ended.stdout.lines().count(), 40, "one line for each: {}", ended.stdout);
    assert_eq!(ended.stderr, "");
}

/// Starts a transfer that takes long (1 Mbit/s) and returns when its first bytes are at the receiver.
fn under_way(test: &str, recv_options: &[&str], send_options: &[&str]) -> (Receiver, Running, Running) {
    let source = scratch(&format!("c_transfer_{test}_from"));
    let path = file(&source, "big", 2_000_000, 3);
    let back = free_port();
    let receiver = Receiver::start(test, Link::Static, &[recv_options, &["--ack-to", &back]].concat());
    let (link, proxy) = udpl(&receiver.address, &["--rate-kbit", "1000", "--queue", "100000"]);
    let own = ["--bind", &back, "--any-source", "--window", "16384"];
    let sender = send(Link::Static, &[send_options, &own].concat(), &path, &proxy);
    eventually("a partial file", || {
        receiver.files().iter().any(|name| {
            fs::metadata(receiver.dir.join(name)).is_ok_and(|m| m.len() > 0)
                && name.starts_with(".rtcp-")
                && name.ends_with(".part")
        })
    });
    (receiver, link, sender)
}

#[test]
fn a_sender_that_dies_leaves_no_file_and_the_receiver_goes_on() {
    let (receiver, _link, sender) = under_way("sender_dies", &["--timeout-s", "2"], &[]);
    sender.signal("KILL");
    eventually("the partial file is gone", || receiver.files().is_empty());
    let ended = receiver.interrupt().expect(130);
    assert!(
        ended.stderr.contains("broken after") && ended.stderr.contains("nothing kept"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_receiver_outlives_a_client_that_dies() {
    let receiver = Receiver::start("outlives", Link::Static, &["--timeout-s", "1"]);
    let source = scratch("c_transfer_outlives_from");
    let path = file(&source, "big", 50_000_000, 4);
    let sender = send(Link::Static, &[], &path, &receiver.address);
    eventually("a partial file", || !receiver.files().is_empty());
    sender.signal("KILL");
    drop(sender);
    let small = file(&source, "small", 1000, 5);
    send(Link::Static, &[], &small, &receiver.address).wait(LIMIT).expect(0);
    assert!(same(&small, &receiver.dir.join("small")));
}

#[test]
fn a_receiver_that_dies_is_noticed_within_the_time_limit() {
    let (receiver, _link, sender) = under_way("receiver_dies", &[], &["--timeout-s", "2"]);
    receiver.running.signal("KILL");
    let ended = sender.wait(SOON);
    // With the receiver's port closed, ICMP may say "refused" through the proxy's back; without, the time limit acts.
    assert!([5, 6, 7].contains(&ended.code()), "{ended:?}");
}

#[test]
fn control_c_at_the_receiver_removes_what_is_partial() {
    let (receiver, _link, _sender) = under_way("int_receiver", &[], &[]);
    let dir = receiver.dir.clone();
    let ended = receiver.interrupt().expect(130);
    assert!(ended.stderr.contains("the receiver was ended"), "{}", ended.stderr);
    assert!(names_in(&dir).is_empty());
}

#[test]
fn control_c_at_the_sender_ends_both_ends_of_the_transfer() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (receiver, _link, sender) = under_way(&format!("{signal}_sender"), &["--timeout-s", "5"], &[]);
        sender.signal(signal);
        sender.wait(LIMIT).expect(code);
        eventually("the partial file is gone", || receiver.files().is_empty());
    }
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    let outside = scratch("c_transfer_tricks");
    fs::create_dir(outside.join("in")).expect("the directory is writable");
    let receiver = Receiver::start_in(outside.join("in"), Link::Static, &[]);
    let path = file(&scratch("c_transfer_tricks_from"), "plain", 10_000, 6);
    let long = "x".repeat(256);
    let tricks = [
        "../up",
        "/etc/rtcp-was-here",
        "a/b",
        "..",
        ".",
        ".hidden",
        "",
        "line\nbreak",
        "\u{1b}[2J",
        "a\\b",
        &long,
    ];
    for name in tricks {
        let ended = send(Link::Static, &["--name", name], &path, &receiver.address).wait(LIMIT).expect(9);
        assert!(ended.stderr.contains("name is refused"), "{name:?}: {}", ended.stderr);
    }
    assert!(receiver.files().is_empty());
    assert_eq!(names_in(&outside), ["in"], "nothing beside the directory either");
    assert!(!Path::new("/etc/rtcp-was-here").exists());
    send(Link::Static, &["--name", "fine"], &path, &receiver.address).wait(LIMIT).expect(0);
    assert_eq!(receiver.files(), ["fine"]);
}

#[test]
fn a_destination_that_is_a_file_takes_any_name() {
    let dir = scratch("c_transfer_to_file");
    let path = file(&dir, ".profile", 5_000, 7);
    let dest = dir.join("copy").display().to_string();
    let mut receiver =
        Running::start(&binary("rtcp_recvfile", Link::Static), &["--once", "127.0.0.1:0", &dest]);
    let address = receiver.address();
    send(Link::Static, &[], &path, &address).wait(LIMIT).expect(0);
    receiver.wait(LIMIT).expect(0);
    assert_eq!(names_in(&dir), [".profile", "copy"]);
    assert!(same(&path, &dir.join("copy")));
}

#[test]
fn each_failure_has_its_own_exit_code_and_message() {
    let dir = scratch("c_transfer_codes");
    let path = file(&dir, "some", 100_000, 8);
    let nobody_reads = UdpSocket::bind("127.0.0.1:0").expect("loopback works");
    let silent = nobody_reads.local_addr().expect("it is bound").to_string();
    let code = |options: &[&str], path: &Path, to: &str| send(Link::Static, options, path, to).wait(LIMIT);

    let refused = code(&[], &path, &free_port()).expect(5);
    assert!(refused.stderr.contains("refused"), "{}", refused.stderr);
    let unknown = code(&[], &path, "no-such-host.invalid:9000").expect(4);
    assert!(unknown.stderr.contains("resolve"), "{}", unknown.stderr);
    let started = Instant::now();
    code(&["--timeout-s", "1"], &path, &silent).expect(6);
    assert!(started.elapsed() < SOON * patience());
    code(&[], &dir.join("missing"), &silent).expect(3);
    code(&[], &dir, &silent).expect(3);
    code(&["--nonsense"], &path, &silent).expect(2);
    code(&[], &path, "no-port").expect(2);
    code(&["--window", "0"], &path, &silent).expect(2);
}

#[test]
fn a_receiver_that_denies_the_digest_fails_the_sender() {
    let mut liar = Running::start(&PROGRAMS.join("filemsg_liar"), &["recv"]);
    let address = liar.address();
    let path = file(&scratch("c_transfer_denied"), "some", 100_000, 9);
    let ended = send(Link::Static, &[], &path, &address).wait(LIMIT).expect(8);
    assert!(ended.stderr.contains("digest does not match"), "{}", ended.stderr);
    liar.wait(LIMIT).expect(0);
}

#[test]
fn a_message_that_is_wrong_leaves_no_file() {
    for (kind, reason) in
        [("digest", "does not match"), ("short", "ended early"), ("magic", "not a file message")]
    {
        let receiver = Receiver::start(&format!("wrong_{kind}"), Link::Static, &["--once"]);
        let (_, port) = receiver.address.rsplit_once(':').expect("an address has a port");
        Running::start(&PROGRAMS.join("filemsg_liar"), &["send", kind, port]).wait(LIMIT).expect(0);
        let files = receiver.dir.clone();
        let ended = receiver.running.wait(LIMIT).expect(1);
        assert!(ended.stderr.contains(reason), "{kind}: {}", ended.stderr);
        assert_eq!(names_in(&files), Vec::<String>::new(), "{kind}");
    }
}
