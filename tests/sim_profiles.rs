//! A score board: what one flow makes of typical links, in virtual time.
//!
//! The links are those of the real-time benchmark (`benches/links.py`) with the same parameters and the same
//! score: the goodput from the first byte to the end of the stream at the receiver, as a share of what the link
//! can carry with our headers. `profiles_of_links` prints the table:
//! `cargo test --release --no-default-features --test sim_profiles -- --ignored --nocapture`, with
//! `SIM_PROFILES=lossy1,wifi-bad  SIM_SEEDS=1,2,3  SIM_CC=bbr (cubic, kernel-bbr, kernel-cubic)  SIM_SECONDS=20  SIM_LAG_US=100`.

#[path = "sim/bbr_v1.rs"]
mod bbr_v1;
#[path = "sim/dumbbell.rs"]
mod dumbbell;

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bbr_v1::BbrV1;
use dumbbell::{Dumbbell, Flow, Report};
use rtcp::connection::{Algorithm, Config, IntegrityMode, PathMtu};
use rtcp::emulator::{BurstLoss, Impairments, Outage, Rng, Window};
use rtcp::time::Time;

/// Bytes of IPv4 and UDP header: rates and queues count whole packets.
const OVERHEAD: usize = 28;
/// The links' MTU, and what of it is not payload: IPv4, UDP, our header with timestamps and the extension.
const MTU: f64 = 1_500.0;
const HEADERS: f64 = 28.0 + 40.0;
/// No queue holds less than ten full packets.
const QUEUE_MIN: usize = 15_000;
/// What ends a transfer over a link on which nothing takes 20 s to show, if it is sooner.
const BYTES: u64 = 64_000_000;
/// What was written may still be under way when time is up; then it is cut off.
const GRACE: Duration = Duration::from_secs(15);
/// A slow link gets small buffers: the default ones take longer to drain than the run lasts.
const SLOW_BIT_PER_S: u64 = 4_000_000;
const SLOW_BUFFER: usize = 256 << 10;
/// How long a host takes to get to its socket.
const LAG: Duration = Duration::from_micros(100);
const THREADS: usize = 2;

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

struct Profile {
    name: &'static str,
    down: Impairments,
    up: Impairments,
    /// Its loss is a matter of luck or of a schedule: only time ends the transfer.
    is_timed: bool,
}

/// The queue in front of a link.
#[derive(Clone, Copy)]
enum Queue {
    /// One bandwidth-delay product of this direction.
    Bdp,
    Millis(u64),
    Bytes(usize),
}

/// One direction of `rate` kbit/s; its queue is sized for a path that is `delay` long both ways.
fn way(rate: u64, delay: Duration, queue: Queue) -> Impairments {
    let in_time = |time: Duration| (rate as f64 * 125.0 * time.as_secs_f64()) as usize;
    let queue = match queue {
        Queue::Bdp => in_time(2 * delay),
        Queue::Millis(n) => in_time(ms(n)),
        Queue::Bytes(n) => n,
    };
    Impairments {
        rate_bit_per_s: Some(rate * 1_000),
        delay,
        queue_bytes: Some(queue.max(QUEUE_MIN)),
        overhead_bytes: OVERHEAD,
        ..Impairments::default()
    }
}

impl Profile {
    /// The same both ways.
    fn both(name: &'static str, way: Impairments) -> Self {
        let is_timed = ["lossy", "starlink", "blackout"].iter().any(|kind| name.starts_with(kind));
        Self { name, down: way.clone(), up: way, is_timed }
    }

    /// Goodput in bit/s of whoever keeps the link busy for `seconds` with our headers.
    fn bound(&self, seconds: Duration) -> f64 {
        let what = &self.down;
        let mut kept = 1.0 - what.loss;
        if let Some(burst) = what.burst_loss {
            let cycle = (burst.mean_good + burst.mean_bad).as_secs_f64();
            kept *= 1.0 - burst.loss_bad * burst.mean_bad.as_secs_f64() / cycle;
        }
        if let Some(outage) = what.outage {
            kept *= 1.0 - what.outage_loss * outage.length.as_secs_f64() / outage.every.as_secs_f64();
        }
        let dark: Duration = what.blackouts.iter().map(|window| window.until.since(window.from)).sum();
        kept *= 1.0 - (dark.as_secs_f64() / seconds.as_secs_f64()).min(1.0);
        what.rate_bit_per_s.map_or(f64::INFINITY, |rate| rate as f64) * (MTU - HEADERS) / MTU * kept
    }
}

