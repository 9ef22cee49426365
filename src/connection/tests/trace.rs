//! What a recorder tells of a connection that it watches.

use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use crate::connection::trace::{Event, Recorder, Recovery, Snapshot};
use crate::connection::{Config, End, State};
use crate::emulator::Impairments;
use crate::time::Time;

/// Runs a transfer from a to b and watches a: every event with the snapshot that told it.
fn watch(pair: &mut Pair, limit: Duration) -> Vec<(Time, Event, Snapshot)> {
    let (mut recorder, mut told) = (Recorder::new(), vec![]);
    let end = pair.now + limit;
    loop {
        pair.settle();
        let snapshot = pair.a.conn().snapshot();
        recorder.observe(pair.now, &snapshot, |event| told.push((pair.now, event, snapshot)));
        if pair.is_over() || !pair.step(end) {
            return told;
        }
    }
}

fn link(loss: f64) -> Impairments {
    Impairments { delay: ms(20), loss, ..Impairments::default() }
}

fn count(told: &[(Time, Event, Snapshot)], is_one: impl Fn(&Event) -> bool) -> usize {
    told.iter().filter(|(_, event, _)| is_one(event)).count()
}

#[test]
fn a_clean_transfer_is_opened_acked_and_closed_and_nothing_is_lost() {
    let mut pair = Pair::new(&Config::default(), link(0.0), link(0.0), 1);
    pair.a.to_write = pattern(300_000, 1);
    let told = watch(&mut pair, ms(60_000));
    pair.assert_exact();
    assert_eq!(told[0].1, Event::Open);
    assert!(count(&told, |e| *e == Event::Ack) > 3 && count(&told, |e| *e == Event::Sent) > 3);
    assert_eq!(count(&told, |e| *e == Event::Closed(End::Orderly)), 1);
    assert_eq!(count(&told, |e| *e == Event::State(State::SynSent)), 1);
    assert_eq!(count(&told, |e| matches!(e, Event::Lost(_) | Event::Timeout | Event::Recovery(_))), 0);
    let last = told.last().unwrap().2;
    assert_eq!((last.snd_una, last.unsent, last.in_flight), (300_002, 0, 0)); // SYN, data, FIN
    assert_eq!((last.delivered, last.controller), (300_000, pair.a.conn().stats().controller));
}

#[test]
fn losses_timeouts_and_recoveries_are_told_with_the_counts_of_the_statistics() {
    let mut pair = Pair::new(&Config::default(), link(0.3), link(0.3), 9);
    pair.a.to_write = pattern(400_000, 2);
    let told = watch(&mut pair, ms(600_000));
    pair.assert_exact();
    let stats = pair.a.conn().stats();
    let lost: u64 = told.iter().map(|(_, e, _)| if let Event::Lost(n) = e { *n } else { 0 }).sum();
    assert_eq!(lost, stats.packets_lost);
    assert_eq!(count(&told, |e| *e == Event::Timeout) as u64, stats.rto_count);
    assert!(stats.rto_count > 0 && lost > 10, "{stats:?}");
    assert!(count(&told, |e| *e == Event::Recovery(Recovery::Timeout)) > 0);
    assert!(count(&told, |e| *e == Event::Recovered) > 0);
}

#[test]
fn progress_is_told_at_most_once_a_millisecond_and_in_the_end_completely() {
    let fast = Impairments { delay: Duration::from_micros(50), ..Impairments::default() };
    let mut pair = Pair::new(&Config::default(), fast.clone(), fast, 3);
    pair.a.to_write = pattern(20_000_000, 3);
    let told = watch(&mut pair, ms(60_000));
    pair.assert_exact();
    let acks: Vec<Time> = told.iter().filter(|(_, e, _)| *e == Event::Ack).map(|(at, ..)| *at).collect();
    assert!(acks.len() > 2 && acks.windows(2).all(|pair| pair[1] - pair[0] >= ms(1)), "{}", acks.len());
}

#[test]
fn a_snapshot_that_says_nothing_new_is_no_event() {
    let mut pair = Pair::new(&Config::default(), link(0.0), link(0.0), 1);
    let snapshot = pair.a.conn().snapshot();
    let (mut recorder, mut told) = (Recorder::new(), 0);
    for at in 0..5 {
        recorder.observe(Time::ZERO + ms(10 * at), &snapshot, |_| told += 1);
    }
    assert_eq!(told, 1, "it was opened, that is all");
}
