//! How flows share a bottleneck, in virtual time.
//!
//! `explore` plays one scenario by hand; its knobs are environment variables:
//! `SIM_RATE_MBIT=50 SIM_RTT_MS=40 SIM_CC=cubic,cubic cargo test --test sim_fairness explore -- --ignored
//! --nocapture`

#[path = "sim/dumbbell.rs"]
mod dumbbell;

use std::time::{Duration, Instant};

use dumbbell::{Dumbbell, Flow};
use rtcp::connection::{Algorithm, Config};
use rtcp::emulator::{BurstLoss, Codel, Impairments, Policer};

/// Bytes of IPv4 and UDP header: rates and queues count whole packets.
const OVERHEAD: usize = 28;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn config(algorithm: Algorithm) -> Config {
    Config { algorithm, send_buffer: 16 << 20, recv_buffer: 64 << 20, ..Config::default() }
}

/// A bottleneck of `rate` Mbit/s whose round trip is `rtt`, with a queue of `bdp` times their product.
fn bottleneck(rate_mbit: f64, rtt: Duration, bdp: f64) -> (Impairments, Impairments) {
    let rate = rate_mbit * 1e6;
    let queue = (rate / 8.0 * rtt.as_secs_f64() * bdp).max(2.0 * 1_500.0);
    let forward = Impairments {
        rate_bit_per_s: Some(rate as u64),
        queue_bytes: Some(queue as usize),
        overhead_bytes: OVERHEAD,
        delay: rtt / 2,
        ..Impairments::default()
    };
    (forward, Impairments { delay: rtt / 2, ..Impairments::default() })
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not what belongs there")))
}

fn algorithm(name: &str) -> Algorithm {
    match name {
        "cubic" => Algorithm::Cubic,
        _ => match name.strip_prefix("fixed").and_then(|kib| kib.parse::<u64>().ok()) {
            Some(kib) => Algorithm::Fixed { window: kib << 10 },
            None => panic!("SIM_CC: `{name}` is neither cubic nor fixedN (N KiB)"),
        },
    }
}

/// One scenario by hand, a line per second and flow. Rates in Mbit/s, `SIM_LOSS` and `SIM_ACK_LOSS` in
/// percent, `SIM_BURST=GOOD_MS,BAD_MS`, `SIM_CODEL=1` (`ecn` to mark), `SIM_STAGGER_MS` between starts,
/// `SIM_MB` for flows with an end, `SIM_QUIET=1` for the sums only.
#[test]
#[ignore = "for people: prints, and promises nothing"]
fn explore() {
    let rate = variable("SIM_RATE_MBIT").unwrap_or(50.0);
    let rtt = Duration::from_secs_f64(variable("SIM_RTT_MS").unwrap_or(40.0) / 1e3);
    let (mut forward, mut back) = bottleneck(rate, rtt, variable("SIM_QUEUE_BDP").unwrap_or(1.0));
    forward.loss = variable("SIM_LOSS").unwrap_or(0.0) / 100.0;
    back.loss = variable("SIM_ACK_LOSS").unwrap_or(0.0) / 100.0;
    forward.jitter = Duration::from_secs_f64(variable("SIM_JITTER_MS").unwrap_or(0.0) / 1e3);
    forward.reorder = variable("SIM_REORDER").unwrap_or(0.0) / 100.0;
    forward.bit_error_rate = variable("SIM_BIT_ERROR").unwrap_or(0.0) / 1e5;
    let burst: Option<String> = variable("SIM_BURST");
    forward.burst_loss = burst.map(|text| {
        let (good, bad) = text.split_once(',').expect("SIM_BURST=GOOD_MS,BAD_MS");
        let millis = |text: &str| ms(text.parse().expect("SIM_BURST in whole milliseconds"));
        BurstLoss { mean_good: millis(good), mean_bad: millis(bad), loss_good: 0.0, loss_bad: 1.0 }
    });
    let codel: Option<String> = variable("SIM_CODEL");
    forward.codel =
        codel.filter(|text| text != "0").map(|text| Codel { ecn: text == "ecn", ..Codel::default() });
    if let Some(kilobytes) = variable::<f64>("SIM_POLICER_KB") {
        // The bucket polices to the rate; the link behind it is ten times as fast.
        let bucket_bytes = (kilobytes * 1e3) as usize;
        forward.policer = Some(Policer { rate_bit_per_s: (rate * 1e6) as u64, bucket_bytes });
        forward.rate_bit_per_s = Some((rate * 1e7) as u64);
        forward.queue_bytes = None;
    }
    let names: String = variable("SIM_CC").unwrap_or_else(|| "cubic".to_owned());
    let stagger = ms(variable("SIM_STAGGER_MS").unwrap_or(0));
    let megabytes: Option<f64> = variable("SIM_MB");
    let flows = names.split(',').enumerate().map(|(index, name)| Flow {
        start: stagger * index as u32,
        bytes: megabytes.map(|megabytes| (megabytes * 1e6) as u64),
        ..Flow::endless(config(algorithm(name)))
    });
    let seconds = Duration::from_secs(variable("SIM_SECS").unwrap_or(20));
    let dumbbell =
        Dumbbell { forward, back, flows: flows.collect(), seed: variable("SIM_SEED").unwrap_or(1) };
    let quiet = variable::<u8>("SIM_QUIET").is_some();
    let interval = ms(variable("SIM_EVERY_MS").unwrap_or(1_000));
    let wall = Instant::now();
    let mut acked_before = vec![0; dumbbell.flows.len()];
    let report = dumbbell.run_watched(seconds, Duration::ZERO..seconds, interval, |at, flow, connection| {
        let (stats, acked) = (connection.stats(), connection.bytes_acked());
        let mbit = (acked - acked_before[flow]) as f64 * 8.0 / 1e6 / interval.as_secs_f64();
        acked_before[flow] = acked;
        if !quiet {
            println!("{:7.2}s flow {flow}: {mbit:7.2} Mbit/s acked, {stats:?}", at.as_secs_f64());
        }
    });
    for (index, flow) in report.flows.iter().enumerate() {
        println!(
            "flow {index} {:6} {:8.3} Mbit/s, share {:.3}, sent/delivered {:.4}, srtt {:?}, {} RTOs, \
             first {:?}, last {:?}",
            flow.algorithm,
            report.goodput(index) / 1e6,
            report.share(index),
            flow.waste(),
            flow.stats.srtt,
            flow.stats.rto_count,
            flow.first_byte.unwrap_or_default(),
            flow.last_byte.unwrap_or_default(),
        );
    }
    let link = &report.link;
    println!(
        "total {:.3} Mbit/s, Jain {:.4}, queueing mean {:?} max {:?}, congestion loss {:.4}",
        report.total_goodput() / 1e6,
        report.jain(),
        link.queue_delay_mean(),
        link.queue_delay_max,
        report.congestion_loss(),
    );
    println!("{link:?}");
    println!("{:?} of virtual time in {:?}", report.end, wall.elapsed());
}