/// A Gilbert-Elliott chain that goes from good to bad with `p` and back with `r` in each `slot`, and loses all
/// while bad, as the process in continuous time that looks the same at the slots' ends.
fn bursts(slot: Duration, p: f64, r: f64) -> BurstLoss {
    let turnover = -(1.0 - p - r).ln() / slot.as_secs_f64();
    let mean = |share: f64| Duration::from_secs_f64(1.0 / (turnover * share));
    BurstLoss { mean_good: mean(p / (p + r)), mean_bad: mean(r / (p + r)), loss_good: 0.0, loss_bad: 1.0 }
}

fn profiles() -> Vec<Profile> {
    let clean = || way(100_000, ms(20), Queue::Bdp);
    let lossy = |name, loss| Profile::both(name, Impairments { loss, ..clean() });
    let wifi = Impairments {
        jitter: ms(3),
        jitter_reorder: true,
        burst_loss: Some(bursts(micros(400), 0.0105, 0.2)),
        ..way(30_000, ms(5), Queue::Millis(100))
    };
    let starlink = |rate| Impairments {
        jitter: ms(8),
        loss: 0.001,
        outage: Some(Outage { every: ms(15_000), length: ms(150) }),
        outage_loss: 0.5,
        ..way(rate, ms(20), Queue::Millis(100))
    };
    let lte = |rate| Impairments { jitter: ms(2), ..way(rate, ms(25), Queue::Millis(500)) };
    let geo = |rate| Impairments { loss: 0.01, ..way(rate, ms(300), Queue::Bdp) };
    let dark = Window { from: Time::ZERO + ms(2_000), until: Time::ZERO + ms(7_000) };
    let two_way = |name, down, up| Profile { down, ..Profile::both(name, up) };
    let bursty = |name, p| {
        Profile::both(name, Impairments { burst_loss: Some(bursts(micros(120), p, 0.2)), ..clean() })
    };
    vec![
        Profile::both("lan", way(1_000_000, micros(100), Queue::Bytes(512_000))),
        Profile::both("wan100", way(100_000, ms(10), Queue::Bdp)),
        Profile::both("transatlantic", Impairments { loss: 0.001, ..way(100_000, ms(40), Queue::Bdp) }),
        Profile::both("wifi-bad", wifi),
        two_way("lte", lte(50_000), lte(10_000)),
        two_way("geo-satellite", geo(20_000), geo(5_000)),
        two_way("starlink", starlink(100_000), starlink(15_000)),
        Profile::both("clean", clean()),
        lossy("lossy1", 0.01),
        lossy("lossy5", 0.05),
        lossy("lossy10", 0.10),
        lossy("lossy20", 0.20),
        lossy("lossy30", 0.30),
        lossy("lossy50", 0.50),
        two_way(
            "halfway",
            Impairments { loss: 0.5, queue_bytes: Some(QUEUE_MIN), ..way(1_000, ms(5), Queue::Bytes(8_192)) },
            way(10_000, ms(5), Queue::Bdp),
        ),
        Profile::both("reorder", Impairments { late: 0.10, late_by: ms(10), ..clean() }),
        Profile::both("dup", Impairments { duplicate: 0.05, ..clean() }),
        bursty("bursty5", 0.0105),
        bursty("bursty20", 0.05),
        bursty("bursty40", 0.1333),
        Profile::both("bufferbloat", way(10_000, ms(10), Queue::Millis(1_000))),
        Profile::both("blackout", Impairments { blackouts: vec![dark], ..clean() }),
        two_way("ackloss", clean(), Impairments { loss: 0.30, ..clean() }),
    ]
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Ours(Algorithm),
    /// A plain TCP with the congestion control of a kernel.
    Cubic,
    BbrV1,
}

