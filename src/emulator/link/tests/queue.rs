//! Queue management, policing and ECN.

use super::*;
use crate::emulator::{Codel, Policer};

/// A byte per microsecond behind a queue that CoDel watches.
fn managed() -> Impairments {
    Impairments {
        rate_bit_per_s: Some(8_000_000),
        delay: ms(10),
        codel: Some(Codel::default()),
        ..Impairments::default()
    }
}

/// Offers 1,000-byte datagrams `gap_us` apart for `n` of them, ECN-capable if `ect`, polling as it goes.
fn offer(link: &mut Link<u64>, n: u64, gap_us: u64, ect: bool) -> Vec<Delivery<u64>> {
    let mut arrived = Vec::new();
    for k in 0..n {
        let now = Time::from_nanos(k * gap_us * 1_000);
        arrived.extend(std::iter::from_fn(|| link.poll_delivery(now)));
        link.push_ecn(now, k, &[7; 1_000], ect);
    }
    while let Some(now) = link.poll_timeout() {
        arrived.extend(link.poll_delivery(now));
    }
    arrived
}

#[test]
fn codel_leaves_a_link_below_its_rate_alone() {
    let mut with = Link::new(managed(), 1);
    let mut without = Link::new(Impairments { codel: None, ..managed() }, 1);
    assert_eq!(offer(&mut with, 5_000, 1_001, false), offer(&mut without, 5_000, 1_001, false));
    assert_eq!(with.stats(), without.stats());
}

#[test]
fn codel_leaves_a_burst_alone_that_is_gone_within_its_interval() {
    let mut link = Link::new(managed(), 1);
    assert_eq!(offer(&mut link, 90, 1, false).len(), 90);
    assert!(link.stats().queue_delay_max > ms(80), "{:?}", link.stats());
}

#[test]
fn codel_drops_from_a_standing_queue_and_the_head_of_it() {
    let mut link = Link::new(managed(), 1);
    let arrived = offer(&mut link, 20_000, 900, false); // 11 % above the rate, for 18 s
    let stats = link.stats();
    assert!(stats.aqm_dropped > 1_000 && stats.queue_dropped == 0, "{stats:?}");
    assert_eq!(arrived.len() as u64 + stats.aqm_dropped, 20_000);
    assert_eq!(arrived.last().map(|last| last.tag), Some(19_999), "the tail is never dropped");
    // Without management the last one would have waited for 2 s.
    assert!(stats.queue_delay_max < ms(900), "{stats:?}");
    // Drops make room at the same moment: the link is never idle.
    let busy = arrived.last().unwrap().due.since(arrived[0].due);
    assert_eq!(busy.as_millis() as usize, arrived.len() - 1);
}

#[test]
fn codel_with_ecn_marks_what_it_would_drop() {
    let ecn = Impairments { codel: Some(Codel { ecn: true, ..Codel::default() }), ..managed() };
    let mut link = Link::new(ecn.clone(), 1);
    let arrived = offer(&mut link, 2_000, 900, true);
    assert_eq!(arrived.len(), 2_000);
    let marked = arrived.iter().filter(|one| one.ce).count() as u64;
    assert_eq!((marked, link.stats().aqm_dropped), (link.stats().ce_marked, 0));
    let mut dropping = Link::new(managed(), 1);
    offer(&mut dropping, 2_000, 900, true);
    assert!(marked > 20 && dropping.stats().aqm_dropped > 20, "{marked} marks, {:?}", dropping.stats());

    let mut link = Link::new(ecn, 1);
    assert!(offer(&mut link, 2_000, 900, false).iter().all(|one| !one.ce));
    assert_eq!((link.stats().ce_marked, link.stats()), (0, dropping.stats()));
}

#[test]
fn a_queue_longer_than_the_threshold_marks_those_that_join_it() {
    let what = Impairments { codel: None, mark_above_bytes: Some(3_000), ..managed() };
    let marks = |link: &mut Link<u64>, ect| -> Vec<bool> {
        offer(link, 6, 1, ect).iter().map(|one| one.ce).collect()
    };
    let mut link = Link::new(what.clone(), 1);
    // Each finds as many thousand bytes as there are before it.
    assert_eq!(marks(&mut link, true), [false, false, false, false, true, true]);
    assert_eq!(link.stats().ce_marked, 2);
    assert_eq!(marks(&mut Link::new(what.clone(), 1), false), [false; 6]);

    let mut link = Link::new(Impairments { ecn_bleach: true, ..what }, 1);
    assert_eq!(marks(&mut link, true), [false; 6]);
    assert_eq!((link.stats().ce_marked, link.stats().ce_bleached), (2, 2));
}

#[test]
fn the_queue_limit_counts_what_codel_has_not_decided_on() {
    let mut link = Link::new(Impairments { queue_bytes: Some(5_500), ..managed() }, 1);
    let arrived = offer(&mut link, 10, 1, false);
    let tags: Vec<_> = arrived.iter().map(|one| one.tag).collect();
    assert_eq!(tags, [0, 1, 2, 3, 4]);
    assert_eq!((link.stats().queue_dropped, link.stats().queue_bytes_max), (5, 5_000));
}

#[test]
fn the_policer_drops_what_exceeds_it_and_delays_nothing() {
    let policer = Policer { rate_bit_per_s: 4_000_000, bucket_bytes: 10_000 };
    let mut link =
        Link::new(Impairments { policer: Some(policer), delay: ms(10), ..Impairments::default() }, 1);
    let arrived = offer(&mut link, 10_000, 1_000, false); // twice its rate
    assert_eq!(arrived.len(), 5_009); // half of them, and the bucket
    assert_eq!(link.stats().policed, 10_000 - 5_009);
    assert!(arrived.iter().all(|one| one.due == at_ms(one.tag + 10)));
}

#[test]
fn a_managed_link_gives_the_same_fates_however_often_it_is_polled() {
    let what = |delay| Impairments {
        rate_bit_per_s: Some(1_200_000),
        queue_bytes: None,
        codel: Some(Codel { ecn: true, ..Codel::default() }),
        policer: Some(Policer { rate_bit_per_s: 1_300_000, bucket_bytes: 5_000 }),
        mark_above_bytes: Some(15_000),
        delay,
        ..everything()
    };
    for delay in [ms(20), Duration::ZERO] {
        let (arrived, stats) = fates(what(delay), 14, true);
        assert!((arrived, stats.clone()) == fates(what(delay), 14, false));
        assert!(stats.aqm_dropped > 10 && stats.policed > 10 && stats.ce_marked > 10, "{stats:?}");
    }
}

#[test]
fn switching_codel_off_lets_what_waits_go_in_order() {
    let mut link = Link::new(managed(), 1);
    for k in 0..5 {
        link.push(Time::ZERO, k, &[7; 1_000]);
    }
    link.set_impairments(Impairments { codel: None, ..managed() });
    link.push(Time::ZERO, 5, &[7; 1_000]);
    let due: Vec<_> = drain(&mut link).iter().map(|one| (one.0, one.1.as_millis())).collect();
    assert_eq!(due, [(0, 11), (1, 12), (2, 13), (3, 14), (4, 15), (5, 16)]);
}
