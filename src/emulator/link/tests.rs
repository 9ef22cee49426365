use super::*;
use crate::emulator::{BurstLoss, Outage, RateStep, Window};

mod queue;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at_ms(n: u64) -> Time {
    Time::ZERO + ms(n)
}

/// Delivers everything that is on the link: `(tag, due, bytes)` in order of arrival.
fn drain(link: &mut Link<u64>) -> Vec<(u64, Time, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(now) = link.poll_timeout() {
        let Some(arrived) = link.poll_delivery(now) else {
            assert!(link.impairments().codel.is_some(), "something is due at poll_timeout");
            continue;
        };
        assert_eq!(arrived.due, now);
        out.push((arrived.tag, arrived.due, arrived.bytes));
    }
    assert_eq!((link.in_flight(), link.bytes_in_flight()), (0, 0));
    let stats = link.stats();
    let at_the_queue = stats.queue_dropped + stats.aqm_dropped + stats.policed + stats.mtu_dropped;
    let dropped = stats.lost + stats.burst_lost + stats.blackout_dropped + at_the_queue;
    assert_eq!(stats.packets_in + stats.duplicated, stats.delivered + dropped);
    out
}

/// Pushes `n` datagrams of `size` bytes, `gap` apart, tagged 0, 1, 2…, and delivers them all at the end.
fn send(link: &mut Link<u64>, n: u64, size: usize, gap: Duration) -> Vec<(u64, Time, Vec<u8>)> {
    let datagram = vec![0x5A; size];
    for k in 0..n {
        link.push(Time::ZERO + gap * k as u32, k, &datagram);
    }
    drain(link)
}

fn tags(arrived: &[(u64, Time, Vec<u8>)]) -> Vec<u64> {
    arrived.iter().map(|a| a.0).collect()
}

#[test]
fn the_perfect_link_delivers_everything_at_once_in_order_and_intact() {
    let mut link = Link::new(Impairments::default(), 1);
    let arrived = send(&mut link, 100, 50, ms(3));
    assert_eq!(tags(&arrived), (0..100).collect::<Vec<_>>());
    for (k, due, bytes) in arrived {
        assert_eq!((due, bytes), (at_ms(3 * k), vec![0x5A; 50]));
    }
    assert_eq!(link.stats().bytes_in, link.stats().bytes_delivered);
}

#[test]
fn half_of_ten_thousand_datagrams_is_lost_at_a_loss_of_one_half() {
    let mut link = Link::new(Impairments { loss: 0.5, ..Impairments::default() }, 2);
    send(&mut link, 10_000, 1, ms(1));
    assert!((4_800..5_200).contains(&link.stats().lost), "{:?}", link.stats());
}

#[test]
fn a_rate_serves_n_datagrams_in_exactly_their_bits_over_the_rate() {
    // 3 Mbit/s does not divide 1000 bytes into whole nanoseconds; the error must not add up.
    let rate = Impairments { rate_bit_per_s: Some(3_000_000), ..Impairments::default() };
    let arrived = send(&mut Link::new(rate, 3), 30_000, 1_000, Duration::ZERO);
    assert_eq!(arrived[0].1, Time::from_nanos(2_666_666));
    assert_eq!(arrived.last().unwrap().1, at_ms(80_000));
}

#[test]
fn overhead_takes_rate_too() {
    let what = Impairments { rate_bit_per_s: Some(8_000), overhead_bytes: 28, ..Impairments::default() };
    let arrived = send(&mut Link::new(what, 3), 1, 72, Duration::ZERO);
    assert_eq!(arrived[0].1, at_ms(100));
}

#[test]
fn a_rate_step_splits_the_datagram_in_service_and_zero_stalls_until_the_next() {
    let step = |at, rate| RateStep { at: at_ms(at), rate_bit_per_s: rate };
    let what = Impairments {
        rate_bit_per_s: Some(8_000), // a byte per millisecond
        rate_steps: vec![step(50, Some(16_000)), step(100, Some(0)), step(500, None)],
        ..Impairments::default()
    };
    let arrived = send(&mut Link::new(what, 3), 4, 100, Duration::ZERO);
    let due: Vec<_> = arrived.iter().map(|a| a.1.as_millis()).collect();
    assert_eq!(due, [75, 500, 500, 500]);
}

#[test]
fn what_would_wait_for_a_dead_rate_for_ever_is_lost() {
    let mut link = Link::new(Impairments { rate_bit_per_s: Some(0), ..Impairments::default() }, 3);
    assert!(send(&mut link, 5, 100, ms(1)).is_empty());
    assert_eq!(link.stats().blackout_dropped, 5);
}