impl Sender {
    fn named(name: &str) -> Self {
        match name {
            "bbr" => Self::Ours(Algorithm::Bbr),
            "cubic" => Self::Ours(Algorithm::Cubic),
            "kernel-cubic" => Self::Cubic,
            "kernel-bbr" => Self::BbrV1,
            _ => panic!("`{name}` is none of bbr, cubic, kernel-bbr and kernel-cubic"),
        }
    }

    /// An endless flow whose hosts, if they are ours, have a lag.
    fn flow(self, lag: Duration) -> Flow {
        let plain = |algorithm| Config {
            algorithm,
            mtu: PathMtu::Fixed(1_472),
            integrity: IntegrityMode::Off,
            ecn: false,
            ..Config::default()
        };
        match self {
            Self::Ours(algorithm) => Flow { lag, ..Flow::endless(Config { algorithm, ..Config::default() }) },
            Self::Cubic => Flow::endless(plain(Algorithm::Cubic)),
            Self::BbrV1 => Flow { controller: Some(BbrV1::boxed), ..Flow::endless(plain(Algorithm::Bbr)) },
        }
    }
}

/// How the transfers are made.
#[derive(Clone, Debug)]
struct Manner {
    who: Sender,
    /// Of sending.
    duration: Duration,
    lag: Duration,
}

/// What one transfer came to.
#[derive(Clone, Debug, Default)]
struct Score {
    of_bound: f64,
    bit_per_s: f64,
    /// Payload bytes sent for each one delivered.
    waste: f64,
    queueing: Duration,
    timeouts: u64,
    needless: u64,
    /// When loss was first taken for chance, and what share of it at the end.
    learned: Option<Duration>,
    floor_permille: u64,
    /// It was cut off.
    is_cut: bool,
}

fn play(profile: &Profile, seed: u64, manner: &Manner) -> Score {
    let mut flow = manner.who.flow(manner.lag);
    if profile.down.rate_bit_per_s.is_some_and(|rate| rate <= SLOW_BIT_PER_S) {
        (flow.config.send_buffer, flow.config.recv_buffer) = (SLOW_BUFFER, SLOW_BUFFER);
    }
    flow.bytes = (!profile.is_timed).then_some(BYTES);
    flow.stop = Some(manner.duration);
    let (forward, back) = (profile.down.clone(), profile.up.clone());
    let dumbbell = Dumbbell { forward, back, flows: vec![flow], seed };
    let limit = manner.duration + GRACE;
    let mut learned = None;
    let report = dumbbell.run_watched(limit, Duration::ZERO..limit, ms(100), |at, _, connection| {
        if connection.stats().loss_floor_permille > 0 {
            learned.get_or_insert(at);
        }
    });
    Score { learned, ..score(&report, profile.bound(manner.duration)) }
}

fn score(report: &Report, bound: f64) -> Score {
    let flow = &report.flows[0];
    let end = flow.end_of_stream.unwrap_or(report.end);
    let span = end.since(flow.first_byte.unwrap_or_default()).as_secs_f64();
    let bit_per_s = flow.delivered_in_all as f64 * 8.0 / span.max(1e-9);
    Score {
        of_bound: bit_per_s / bound,
        bit_per_s,
        waste: flow.waste(),
        queueing: report.link.queue_delay_mean(),
        timeouts: flow.stats.rto_count,
        needless: flow.stats.rto_spurious,
        learned: None,
        floor_permille: flow.stats.loss_floor_permille,
        is_cut: flow.end_of_stream.is_none(),
    }
}

/// The scores of each profile, a seed after the other.
fn play_all(profiles: &[Profile], seeds: &[u64], manner: &Manner) -> Vec<Vec<Score>> {
    let count = profiles.len() * seeds.len();
    let (next, scores) = (AtomicUsize::new(0), Mutex::new(vec![Score::default(); count]));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(profile) = profiles.get(index / seeds.len()) else { return };
                    let score = play(profile, seeds[index % seeds.len()], manner);
                    scores.lock().expect("no thread panicked with the lock")[index] = score;
                }
            });
        }
    });
    let scores = scores.into_inner().expect("no thread panicked with the lock");
    scores.chunks(seeds.len()).map(<[_]>::to_vec).collect()
}

