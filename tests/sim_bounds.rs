//! How long a long fat path takes with the default configuration, and what its start-up costs a thin one:
//! bounds in virtual time.
//!
//! Times are from the SYN to the last byte at the receiver.

#[path = "sim/dumbbell.rs"]
mod dumbbell;

use std::time::Duration;

use dumbbell::{Dumbbell, Flow, Report};
use rtcp::connection::Config;
use rtcp::emulator::{Impairments, RateStep, Window};
use rtcp::time::Time;

/// Bytes of IPv4 and UDP header: rates and queues count whole packets.
const OVERHEAD: usize = 28;
/// What a geostationary satellite is sent per second, and what it sends back.
const GEO_MBIT: (f64, f64) = (250.0, 3.0);
const GEO_RTT: Duration = Duration::from_millis(600);
const GEO_BYTES: u64 = 100_000_000;

/// One direction of `mbit` Mbit/s on a path with this round trip, with a queue of `bdps` times their product.
fn line(mbit: f64, rtt: Duration, bdps: f64) -> Impairments {
    Impairments {
        rate_bit_per_s: Some((mbit * 1e6) as u64),
        queue_bytes: Some(bytes(mbit, rtt, bdps) as usize),
        overhead_bytes: OVERHEAD,
        delay: rtt / 2,
        ..Impairments::default()
    }
}

/// So many bandwidth-delay products.
fn bytes(mbit: f64, rtt: Duration, bdps: f64) -> f64 {
    mbit * 1e6 / 8.0 * rtt.as_secs_f64() * bdps
}

fn play((forward, back): (Impairments, Impairments), flows: Vec<Flow>, seed: u64, end: Duration) -> Report {
    Dumbbell { forward, back, flows, seed }.run(end, Duration::ZERO..end)
}

/// Seconds until the satellite has delivered everything, of that part of its packets which is not lost.
fn geo_seconds(loss: f64, seed: u64) -> f64 {
    let forward = Impairments { loss, ..line(GEO_MBIT.0, GEO_RTT, 1.0) };
    let link = (forward, line(GEO_MBIT.1, GEO_RTT, 1.0));
    let flow = Flow { bytes: Some(GEO_BYTES), ..Flow::endless(Config::default()) };
    let report = play(link, vec![flow], seed, Duration::from_secs(60));
    let flow = &report.flows[0];
    assert_eq!(flow.delivered_in_all, GEO_BYTES, "after a minute");
    let took = flow.last_byte.expect("bytes were delivered").since(Time::ZERO).as_secs_f64();
    println!("loss {loss}, seed {seed}: {took:.3} s, {:.4} sent per byte, {:?}", flow.waste(), report.back);
    took
}

#[test]
fn a_satellite_delivers_100_mb_in_7_seconds() {
    let took = geo_seconds(0.0, 1);
    assert!(took <= 7.0, "{took:.2} s");
}

#[test]
fn a_satellite_that_loses_1_percent_delivers_100_mb_in_10_seconds() {
    for seed in 1..=3 {
        let took = geo_seconds(0.01, seed);
        assert!(took <= 10.0, "{took:.2} s, seed {seed}");
    }
}

#[test]
fn the_default_buffers_fill_a_gigabit_over_300_ms() {
    const MBIT: f64 = 1_000.0;
    let rtt = Duration::from_millis(300);
    let link = (line(MBIT, rtt, 1.0), line(MBIT, rtt, 1.0));
    let dumbbell =
        Dumbbell { forward: link.0, back: link.1, flows: vec![Flow::endless(Config::default())], seed: 1 };
    let report = dumbbell.run(Duration::from_secs(10), Duration::from_secs(5)..Duration::from_secs(10));
    let mbit = report.goodput(0) / 1e6;
    println!("{mbit:.1} Mbit/s, {:?}", report.flows[0].stats);
    assert!(mbit >= 0.9 * MBIT, "{mbit:.1} Mbit/s");
}

/// The receiver's delay of a lone ACK (25 ms) was once taken for a queue there, at the end of the first flight.
#[test]
fn start_up_fills_paths_of_any_length_between_100_and_400_ms() {
    const MBIT: f64 = 100.0;
    for rtt in (110..400).step_by(20).map(Duration::from_millis) {
        let link = (line(MBIT, rtt, 1.0), line(MBIT, rtt, 1.0));
        let flow = Flow { bytes: Some(25_000_000), ..Flow::endless(Config::default()) };
        let report = play(link, vec![flow], 1, Duration::from_secs(60));
        let took = report.flows[0].last_byte.unwrap_or(Time::MAX).since(Time::ZERO);
        println!("{rtt:?}: {took:.2?}");
        // Two seconds and a bit are the bytes' own, ten round trips the handshake's, the ramp's and the repair's.
        assert!(took <= Duration::from_millis(2_100) + 10 * rtt, "{rtt:?}: {took:?}");
    }
}

/// What did not fit into a thin path's shallow queue, in bandwidth-delay products.
fn overflow_bdps(flows: usize) -> f64 {
    const MBIT: f64 = 20.0;
    let link = (line(MBIT, GEO_RTT, 0.25), line(MBIT, GEO_RTT, 0.25));
    let report = play(link, vec![Flow::endless(Config::default()); flows], 1, Duration::from_secs(12));
    let packet = (Config::default().max_receive_datagram + OVERHEAD) as f64;
    let lost = report.link.queue_dropped as f64 * packet / bytes(MBIT, GEO_RTT, 1.0);
    println!("{flows} flows: {lost:.2} BDP lost, {:.1} Mbit/s", report.total_goodput() / 1e6);
    lost
}

