//! What one flow gets out of a link: rate × round trip × loss × queue × controller, in virtual time.
//!
//! The table is committed as `tests/sim_goodput.txt`. The runs are the same on every machine, so a goodput
//! that differs by more than 2 % is the work of a change to the code. If it is meant, renew the table with
//! `RTCP_BLESS_GOODPUT=1 cargo test --test sim_goodput` and let the diff be read.

#[path = "sim/dumbbell.rs"]
mod dumbbell;

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dumbbell::{Dumbbell, Flow};
use rtcp::connection::{Algorithm, Config};
use rtcp::emulator::{BurstLoss, Codel, Impairments};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim_goodput.txt");
/// By how much a goodput may differ from the table's.
const TOLERANCE: f64 = 0.02;
const THREADS: usize = 2;
/// Bytes of IPv4 and UDP header: rates and queues count whole packets.
const OVERHEAD: usize = 28;
/// No queue holds less than two full packets.
const QUEUE_MIN: usize = 3_000;

struct Controller {
    name: &'static str,
    /// For a path of so many bytes of bandwidth-delay product.
    algorithm: fn(u64) -> Algorithm,
}

const CONTROLLERS: &[Controller] = &[
    Controller { name: "bbr", algorithm: |_| Algorithm::Bbr },
    Controller { name: "cubic", algorithm: |_| Algorithm::Cubic },
    Controller { name: "fixed", algorithm: |bdp| Algorithm::Fixed { window: bdp } },
];

/// Mbit/s, round trip in ms, seconds to run: some 30,000 segments at most.
const PATHS: &[(u64, u64, u64)] = &[(2, 100, 40), (10, 20, 20), (50, 40, 8), (20, 600, 20), (100, 150, 5)];

/// By name: the share lost, and whether bursts come on top.
const LOSSES: &[(&str, f64, bool)] = &[
    ("none", 0.0, false),
    ("1 %", 0.01, false),
    ("5 %", 0.05, false),
    ("20 %", 0.2, false),
    ("bursts", 0.0, true),
];

/// By name: bandwidth-delay products that fit in, and whether CoDel manages them; the first ones are
/// combined with every loss.
const QUEUES: &[(&str, f64, bool)] =
    &[("0.25 BDP", 0.25, false), ("1 BDP", 1.0, false), ("4 BDP", 4.0, false), ("CoDel", 4.0, true)];
const QUEUES_WITH_LOSS: usize = 2;

/// A second of rest and 30 ms of nothing, on average: a link that fades, whatever is sent meanwhile.
const BURSTS: BurstLoss = BurstLoss {
    mean_good: Duration::from_secs(1),
    mean_bad: Duration::from_millis(30),
    loss_good: 0.0,
    loss_bad: 1.0,
};

struct Cell {
    /// What identifies its line.
    name: String,
    dumbbell: Dumbbell,
    duration: Duration,
}

fn cells() -> Vec<Cell> {
    let mut cells = vec![];
    for &path in PATHS {
        for (row, &loss) in LOSSES.iter().enumerate() {
            let queues = if row == 0 { QUEUES } else { &QUEUES[..QUEUES_WITH_LOSS] };
            for &queue in queues {
                // The same chance for each controller.
                let seed = cells.len() as u64 / CONTROLLERS.len() as u64 + 1;
                cells.extend(
                    CONTROLLERS.iter().map(|controller| Cell::new(path, loss, queue, controller, seed)),
                );
            }
        }
    }
    cells
}