/// The middle one of some values, or the lower of the two.
fn median<T: Copy + PartialOrd>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn table(profiles: &[Profile], scores: &[Vec<Score>]) -> String {
    let mut text = String::from(
        "profile        of bound (least..most)   Mbit/s  sent/delivered  queue ms  RTOs (needless)  learned s  floor\n",
    );
    for (profile, scores) in profiles.iter().zip(scores) {
        let middle = |of: fn(&Score) -> f64| median(scores.iter().map(of)).unwrap_or_default();
        let shares = scores.iter().map(|score| score.of_bound);
        let (least, most) = (shares.clone().fold(f64::MAX, f64::min), shares.fold(0.0, f64::max));
        let sum = |of: fn(&Score) -> u64| scores.iter().map(of).sum::<u64>();
        let learned = median(scores.iter().filter_map(|score| score.learned));
        let learned = learned.map_or("-".to_owned(), |at| format!("{:.1}", at.as_secs_f64()));
        let cut = scores.iter().filter(|score| score.is_cut).count();
        _ = writeln!(
            text,
            "{:<13}  {:>8.3} ({least:.3}..{most:.3})  {:>8.2}  {:>14.3}  {:>8.1}  {:>15}  {learned:>9}  {:>5.3}{}",
            profile.name,
            middle(|score| score.of_bound),
            middle(|score| score.bit_per_s) / 1e6,
            middle(|score| score.waste),
            middle(|score| score.queueing.as_secs_f64()) * 1e3,
            format!("{} ({})", sum(|score| score.timeouts), sum(|score| score.needless)),
            middle(|score| score.floor_permille as f64) / 1e3,
            if cut > 0 { format!("  {cut} cut off") } else { String::new() },
        );
    }
    text
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not what belongs there")))
}

#[test]
#[ignore = "for people: prints, and promises nothing"]
fn profiles_of_links() {
    let wanted: Option<String> = variable("SIM_PROFILES");
    let mut profiles = profiles();
    if let Some(wanted) = wanted {
        let names: Vec<&str> = wanted.split(',').collect();
        let unknown = names.iter().find(|name| profiles.iter().all(|profile| profile.name != **name));
        assert!(unknown.is_none(), "SIM_PROFILES: there is no {}", unknown.unwrap_or(&""));
        profiles.retain(|profile| names.contains(&profile.name));
    }
    let seeds: String = variable("SIM_SEEDS").unwrap_or_else(|| "1".to_owned());
    let seeds: Vec<u64> = seeds.split(',').map(|seed| seed.parse().expect("SIM_SEEDS=1,2,3")).collect();
    let name: String = variable("SIM_CC").unwrap_or_else(|| "bbr".to_owned());
    let manner = Manner {
        who: Sender::named(&name),
        duration: Duration::from_secs(variable("SIM_SECONDS").unwrap_or(20)),
        lag: variable("SIM_LAG_US").map_or(LAG, micros),
    };
    let wall = Instant::now();
    let scores = play_all(&profiles, &seeds, &manner);
    println!("{name}, seeds {seeds:?}, {:?} of sending:\n{}", manner.duration, table(&profiles, &scores));
    println!("in {:?}", wall.elapsed());
}

