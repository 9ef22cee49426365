//! Many connections in one process, without sockets: what an idle one holds, how long a handshake and a message take.
//!
//! `cargo bench --bench scale` prints a Markdown table. Each figure comes from a process of its own, so that none
//! sees the memory of another. What a message costs in instructions counts `benches/costs.py`.

use std::process::Command;
use std::time::{Duration, Instant};

#[path = "../tests/common/many.rs"]
mod many;
use many::{BURST, Net, resident};

const MIB: f64 = 1_048_576.0;
const STEP: Duration = Duration::from_millis(1);

fn main() {
    // Cargo passes `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |index: usize| args.get(index).and_then(|arg| arg.parse::<usize>().ok()).unwrap_or(0);
    match args.first().map(String::as_str) {
        Some("memory") => memory(number(1)),
        Some("handshakes") => handshakes(number(1)),
        Some("messages") => messages(number(1)),
        _ => report(),
    }
}

fn report() {
    println!("| connections | figure | value |\n|---:|---|---:|");
    for count in [10_000, 100_000] {
        print!("{}", own(&["memory", &count.to_string()]));
    }
    print!("{}", own(&["handshakes", "100000"]));
    for count in [10, 100_000] {
        print!("{}", own(&["messages", &count.to_string()]));
    }
}

/// The output of this program with other arguments.
fn own(args: &[&str]) -> String {
    let program = std::env::current_exe().expect("our own path");
    let output = Command::new(program).args(args).output().expect("it runs again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
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
        net.settle(STEP);
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

/// Each connection in turn sends a message, twice a second. Instructions are the same for few and for many, misses of
/// the cache are not.
fn messages(connections: usize) {
    const COUNTED: usize = 100_000;
    let mut net = Net::new(connections);
    net.dial(connections);
    let turn = |net: &mut Net, count: usize| {
        for n in 0..count {
            net.send(n, 1);
            net.pass(Duration::from_millis(500) / connections as u32);
        }
    };
    turn(&mut net, connections);
    net.in_server = Duration::ZERO;
    turn(&mut net, COUNTED);
    println!(
        "| {connections} | nanoseconds of the receiver for a message to arrive and its ACK to leave | {} |",
        net.in_server.as_nanos() / COUNTED as u128
    );
}
