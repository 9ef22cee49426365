//! The experiment, told of paths and crowds.

use super::*;

/// A path told of in rounds of 200 segments, ten ACKs each, at full rate or at [`TRIAL_GAIN`].
fn play(rounds: u64, loss_at: impl FnMut(f64) -> f64) -> (LossFloor, Vec<Verdict>) {
    play_with(rounds, loss_at, |is_trial| (is_trial, false))
}

/// `queue`, told whether a trial is on: whether an ACK met none, and whether it met more than usual.
fn play_with(
    rounds: u64,
    mut loss_at: impl FnMut(f64) -> f64,
    queue: impl Fn(bool) -> (bool, bool),
) -> (LossFloor, Vec<Verdict>) {
    let at = |ms: u64| Time::from_nanos(1_000_000 * ms);
    let (mut floor, mut verdicts) = (LossFloor::new(), vec![]);
    for round in 1..=rounds {
        for part in 0..10 {
            let loss = loss_at(if floor.in_trial() { TRIAL_GAIN } else { 1.0 });
            let now = at(10 * round + part);
            let (acked, lost) = (20.0 * (1.0 - loss), 20.0 * loss);
            let (no_queue, is_loaded) = queue(floor.in_trial());
            let seen = Seen { acked, lost, newest: now, settled: now, no_queue, is_loaded, is_probed: false };
            verdicts.extend(floor.on_ack(now, round, &seen, 200.0, 0.0));
        }
    }
    (floor, verdicts)
}

#[test]
fn loss_that_does_not_answer_to_the_rate_becomes_the_floor_after_eight_windows_of_a_trial() {
    let (early, verdicts) = play(3, |_| 0.2);
    assert!(early.in_trial() && early.get() == 0.0, "a few windows are no proof");
    assert_eq!(verdicts, [Verdict::Suspect]);
    let (late, verdicts) = play(40, |_| 0.2);
    assert!((0.19..0.3).contains(&late.get()), "{}", late.get());
    assert_eq!(verdicts, [Verdict::Suspect, Verdict::Fits(1.0)], "nothing is taken from the rate");
    assert!(late.has_risen() && !late.in_trial());
}

#[test]
fn loss_that_one_window_leaves_to_chance_is_suspicious_in_four() {
    let (mut floor, mut suspected) = (play(40, |_| 0.2).0, None);
    let more = floor.get() + THRESHOLD + 2.0 * (floor.get() * (1.0 - floor.get()) / 200.0).sqrt();
    let lost = (20.0 * more * 1024.0).round() / 1024.0; // sums that are exact
    let acked = 20.0 - lost;
    floor.restart(Time::ZERO);
    for n in 1..=60 {
        let now = Time::from_nanos(1_000_000_000 + n);
        let seen = Seen {
            acked,
            lost,
            newest: now,
            settled: now,
            no_queue: true,
            is_loaded: false,
            is_probed: false,
        };
        if floor.on_ack(now, 100, &seen, 400.0, 0.0) == Some(Verdict::Suspect) {
            suspected = suspected.or(Some(n));
        }
    }
    assert_eq!(suspected, Some(44), "four windows of eleven ACKs");
    floor.forget();
    assert_eq!(floor.get(), 0.0);
}

#[test]
fn a_trial_that_makes_a_difference_is_over_at_once() {
    let (floor, verdicts) = play(4, |gain| (1.0 - 0.7 / gain).max(0.0));
    assert!(matches!(verdicts[..], [Verdict::Suspect, Verdict::Fits(share)] if share < 0.75), "{verdicts:?}");
    assert!(!floor.in_trial());
}

#[test]
fn no_floor_is_learned_while_the_queue_is_never_seen_empty() {
    let (floor, verdicts) = play_with(200, |_| 0.2, |_| (false, false));
    assert_eq!(floor.get(), 0.0);
    assert!(verdicts.contains(&Verdict::Fits(TRIAL_GAIN)), "downwards");
    let (floor, _) = play_with(200, |_| 0.2, |_| (true, true));
    assert_eq!(floor.get(), 0.0, "empty once, but loaded most of the time");
}