#[test]
fn the_queue_counts_the_datagram_in_service_and_drops_the_newest() {
    let what = Impairments {
        rate_bit_per_s: Some(8_000_000), // a byte per microsecond
        queue_bytes: Some(8_192),
        ..Impairments::default()
    };
    let mut link = Link::new(what, 4);
    assert_eq!(tags(&send(&mut link, 10, 1_500, Duration::ZERO)), [0, 1, 2, 3, 4]);
    let stats = link.stats();
    assert_eq!((stats.queue_dropped, stats.queue_bytes_max), (5, 7_500));
    assert_eq!(stats.queue_delay_max, Duration::from_micros(6_000));
    assert_eq!(stats.queue_delay_sum, Duration::from_micros(1_500 + 3_000 + 4_500 + 6_000));

    link.push(at_ms(8), 11, &[0; 9_000]);
    assert_eq!(tags(&drain(&mut link)), [11], "an empty queue takes a datagram larger than itself");
}

#[test]
fn a_swapped_datagram_arrives_right_behind_its_successor() {
    let what = Impairments { reorder: 1.0, delay: ms(20), ..Impairments::default() };
    let mut link = Link::new(what, 5);
    let arrived = send(&mut link, 6, 10, ms(1));
    assert_eq!(tags(&arrived), [1, 0, 3, 2, 5, 4]);
    assert_eq!(arrived[1].1, at_ms(21), "no later than its successor");
    assert_eq!(link.stats().reordered, 3);
}

#[test]
fn a_held_datagram_without_successor_arrives_after_the_hold_time() {
    let what = Impairments { reorder: 1.0, delay: ms(20), ..Impairments::default() };
    let mut link = Link::new(what, 5);
    let arrived = send(&mut link, 3, 10, ms(1));
    assert_eq!(tags(&arrived), [1, 0, 2]);
    assert_eq!(arrived[2].1, at_ms(2 + 20 + 100));

    // A successor that would pass after the hold time does not swap either.
    link.push(at_ms(1_000), 7, b"x");
    link.push(at_ms(1_100), 8, b"x");
    assert_eq!(tags(&drain(&mut link)), [7, 8]);
}

#[test]
fn a_lost_successor_swaps_nothing() {
    let what = Impairments { reorder: 1.0, mtu: Some(10), ..Impairments::default() };
    let mut link = Link::new(what, 5);
    link.push(at_ms(0), 0, &[0; 10]);
    link.push(at_ms(1), 1, &[0; 11]);
    link.push(at_ms(2), 2, &[0; 10]);
    assert_eq!(tags(&drain(&mut link)), [2, 0]);
}

#[test]
fn jitter_keeps_the_order_unless_told_otherwise() {
    let jitter = Impairments { delay: ms(10), jitter: ms(50), ..Impairments::default() };
    let mut link = Link::new(jitter.clone(), 6);
    let arrived = send(&mut link, 1_000, 10, ms(1));
    assert!(arrived.is_sorted_by_key(|a| a.0));
    assert!(arrived.iter().all(|a| (10..=60).contains(&(a.1 - at_ms(a.0)).as_millis())));
    assert_eq!(link.stats().reordered, 0);

    let mut link = Link::new(Impairments { jitter_reorder: true, ..jitter }, 6);
    let arrived = send(&mut link, 1_000, 10, ms(1));
    assert!(!arrived.is_sorted_by_key(|a| a.0));
    let mut latest = 0;
    let overtaken = arrived.iter().filter(|a| (latest > a.0, latest = latest.max(a.0)).0).count();
    assert_eq!(link.stats().reordered, overtaken as u64);
}

#[test]
fn a_late_datagram_is_overtaken_and_arrives_late_by_the_given_time() {
    let what = Impairments { late: 0.1, late_by: ms(30), ..Impairments::default() };
    let mut link = Link::new(what, 7);
    let arrived = send(&mut link, 1_000, 10, ms(1));
    let late = arrived.iter().filter(|a| a.1 - at_ms(a.0) == ms(30)).count() as u64;
    assert_eq!(late, link.stats().late);
    assert!((70..130).contains(&late) && link.stats().reordered >= late - 1);
}

#[test]
fn every_datagram_is_doubled_at_a_probability_of_one() {
    let what = Impairments { duplicate: 1.0, duplicate_delay: ms(5), ..Impairments::default() };
    let mut link = Link::new(what, 8);
    let arrived = send(&mut link, 2, 10, ms(100));
    let seen: Vec<_> = arrived.iter().map(|a| (a.0, a.1.as_millis())).collect();
    assert_eq!(seen, [(0, 0), (0, 5), (1, 100), (1, 105)]);
    assert_eq!((link.stats().duplicated, link.stats().reordered), (2, 0));
}

