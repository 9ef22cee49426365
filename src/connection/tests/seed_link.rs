//! The link of the program that this library grew from: one way through 1 Mbit/s with an 8 KiB queue, ACKs
//! straight back.

use super::pair::{Pair, ms, pattern};
use crate::connection::{Algorithm, Config};
use crate::emulator::Impairments;

fn seconds(bytes: usize, loss: f64, reorder: f64, bit_errors: f64, delay_ms: u64, seed: u64) -> f64 {
    let bad = Impairments {
        delay: ms(delay_ms),
        loss,
        reorder,
        bit_error_rate: bit_errors / 1e5,
        rate_bit_per_s: Some(1_000_000),
        queue_bytes: Some(8192),
        ..Impairments::default()
    };
    let mut pair = Pair::new(&Config::default(), bad, Impairments::default(), seed);
    pair.a.to_write = pattern(bytes, 1);
    pair.b.finish_when_written = false;
    pair.trace = std::env::var_os("SEED_TRACE").is_some();
    let mut elapsed = ms(0);
    while pair.b.received.len() < bytes && elapsed < ms(300_000) {
        let end = pair.now + ms(50);
        while pair.step(end) {}
        elapsed += ms(50);
    }
    assert!(pair.b.received == pair.a.to_write, "seed {seed}: exact");
    if std::env::var_os("SEED_STATS").is_some() {
        eprintln!("{:?}", pair.a.conn().stats());
    }
    elapsed.as_secs_f64()
}

/// Of 40 seeds; `SEEDS=n` in the environment takes as many others.
fn median(bytes: usize, loss: f64, reorder: f64, bit_errors: f64, delay_ms: u64) -> f64 {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let mut all: Vec<f64> =
        (0..seeds).map(|seed| seconds(bytes, loss, reorder, bit_errors, delay_ms, seed)).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[(share * (seeds - 1) as f64) as usize];
    eprintln!("{bytes} bytes: median {}, from {} to {}, nine in ten {}", at(0.5), at(0.0), at(1.0), at(0.9));
    at(0.5)
}

#[test]
fn the_seeds_files_cross_in_bounded_virtual_time() {
    assert!(median(2_222, 0.5, 0.5, 16.0, 2000) <= 9.0);
    assert!(median(51_200, 0.5, 0.0, 0.0, 0) <= 3.0);
    // CUBIC's: a fixed window of 30,000 bytes takes 3.5 s.
    assert!(median(100_000, 0.12, 0.2, 3.0, 300) <= 8.0);
    assert!(median(1_000_000, 0.5, 0.0, 0.0, 0) <= 20.0);
}

/// Each timeout used to send a PROBE of the base size, 200 of them, and the file took half as long again.
#[test]
fn heavy_random_loss_is_not_taken_for_a_black_hole() {
    let bad = Impairments {
        loss: 0.5,
        reorder: 0.5,
        bit_error_rate: 3e-5,
        rate_bit_per_s: Some(10_000_000),
        queue_bytes: Some(8192),
        ..Impairments::default()
    };
    let mut probes = 0;
    for seed in 0..5 {
        let back = Impairments { delay: ms(1), ..Impairments::default() };
        let config = Config { algorithm: Algorithm::Cubic, ..Config::default() };
        let mut pair = Pair::new(&config, bad.clone(), back, seed);
        pair.a.to_write = pattern(500_000, 1);
        pair.run_to_end(ms(100_000));
        pair.assert_exact();
        assert!(pair.a.conn().stats().packets_lost > 400, "the link is as bad as it is meant to be");
        probes += pair.a.conn().snd.pmtud.probes();
    }
    assert!(probes <= 50, "{probes} PROBEs in 5 transfers");
}
