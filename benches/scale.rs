//! Many connections in one process, without sockets: what an idle one holds, what a handshake and a segment cost.
//!
//! `cargo bench --bench scale` prints a Markdown table. Each figure comes from a process of its own, so that none
//! sees the memory of another. Instructions are counted by callgrind; without valgrind that row is left out.

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

/// For callgrind: `segments` messages, each connection in turn, both ends.
fn segments(connections: usize, segments: usize) {
    let mut net = Net::new(connections);
    net.dial(connections);
    for first in (0..segments).step_by(10) {
        net.send(first, 10);
        // All have sent once before the first goes to rest.
        net.settle(Duration::from_micros(50));
    }
}
