//! Thousands of random scenarios over every kind of fault: exact bytes, orderly ends, no hang.
//!
//! A seed is a scenario. `SIM_SEED=n` plays one alone (`SIM_TRACE=1` shows its segments), `SIM_SEEDS=n`
//! plays so many, `SIM_FIRST=n` from that one on.

mod sim;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::scenario::{KINDS, Outcome, Tally, play};

const SCENARIOS: u64 = 10_000;
const THREADS: usize = 2;
/// More failing seeds than this tell nothing new.
const FAILURES_SHOWN: usize = 10;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Plays one scenario; if it fails, says how to see it again.
fn try_seed(seed: u64) -> Option<Outcome> {
    let outcome = catch_unwind(AssertUnwindSafe(|| play(seed))).ok();
    if outcome.is_none() {
        eprintln!(
            "seed {seed} failed; again: SIM_SEED={seed} SIM_TRACE=1 cargo test --test sim_scenarios exact"
        );
    }
    outcome
}

fn play_all(seeds: Range<u64>) -> (Tally, Vec<u64>) {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new((Tally::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || results.lock().unwrap().1.len() >= FAILURES_SHOWN {
                        break;
                    }
                    let outcome = try_seed(seed);
                    let mut results = results.lock().unwrap();
                    match outcome {
                        Some(outcome) => {
                            for (kind, count) in outcome.tally {
                                *results.0.entry(kind).or_default() += count;
                            }
                        }
                        None => results.1.push(seed),
                    }
                }
            });
        }
    });
    results.into_inner().unwrap()
}

#[test]
fn random_scenarios_deliver_exact_bytes_and_end_in_good_order() {
    if let Some(seed) = from_environment("SIM_SEED") {
        play(seed);
        return;
    }
    let seeds = from_environment("SIM_SEEDS").unwrap_or(SCENARIOS);
    let first = from_environment("SIM_FIRST").unwrap_or(0);
    let (tally, failed) = play_all(first..first + seeds);
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
    eprintln!("{seeds} scenarios: {tally:#?}");
    for kind in KINDS {
        assert!(tally.get(kind).is_some_and(|count| *count > 0), "no scenario had this: {kind}");
    }
}

/// 7072780 and 7105418: at a rate measured from a lone FIN the pacer kept what the timer sends back for minutes. The
/// next four: an answer stood in a queue of a second, and the timer fired once more than was thought possible. The
/// last five: so it did, behind the peer's own data, and meanwhile a small flight was sent again twenty times over.
#[test]
fn seeds_that_failed_once_do_not_fail_again() {
    let paced = [7_072_780, 7_105_418];
    let queued = [6_020_271, 6_033_263, 6_067_003, 6_099_180];
    let late = [7_046_513, 7_072_903, 7_084_468, 7_131_881, 6_106_631];
    for seed in paced.into_iter().chain(queued).chain(late) {
        assert!(try_seed(seed).is_some());
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in 0..40 {
        let (first, second) = (play(seed), play(seed));
        assert_eq!(first.log_hash, second.log_hash, "seed {seed}");
        assert_ne!(first.log_hash, play(seed + 1).log_hash, "the hash tells scenarios apart");
    }
}