/// The start-up that a fat path profits from must not flood a thin one that is as long.
#[test]
fn start_up_on_a_thin_long_path_loses_at_most_two_bandwidth_delay_products() {
    let lost = overflow_bdps(1);
    assert!(lost <= 2.0, "{lost:.2} BDP");
}

#[test]
fn sixteen_start_ups_at_once_lose_together_at_most_two_bandwidth_delay_products() {
    let lost = overflow_bdps(16);
    assert!(lost <= 2.0, "{lost:.2} BDP");
}

/// Bytes that an application says 64 at a time, each 50 ms, from one moment to another.
fn chat(at: Duration, from: Duration, to: Duration) -> u64 {
    64 * (at.clamp(from, to) - from).as_millis() as u64 / 50
}

/// Seconds that the last 20 MB of what the application `said`, at `since`, took over 100 Mbit/s and 40 ms that lose `loss`.
fn seconds_of_the_rest(said: fn(Duration) -> u64, since: Duration, loss: f64) -> f64 {
    let rtt = Duration::from_millis(40);
    let end = since + Duration::from_secs(30);
    let flow = Flow { said: Some(said), bytes: Some(said(end)), ..Flow::endless(Config::default()) };
    let link = (Impairments { loss, ..line(100.0, rtt, 1.0) }, line(100.0, rtt, 1.0));
    let report = play(link, vec![flow], 1, end);
    assert_eq!(report.flows[0].delivered_in_all, said(end), "in the end");
    (report.flows[0].last_byte.expect("bytes were delivered").since(Time::ZERO) - since).as_secs_f64()
}

/// A timer that fires there says nothing of congestion, whether it was right (what was in flight is gone) or not. Its
/// losses were once counted in the window that it began anew: 82.7 Mbit/s in the second after the link stood still.
#[test]
fn a_link_that_stood_still_is_filled_as_before() {
    let rtt = Duration::from_millis(40);
    let at = |ms| Duration::from_millis(ms);
    let step = |ms, rate| RateStep { at: Time::ZERO + at(ms), rate_bit_per_s: Some(rate) };
    let stood = vec![step(5_000, 100_000), step(5_500, 100_000_000)];
    let gone = vec![Window { from: Time::ZERO + at(5_000), until: Time::ZERO + at(5_500) }];
    for (name, rate_steps, blackouts, least) in [("stood", stood, vec![], 90.0), ("gone", vec![], gone, 80.0)]
    {
        for seed in 1..=4 {
            let forward = Impairments {
                rate_steps: rate_steps.clone(),
                blackouts: blackouts.clone(),
                ..line(100.0, rtt, 4.0)
            };
            let flow = Flow::endless(Config::default());
            let dumbbell = Dumbbell { forward, back: line(100.0, rtt, 1.0), flows: vec![flow], seed };
            let report = dumbbell.run(at(6_500), at(5_500)..at(6_500));
            let mbit = report.goodput(0) / 1e6;
            println!("{name}, seed {seed}: {mbit:.1} Mbit/s, {} timeouts", report.flows[0].stats.rto_count);
            assert!(mbit >= least, "{name}: {mbit:.1} Mbit/s");
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const BULK: u64 = 20_000_000;

fn step(at: Duration, when: Duration, bytes: u64) -> u64 {
    if at >= when { bytes } else { 0 }
}

/// 1.7 s at the link's rate. What little an application says is no measure of the path.
#[test]
fn a_transfer_after_a_chat_takes_no_longer_than_one_alone() {
    let alone = seconds_of_the_rest(|_| BULK, Duration::ZERO, 0.0);
    let after_chat = |at| chat(at, Duration::ZERO, 3 * SECOND) + step(at, 3 * SECOND, BULK);
    let between = |at| chat(at, 4 * SECOND, 14 * SECOND) + BULK + step(at, 14 * SECOND, BULK);
    let after_chat = seconds_of_the_rest(after_chat, 3 * SECOND, 0.0);
    let between = seconds_of_the_rest(between, 14 * SECOND, 0.0);
    println!("alone {alone:.2} s, after a chat {after_chat:.2}, after a transfer and a chat {between:.2}");
    assert!(after_chat <= alone + 0.1 && between <= alone + 0.1);
}

/// Of a pause, too, nothing is to be learned: not that the path has to be looked at anew, nor that it has changed.
#[test]
fn a_transfer_after_a_pause_goes_on_at_the_rate_of_the_one_before() {
    for loss in [0.0, 0.05] {
        let alone = seconds_of_the_rest(|_| BULK, Duration::ZERO, loss);
        let again = seconds_of_the_rest(|at| BULK + step(at, 10 * SECOND, BULK), 10 * SECOND, loss);
        println!("loss {loss}: at first {alone:.2} s, after a pause {again:.2}");
        assert!(again <= alone - 0.22, "loss {loss}: {alone:.2} s, then {again:.2}");
    }
}