impl Cell {
    fn new(
        (mbit, rtt_ms, seconds): (u64, u64, u64),
        (loss_name, loss, has_bursts): (&str, f64, bool),
        (queue_name, bdps, is_managed): (&str, f64, bool),
        controller: &Controller,
        seed: u64,
    ) -> Self {
        let (rtt, cc) = (Duration::from_millis(rtt_ms), controller.name);
        let bdp = mbit * 1_000_000 / 8 * rtt_ms / 1_000;
        let forward = Impairments {
            loss,
            burst_loss: has_bursts.then_some(BURSTS),
            rate_bit_per_s: Some(mbit * 1_000_000),
            queue_bytes: Some(((bdp as f64 * bdps) as usize).max(QUEUE_MIN)),
            codel: is_managed.then(Codel::default),
            overhead_bytes: OVERHEAD,
            delay: rtt / 2,
            ..Impairments::default()
        };
        let back = Impairments { delay: rtt / 2, ..Impairments::default() };
        let algorithm = (controller.algorithm)(bdp);
        let config = Config { algorithm, send_buffer: 16 << 20, ..Config::default() };
        Self {
            name: format!("{mbit:>4} Mbit/s {rtt_ms:>4} ms  {loss_name:<6}  {queue_name:<8}  {cc:<6}"),
            dumbbell: Dumbbell { forward, back, flows: vec![Flow::endless(config)], seed },
            duration: Duration::from_secs(seconds),
        }
    }
}

/// The line of one cell: its name and figures, goodput first.
fn play(cell: &Cell) -> String {
    let report = cell.dumbbell.run(cell.duration, Duration::ZERO..cell.duration);
    let flow = &report.flows[0];
    // The handshake is no part of the goodput.
    let span = report.end.since(flow.first_byte.unwrap_or_default());
    let mbit = flow.delivered as f64 * 8.0 / 1e6 / span.as_secs_f64();
    let queueing = report.link.queue_delay_mean().as_secs_f64() * 1e3;
    format!("{}  {mbit:>8.3}  {queueing:>8.1}  {:>8.4}", cell.name, flow.waste())
}

fn play_all() -> Vec<String> {
    let cells = cells();
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(vec![String::new(); cells.len()]));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(cell) = cells.get(index) else { return };
                    let line = play(cell);
                    lines.lock().expect("no thread panicked with the lock")[index] = line;
                }
            });
        }
    });
    lines.into_inner().expect("no thread panicked with the lock")
}

fn table(lines: &[String]) -> String {
    let mut text = String::from(
        "One flow alone: goodput in Mbit/s from the first byte on, mean queueing delay in ms, payload bytes sent\n\
         per byte delivered. Deterministic; renewed by RTCP_BLESS_GOODPUT=1 cargo test --test sim_goodput.\n\n",
    );
    let [rate, rtt, loss, queue, controller] = ["rate", "rtt", "loss", "queue", "cc"];
    _ = writeln!(
        text,
        "{rate:>11} {rtt:>7}  {loss:<6}  {queue:<8}  {controller:<6}  {:>8}  {:>8}  {:>8}",
        "goodput", "queueing", "sent"
    );
    for line in lines {
        _ = writeln!(text, "{line}");
    }
    text
}

/// The name and the goodput in a line of the table: the goodput is the third column from the right.
fn parse(line: &str) -> Option<(&str, f64)> {
    let (mut name, mut column) = (line, "");
    for _ in 0..3 {
        (name, column) = name.trim_end().rsplit_once(' ')?;
    }
    Some((name.trim(), column.parse().ok()?))
}

#[test]
fn every_goodput_is_within_2_percent_of_the_committed_table() {
    let lines = play_all();
    assert!(lines.len() >= 60);
    if std::env::var_os("RTCP_BLESS_GOODPUT").is_some() {
        return std::fs::write(FILE, table(&lines)).expect("a writable table");
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    let expected: Vec<_> = committed.lines().filter_map(parse).collect();
    let actual: Vec<_> = lines.iter().filter_map(|line| parse(line)).collect();
    let has_same_cells = actual.iter().map(|cell| cell.0).eq(expected.iter().map(|cell| cell.0));
    assert!(has_same_cells, "the table has other cells than this file: renew it");
    let mut changes = String::new();
    for ((name, before), (_, now)) in expected.iter().zip(&actual) {
        if (now - before).abs() > before * TOLERANCE {
            let percent = (now / before - 1.0) * 100.0;
            _ = writeln!(changes, "{name}  {before:>8.3} -> {now:>8.3} Mbit/s ({percent:+.1} %)");
        }
    }
    assert!(changes.is_empty(), "goodputs have changed (see the head of this file):\n{changes}");
}