#[test]
fn bit_errors_come_at_their_rate_independently_per_bit() {
    let rate = 16e-5;
    let mut link = Link::new(Impairments { bit_error_rate: rate, ..Impairments::default() }, 9);
    let (n, size) = (20_000, 1_000);
    let arrived = send(&mut link, n, size, ms(1));
    let flips: u64 = arrived.iter().flat_map(|a| &a.2).map(|byte| (byte ^ 0x5A).count_ones() as u64).sum();
    assert_eq!(flips, link.stats().bits_flipped);
    let expected = n as f64 * size as f64 * 8.0 * rate; // 25,600, standard deviation 160
    assert!((flips as f64 - expected).abs() < 800.0, "{flips} flips, expected {expected}");

    let intact = arrived.iter().filter(|a| a.2.iter().all(|byte| *byte == 0x5A)).count() as f64;
    let expected = n as f64 * (1.0 - rate).powi(size as i32 * 8); // 5,560, standard deviation 63
    assert!((intact - expected).abs() < 320.0, "{intact} intact, expected {expected}");
    assert_eq!(link.stats().corrupted, n - intact as u64);
}

#[test]
fn at_a_bit_error_rate_of_one_every_bit_flips() {
    let mut link = Link::new(Impairments { bit_error_rate: 1.0, ..Impairments::default() }, 9);
    assert_eq!(send(&mut link, 1, 40, ms(1))[0].2, [!0x5A; 40]);
}

fn bursts() -> BurstLoss {
    BurstLoss { mean_good: ms(400), mean_bad: ms(100), loss_good: 0.0, loss_bad: 1.0 }
}

#[test]
fn burst_loss_follows_time_not_the_number_of_datagrams() {
    let what = Impairments { burst_loss: Some(bursts()), ..Impairments::default() };
    let (mut dense, mut sparse) = (Link::new(what.clone(), 10), Link::new(what, 10));
    let dense_arrived = tags(&send(&mut dense, 400_000, 1, ms(1)));
    let sparse_arrived = tags(&send(&mut sparse, 4_000, 1, ms(100)));

    // A fifth of the time is bad, however often one looks.
    assert!((70_000..90_000).contains(&dense.stats().burst_lost), "{:?}", dense.stats());
    // The state at a given moment is the same for both.
    let at_the_same_moments: Vec<_> =
        dense_arrived.iter().filter(|k| *k % 100 == 0).map(|k| k / 100).collect();
    assert_eq!(at_the_same_moments, sparse_arrived);
    // The mean burst lasts 100 ms: 100 datagrams when one comes every millisecond.
    let bursts = dense_arrived.windows(2).filter(|pair| pair[1] - pair[0] > 1).count() as u64;
    let mean = dense.stats().burst_lost / bursts;
    assert!((85..120).contains(&mean), "mean burst {mean} ms");
}

#[test]
fn a_year_of_silence_costs_burst_loss_nothing() {
    let what = Impairments { burst_loss: Some(bursts()), ..Impairments::default() };
    let mut link = Link::new(what, 11);
    for year in 0..5_000 {
        link.push(Time::ZERO + Duration::from_secs(365 * 86_400) * (year / 10), 0, b"x");
    }
    drain(&mut link);
    assert!((500..1_500).contains(&link.stats().burst_lost), "{:?}", link.stats());
    link.push(Time::MAX, 0, b"x");
    drain(&mut link);
}

#[test]
fn blackouts_and_outages_lose_what_leaves_the_queue_in_them() {
    let window = |from, until| Window { from: at_ms(from), until: at_ms(until) };
    let what = Impairments { blackouts: vec![window(50, 60), window(10, 12)], ..Impairments::default() };
    let mut link = Link::new(what, 12);
    let arrived = tags(&send(&mut link, 100, 1, ms(1)));
    assert_eq!(arrived, (0..10).chain(12..50).chain(60..100).collect::<Vec<_>>());
    assert_eq!(link.stats().blackout_dropped, 12);

    let what =
        Impairments { outage: Some(Outage { every: ms(50), length: ms(20) }), ..Impairments::default() };
    let arrived = tags(&send(&mut Link::new(what, 12), 100, 1, ms(1)));
    assert_eq!(arrived, (0..30).chain(50..80).collect::<Vec<_>>());
}