#[test]
fn of_losses_that_come_in_runs_only_a_tenth_is_believed() {
    let mut n = 0;
    let (floor, _) = play(400, |_| {
        n += 1;
        if n / 10 % 3 == 0 { 0.6 } else { 0.1 }
    });
    assert!(floor.is_bursty() && floor.get() <= FLOOR_BURSTY, "{}", floor.get());
    let mut floor = floor;
    floor.forget_runs();
    floor.forget();
    let one = Meter { acked: 80.0, lost: 20.0, ..Meter::new(Time::ZERO) };
    (0..WINDOWS).for_each(|_| floor.learn(&one));
    assert!(!floor.is_bursty() && floor.get() >= 0.2, "measured anew: {}", floor.get());
}

/// Tells of windows of 120 segments, one for each of `losses`, and returns the verdicts.
fn tell(floor: &mut LossFloor, losses: &[f64], no_queue: bool) -> Vec<Verdict> {
    let mut verdicts = vec![];
    for loss in losses {
        for _ in 0..6 {
            let now = floor.newest + std::time::Duration::from_millis(1);
            let (acked, lost) = (20.0 * (1.0 - loss), 20.0 * loss);
            let is_loaded = !no_queue;
            let seen = Seen { acked, lost, newest: now, settled: now, no_queue, is_loaded, is_probed: false };
            verdicts.extend(floor.on_ack(now, 1000, &seen, 200.0, 0.0));
        }
    }
    verdicts
}

/// On bad Wi-Fi a burst in each second passed for congestion, and trials took a twentieth of the rate.
#[test]
fn where_chance_comes_in_runs_a_single_window_raises_no_suspicion_and_four_do() {
    let learned = |is_bursty| {
        let mut floor = play(40, |_| 0.08).0;
        (0..if is_bursty { 200 } else { 0 }).for_each(|n| {
            let lost = if n % 3 == 0 { 48.0 } else { 8.0 };
            floor.count(&Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) }, false);
        });
        assert!(floor.is_bursty() == is_bursty && floor.get() > 0.07);
        floor.abandon(floor.newest);
        floor
    };
    let once = [0.08, 0.4, 0.08, 0.08];
    assert_eq!(tell(&mut learned(false), &once, true)[0], Verdict::Suspect);
    let mut floor = learned(true);
    assert_eq!(tell(&mut floor, &once, true), []);
    assert_eq!(tell(&mut floor, &[0.4; 3], true), []);
    assert_eq!(tell(&mut floor, &[0.4], true), [Verdict::Suspect]);
}

#[test]
fn one_window_of_a_trial_that_meets_a_full_queue_refutes_no_floor_and_two_do() {
    let mut floor = play(40, |_| 0.1).0;
    floor.begin_trial(floor.newest, 0.3, 200.0, TRIAL_GAIN);
    assert_eq!(tell(&mut floor, &[0.3], false), []);
    assert!(floor.get() > 0.09 && floor.in_trial(), "{}", floor.get());
    assert_eq!(tell(&mut floor, &[0.3], false), [Verdict::Fits(TRIAL_GAIN)]);
    assert_eq!(floor.get(), 0.0);
}

#[test]
fn in_a_crowd_no_floor_is_believed_nor_learned() {
    let mut floor = play(40, |_| 0.2).0;
    let learned = floor.get();
    floor.bar(true, false);
    assert!(learned > 0.19 && floor.get() == learned, "single losses are no queue's");
    (0..200).for_each(|n| {
        let lost = if n % 3 == 0 { 120.0 } else { 20.0 };
        floor.count(&Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) }, false);
    });
    floor.bar(false, false);
    assert!(floor.is_bursty() && floor.get() == learned, "nor are runs where nobody shares it");
    floor.bar(true, false);
    assert_eq!(floor.get(), 0.0);
    let one = Meter { acked: 160.0, lost: 40.0, ..Meter::new(Time::ZERO) };
    (0..2 * WINDOWS).for_each(|_| floor.learn(&one));
    assert_eq!(floor.get(), 0.0);
    floor.bar(false, false);
    (0..WINDOWS).for_each(|_| floor.learn(&one));
    assert!(floor.get() > 0.0, "it is over");
    floor.forget_runs();
    floor.bar(false, true);
    assert_eq!(floor.get(), 0.0, "a queue that others keep full needs no proof of runs");
}