/// Who beside whom at 50 Mbit/s, 40 ms and a drop-tail queue of `SIM_QUEUE_BDP` (1): `SIM_CC=bbr,kernel-bbr`, which
/// begin `SIM_STAGGER_MS` (0) apart; `SIM_SECONDS` (60) long, `SIM_SEEDS` (1), a line for each `SIM_EVERY` seconds (5).
#[test]
#[ignore = "for people: prints, and promises nothing"]
fn shares() {
    let names: String = variable("SIM_CC").unwrap_or_else(|| "bbr,kernel-bbr".to_owned());
    let names: Vec<&str> = names.split(',').collect();
    let queue: f64 = variable("SIM_QUEUE_BDP").unwrap_or(1.0);
    let lag = variable("SIM_LAG_US").map_or(LAG, micros);
    let stagger = ms(variable("SIM_STAGGER_MS").unwrap_or(0));
    let duration = Duration::from_secs(variable("SIM_SECONDS").unwrap_or(60));
    let every = Duration::from_secs(variable("SIM_EVERY").unwrap_or(5));
    let seeds: String = variable("SIM_SEEDS").unwrap_or_else(|| "1".to_owned());
    for seed in seeds.split(',').map(|seed| seed.parse().expect("SIM_SEEDS=1,2,3")) {
        let link = way(50_000, ms(20), Queue::Bytes((250_000.0 * queue) as usize));
        let flow = |(index, name): (usize, &&str)| Flow {
            // No two machines begin in the same microsecond.
            start: stagger * index as u32 + micros(Rng::stream(seed, index as u64).below(1_000)),
            ..Sender::named(name).flow(lag)
        };
        let flows: Vec<Flow> = names.iter().enumerate().map(flow).collect();
        let mut acked = vec![0; flows.len()];
        let dumbbell = Dumbbell { forward: link.clone(), back: link, flows, seed };
        let report = dumbbell.run_watched(duration, Duration::ZERO..duration, every, |at, flow, connection| {
            let stats = connection.stats();
            let mbit = (stats.bytes_acked - acked[flow]) as f64 * 8e-6 / every.as_secs_f64();
            acked[flow] = stats.bytes_acked;
            println!(
                "{:5.0} s  {:<12}  {mbit:6.2} Mbit/s  {:<16}  bw {:6.2}  cwnd {:7}  min {:5.1} ms  srtt {:5.1} ms  floor {}",
                at.as_secs_f64(),
                names[flow],
                stats.phase,
                stats.bandwidth as f64 * 8e-6,
                stats.cwnd,
                stats.min_rtt.as_secs_f64() * 1e3,
                stats.srtt.as_secs_f64() * 1e3,
                stats.loss_floor_permille,
            );
        });
        let shares: Vec<String> = (0..names.len())
            .map(|index| {
                let flow = &report.flows[index];
                format!("{} {:.3} (sent/delivered {:.3})", names[index], report.share(index), flow.waste())
            })
            .collect();
        println!(
            "seed {seed}: {}; {:.1} Mbit/s in all, {:.4} lost at the queue, which is {:.1} ms long",
            shares.join(", "),
            report.total_goodput() / 1e6,
            report.congestion_loss(),
            report.link.queue_delay_mean().as_secs_f64() * 1e3,
        );
    }
}

fn scores_of(name: &str, manner: &Manner, seeds: &[u64]) -> Vec<Score> {
    let profiles: Vec<Profile> = profiles().into_iter().filter(|profile| profile.name == name).collect();
    assert_eq!(profiles.len(), 1, "{name}");
    let scores = play_all(&profiles, seeds, manner).remove(0);
    print!("{}", table(&profiles, std::slice::from_ref(&scores)));
    scores
}

const SHORT: Manner =
    Manner { who: Sender::Ours(Algorithm::Bbr), duration: Duration::from_secs(6), lag: LAG };

#[test]
fn a_clean_path_is_filled_without_a_queue_of_half_its_round_trip() {
    for score in scores_of("wan100", &SHORT, &[1, 2]) {
        assert!(score.of_bound >= 0.93 && score.waste <= 1.03, "{score:?}");
        assert!(score.queueing <= ms(10) && score.timeouts == 0 && !score.is_cut, "{score:?}");
    }
}

#[test]
fn a_path_that_loses_a_fifth_by_chance_is_filled_once_that_is_learned() {
    for score in scores_of("lossy20", &SHORT, &[1, 2]) {
        assert!(score.of_bound >= 0.5 && score.waste <= 1.3, "{score:?}");
        assert!(score.learned.is_some_and(|at| at < ms(6_000)), "{score:?}");
        assert!((100..300).contains(&score.floor_permille) && !score.is_cut, "{score:?}");
    }
}

#[test]
fn where_a_tenth_comes_late_nothing_is_lost_and_the_path_is_filled() {
    for score in scores_of("reorder", &SHORT, &[1, 2]) {
        assert!(score.of_bound >= 0.93 && score.waste <= 1.02 && score.needless == 0, "{score:?}");
    }
}