#[test]
fn an_outage_that_is_not_total_loses_its_share_and_nothing_outside() {
    let outage = Some(Outage { every: ms(50), length: ms(20) });
    let what = Impairments { outage, outage_loss: 0.25, ..Impairments::default() };
    let mut link = Link::new(what, 12);
    let arrived = tags(&send(&mut link, 10_000, 1, ms(1)));
    assert!((0..10_000).filter(|k| k % 50 < 30).all(|k| arrived.binary_search(&k).is_ok()));
    assert!((900..1_100).contains(&link.stats().blackout_dropped), "{:?}", link.stats());
}

#[test]
fn the_mtu_hole_swallows_what_is_larger_and_nothing_else() {
    let what = Impairments { mtu: Some(1_280), overhead_bytes: 28, ..Impairments::default() };
    let mut link = Link::new(what, 13);
    link.push(at_ms(0), 0, &[0; 1_252]);
    link.push(at_ms(0), 1, &[0; 1_253]);
    assert_eq!(tags(&drain(&mut link)), [0]);
    assert_eq!(link.stats().mtu_dropped, 1);
}

fn everything() -> Impairments {
    Impairments {
        loss: 0.1,
        burst_loss: Some(bursts()),
        reorder: 0.2,
        late: 0.05,
        late_by: ms(15),
        duplicate: 0.1,
        bit_error_rate: 1e-4,
        delay: ms(20),
        jitter: ms(10),
        jitter_reorder: true,
        rate_bit_per_s: Some(1_000_000),
        queue_bytes: Some(8_192),
        outage: Some(Outage { every: ms(700), length: ms(40) }),
        mtu: Some(1_000),
        ..Impairments::default()
    }
}

/// 5,000 datagrams of random sizes over `what`, all that arrives and the counters.
fn fates(what: Impairments, seed: u64, poll_often: bool) -> (Vec<(u64, Time, Vec<u8>)>, LinkStats) {
    let mut link = Link::new(what, seed);
    let (mut arrived, mut sizes) = (Vec::new(), Rng::new(99));
    for k in 0..5_000 {
        let now = at_ms(3 * k);
        while poll_often && let Some(due) = link.poll_timeout().filter(|due| *due <= now) {
            let Some(one) = link.poll_delivery(due) else { continue };
            arrived.push((one.tag, one.due, one.bytes.clone()));
            link.recycle(one.bytes);
        }
        link.push_ecn(now, k, &vec![k as u8; sizes.below(1_010) as usize], k % 2 == 0);
    }
    arrived.extend(drain(&mut link));
    (arrived, link.stats().clone())
}

#[test]
fn the_same_seed_gives_the_same_fates_however_often_the_link_is_polled() {
    let (arrived, stats) = fates(everything(), 14, true);
    assert!((arrived.clone(), stats.clone()) == fates(everything(), 14, false));
    assert!(arrived != fates(everything(), 15, true).0);
    let fired = [
        stats.lost,
        stats.burst_lost,
        stats.blackout_dropped,
        stats.queue_dropped,
        stats.mtu_dropped,
        stats.duplicated,
        stats.corrupted,
        stats.late,
        stats.reordered,
    ];
    assert!(fired.iter().all(|n| *n > 0), "{stats:?}");
}

#[test]
fn adding_one_impairment_leaves_the_fates_of_the_others_alone() {
    let survivors = |what| {
        let mut arrived = tags(&send(&mut Link::new(what, 16), 2_000, 100, ms(1)));
        arrived.sort_unstable();
        arrived.dedup();
        arrived
    };
    let only_loss = Impairments { loss: 0.3, ..Impairments::default() };
    let without = survivors(only_loss.clone());
    let with = survivors(Impairments {
        reorder: 0.5,
        late: 0.2,
        late_by: ms(9),
        duplicate: 0.3,
        bit_error_rate: 1e-3,
        jitter: ms(5),
        rate_bit_per_s: Some(900_000),
        ..only_loss.clone()
    });
    assert_eq!(without, with);

    let in_outages =
        survivors(Impairments { outage: Some(Outage { every: ms(100), length: ms(30) }), ..only_loss });
    let expected: Vec<_> = without.into_iter().filter(|k| k % 100 < 70).collect();
    assert_eq!(in_outages, expected);
}

#[test]
fn faults_can_be_switched_off_while_datagrams_are_on_their_way() {
    let mut link = Link::new(Impairments { loss: 1.0, delay: ms(5), ..Impairments::default() }, 17);
    link.push(at_ms(0), 0, b"lost");
    link.set_impairments(Impairments { delay: ms(50), ..Impairments::default() });
    link.push(at_ms(1), 1, b"slow");
    link.set_impairments(Impairments::default());
    link.push(at_ms(2), 2, b"behind it");
    assert_eq!(tags(&drain(&mut link)), [1, 2]);
}