#[test]
fn rounds_without_a_queue_that_lose_less_refute_a_floor() {
    let (mut floor, _) = play(200, |_| 0.1);
    let learned = floor.get();
    floor.learn_calm((90.0, 10.0));
    floor.learn_calm((10.0, 0.0));
    assert!(learned > 0.09 && floor.get() == learned, "as much, or too few to say: {}", floor.get());
    floor.learn_calm((400.0, 4.0));
    assert!((0.01..0.07).contains(&floor.get()), "{}", floor.get());
    floor.learn_calm((4000.0, 0.0));
    assert!(floor.get() < 0.02, "{}", floor.get());
}

#[test]
fn a_probe_rtt_without_a_loss_lowers_the_floor_at_once() {
    let mut floor = play(40, |_| 0.05).0;
    let learned = floor.get();
    floor.restart(Time::ZERO);
    let (acked, now) = (60.0, Time::from_nanos(1));
    let seen = Seen {
        acked,
        lost: 0.0,
        newest: now,
        settled: now,
        no_queue: true,
        is_loaded: false,
        is_probed: false,
    };
    floor.observe(&seen);
    floor.learn_observed();
    assert!(learned > 0.04 && floor.get() < 0.03, "{learned}, then {}", floor.get());
}

/// At half loss a flow of ten segments has a timeout in every second: none of its trials ever ended.
#[test]
fn an_interrupted_trial_goes_on_and_counts_nothing_of_what_was_in_flight() {
    let (mut floor, _) = play(5, |_| 0.2);
    assert!(floor.in_trial());
    let windows = floor.trial.map(|trial| trial.windows);
    let now = Time::from_nanos(1_000_000_000);
    floor.interrupt(now);
    assert!(floor.in_trial() && floor.trial.map(|trial| trial.windows) == windows);
    assert!(floor.watch().after == now && floor.trial.is_some_and(|trial| trial.meter.total() == 0.0));
    floor.abandon(now);
    assert!(!floor.in_trial());
}

/// The end of a probe loses what does not fit: one such window among twenty passed for losses that come in runs.
#[test]
fn what_a_probe_loses_says_nothing_of_runs() {
    for is_probed in [true, false] {
        let mut floor = LossFloor::new();
        let window = |lost| Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) };
        (0..200).for_each(|n| match n % 4 {
            0 => floor.count(&window(180.0), is_probed),
            _ => floor.count(&window(100.0), false),
        });
        assert_eq!(floor.is_bursty(), !is_probed);
    }
}

#[test]
fn a_single_segment_refutes_no_floor() {
    let (mut floor, _) = play(200, |_| 0.3);
    let learned = floor.get();
    for acked in [0.01, 1.0, 1.02, 2.0] {
        floor.learn_calm((acked, 0.0));
        assert!(learned > 0.29 && floor.get() == learned, "{acked}: {}", floor.get());
    }
}

#[test]
fn loss_that_ends_when_we_slow_down_was_ours_and_is_no_floor() {
    let (floor, verdicts) = play(200, |gain| (1.0 - 0.8 / gain).max(0.0));
    assert!(floor.get() < 2.0 * THRESHOLD, "what chance may have hidden: {}", floor.get());
    let shares =
        verdicts.iter().filter_map(|v| if let Verdict::Fits(share) = v { Some(*share) } else { None });
    assert!(shares.clone().count() > 0 && shares.clone().all(|share| (0.75..0.85).contains(&share)));
}