/// 150 ms in which half is lost bound the flight to a part of what the path holds. A probe raised that bound by a
/// dozen segments and took it for the path's end: half of the rate was missing five seconds later (0.86).
#[test]
fn a_blip_of_loss_is_made_up_for_in_seconds() {
    let manner = Manner { duration: Duration::from_secs(28), ..SHORT };
    let scores = scores_of("starlink", &manner, &[1, 2, 3, 4, 5]);
    let of_bound = median(scores.iter().map(|score| score.of_bound));
    assert!(of_bound >= Some(0.94), "{scores:?}");
}

/// Bursts of chance: each that filled a window was tried for congestion, several were convicted, and the rate in between
/// was the least of what few rounds told (0.89, of ten seeds 0.82 at least).
#[test]
fn wifi_with_bursts_of_loss_and_jitter_is_filled() {
    let manner = Manner { duration: Duration::from_secs(20), ..SHORT };
    let scores = scores_of("wifi-bad", &manner, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let of_bound = median(scores.iter().map(|score| score.of_bound));
    assert!(of_bound >= Some(0.94), "{scores:?}");
    assert!(scores.iter().all(|score| score.of_bound >= 0.9 && score.waste <= 1.1), "{scores:?}");
}

#[test]
fn a_deep_buffer_stays_empty() {
    for score in scores_of("bufferbloat", &SHORT, &[1]) {
        assert!(score.of_bound >= 0.93 && score.queueing <= ms(50) && !score.is_cut, "{score:?}");
    }
}

/// A busy machine, or a program that sleeps in whole milliseconds. What a late wake-up cost the pacer was once never
/// sent, and BBR took what arrived for what the path can carry: a fourteenth of it was left here.
#[test]
fn hosts_that_come_two_milliseconds_late_fill_a_clean_path_all_the_same() {
    let manner = Manner { lag: ms(2), ..SHORT };
    for score in scores_of("wan100", &manner, &[1]).into_iter().chain(scores_of("lte", &manner, &[1])) {
        assert!(score.of_bound >= 0.8 && score.waste <= 1.03, "{score:?}");
    }
}

/// A millisecond late there: two seeds of eight kept 0.02 for good. A start-up that the peer's window held back behind a
/// hole took the path for full, and timeouts, which a small flow has each second there, ended each trial of the floor.
#[test]
fn hosts_that_come_a_millisecond_late_fill_a_link_that_loses_half_all_the_same() {
    let manner = Manner { lag: ms(1), duration: ms(12_000), ..SHORT };
    for score in scores_of("lossy50", &manner, &[1, 2, 3, 4, 5, 6, 7, 8]) {
        assert!(score.of_bound >= 0.65, "{score:?}");
    }
}

/// One start in 64 (with other bursts of the pacer four) kept a tenth for good there: a probe that grew from far below the
/// link's rate passed for one at a queue that others keep full, or the queue that a floor of 0.53 made for a crowd's.
#[test]
fn no_start_stays_far_below_the_rate_of_a_link_that_loses_half() {
    let seeds: Vec<u64> = (17..=25).chain(41..=49).collect();
    let manner = Manner { duration: ms(20_000), ..SHORT };
    for (score, seed) in scores_of("lossy50", &manner, &seeds).iter().zip(seeds) {
        assert!(score.of_bound >= 0.75, "seed {seed}: {score:?}");
    }
}

/// What the kernel's own BBR makes of these links in real time: 0.94 and nothing; that the model does so, too, is what
/// the others' shares beside it are worth.
#[test]
fn the_model_of_the_kernels_bbr_bears_five_percent_of_loss_and_starves_at_thirty() {
    let manner = Manner { who: Sender::BbrV1, ..SHORT };
    for score in scores_of("lossy5", &manner, &[1, 2]) {
        assert!((0.8..1.0).contains(&score.of_bound) && !score.is_cut, "{score:?}");
    }
    for score in scores_of("lossy30", &manner, &[1, 2]) {
        assert!(score.of_bound <= 0.2, "{score:?}");
    }
}

/// 0.9 in real time.
#[test]
fn the_model_of_the_kernels_bbr_leaves_little_to_cubic_in_a_queue_of_one_bdp() {
    let link = way(50_000, ms(20), Queue::Bdp);
    let flows = [Sender::BbrV1, Sender::Cubic].map(|who| who.flow(Duration::ZERO)).to_vec();
    let duration = ms(20_000);
    let report =
        Dumbbell { forward: link.clone(), back: link, flows, seed: 1 }.run(duration, ms(5_000)..duration);
    assert!((0.7..1.0).contains(&report.share(0)), "{:.3}", report.share(0));
    assert_eq!(report.flows[0].algorithm, "bbr-v1");
}

/// A minute of us and the model, who come so many milliseconds after each other: our share.
fn share_beside_bbr_v1(seed: u64, we_come_at: u64, it_comes_at: u64) -> f64 {
    let link = way(50_000, ms(20), Queue::Bdp);
    let flow = |who: Sender, at, index| Flow {
        start: ms(at) + micros(Rng::stream(seed, index).below(1_000)),
        ..who.flow(LAG)
    };
    let flows = vec![flow(Sender::Ours(Algorithm::Bbr), we_come_at, 0), flow(Sender::BbrV1, it_comes_at, 1)];
    let minute = ms(60_000);
    Dumbbell { forward: link.clone(), back: link, flows, seed }.run(minute, Duration::ZERO..minute).share(0)
}

/// Who yields to loss keeps a tenth there. The queue that the model leaves alone each ten seconds gives it away.
#[test]
fn beside_the_model_of_the_kernels_bbr_we_keep_three_tenths_at_least() {
    for (seed, ours, its) in
        [(1, 0, 0), (2, 0, 0), (3, 0, 1_000), (4, 1_000, 0), (5, 0, 5_000), (6, 5_000, 0)]
    {
        let share = share_beside_bbr_v1(seed, ours, its);
        println!("seed {seed}, from {ours} and {its} ms on: {share:.3}");
        assert!((0.3..=0.7).contains(&share), "seed {seed}, from {ours} and {its} ms on: {share:.3}");
    }
}

#[test]
fn once_the_kernels_bbr_has_ended_cubic_gets_its_share_again() {
    let link = way(50_000, ms(20), Queue::Bdp);
    let ours = Sender::Ours(Algorithm::Bbr).flow(LAG);
    let rival = Flow { stop: Some(ms(30_000)), ..Sender::BbrV1.flow(LAG) };
    let cubic = Flow { start: ms(35_000), ..Sender::Cubic.flow(LAG) };
    let (duration, since) = (ms(75_000), ms(40_000));
    let flows = vec![ours, rival, cubic];
    let report =
        Dumbbell { forward: link.clone(), back: link, flows, seed: 1 }.run(duration, since..duration);
    let (ours, cubics) = (report.share(0), report.share(2));
    assert!(ours >= 0.3 && cubics >= 0.35, "ours {ours:.3}, CUBIC's {cubics:.3}");
}

/// The harness itself: a host that comes late finds more in its socket, and answers less often.
#[test]
fn a_lag_of_the_hosts_delays_each_step_of_the_handshake_and_thins_out_the_acknowledgements() {
    let play = |lag| {
        let flow = Flow { lag, bytes: Some(4_000_000), ..Flow::endless(Config::default()) };
        let link = way(100_000, ms(20), Queue::Bdp);
        let dumbbell = Dumbbell { forward: link.clone(), back: link, flows: vec![flow], seed: 1 };
        let report = dumbbell.run(ms(10_000), Duration::ZERO..ms(10_000));
        assert!(report.flows[0].end_of_stream.is_some() && report.flows[0].finished.is_some());
        let first_byte = report.flows[0].first_byte.expect("there was one");
        (first_byte.since(Time::ZERO), report.back.packets_in)
    };
    let ((prompt, acks), (late, few_acks)) = (play(Duration::ZERO), play(ms(2)));
    assert!((ms(60)..ms(61)).contains(&prompt) && (ms(66)..ms(67)).contains(&late), "{prompt:?}, {late:?}");
    assert!(few_acks * 10 < acks * 9, "{few_acks} of {acks}");
}
