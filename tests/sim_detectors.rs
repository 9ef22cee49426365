//! Controls: the simulations would notice what they are there to notice.

mod sim;

use rtcp::connection::{Config, IntegrityMode};
use rtcp::emulator::Impairments;
use rtcp::wire::Segment;
use sim::app::Plan;
use sim::{CLIENT, Fate, World, clean, ms, pattern, seconds};

/// The worst of newudpl's settings: 3 bit errors in 100,000, UDP checksums made right again.
fn noisy() -> Impairments {
    Impairments { bit_error_rate: 3e-5, ..clean(ms(5)) }
}

/// How many of `transfers` brought a wrong byte, and how many damaged datagrams there were.
fn transfers_with_wrong_bytes(integrity: IntegrityMode, transfers: u64) -> (usize, u64) {
    let config = Config { integrity, connect_timeout: seconds(120), ..Config::default() };
    let (mut wrong, mut damaged) = (0, 0);
    for seed in 0..transfers {
        let mut world = World::simple(&config, [noisy(), clean(ms(5))], seed);
        let plan = Plan::eager(1_000_000, 1_000, seed);
        world.begin(&config, 0, plan.clone(), plan.mirrored());
        world.run_until(seconds(120), World::is_over);
        wrong += usize::from(world.apps().any(|app| app.wrong.is_some()));
        damaged += world.links[CLIENT].stats().corrupted;
        if integrity == IntegrityMode::Require {
            world.assert_exact();
        }
    }
    (wrong, damaged)
}

#[test]
fn without_the_crc_bit_errors_become_wrong_bytes_and_the_test_sees_them() {
    let (wrong, damaged) = transfers_with_wrong_bytes(IntegrityMode::Off, 20);
    assert!(damaged > 4_000 && wrong > 0, "{wrong} transfers, {damaged} damaged datagrams");
}

#[test]
fn with_the_crc_bit_errors_become_losses() {
    let (wrong, damaged) = transfers_with_wrong_bytes(IntegrityMode::Require, 60);
    assert!(damaged > 12_000 && wrong == 0, "{wrong} transfers, {damaged} damaged datagrams");
}

#[test]
fn a_hang_is_seen_when_no_retransmission_ever_arrives() {
    let config = Config::default();
    let mut world = World::simple(&config, [clean(ms(5)), clean(ms(5))], 1);
    let mut highest = None;
    let mut dropped_one = false;
    world.tap = Some(Box::new(move |from, _, bytes| {
        let segment = Segment::parse(bytes).expect("a segment of ours");
        if from != CLIENT || segment.payload.is_empty() {
            return Fate::Pass;
        }
        let is_new = highest.is_none_or(|highest| segment.seq.after(highest));
        if is_new {
            highest = Some(segment.seq);
        }
        if is_new && (dropped_one || segment.payload.len() < 500) {
            return Fate::Pass;
        }
        dropped_one = true;
        Fate::Drop
    }));
    let plan = Plan::eager(50_000, 0, 1);
    world.begin(&config, 0, plan.clone(), plan.mirrored());
    assert_eq!(world.run_until(seconds(60), World::is_over), None);
}

#[test]
fn a_byte_lost_doubled_swapped_or_from_another_stream_changes_the_pattern() {
    let bytes = |salt, at, len: usize| {
        let mut out = vec![0; len];
        pattern::fill(salt, at, &mut out);
        out
    };
    let whole = bytes(7, 0, 100_000);
    for at in [1, 7, 8, 9, 1_160, 65_536, 99_000] {
        assert_eq!(whole[at..at + 777], bytes(7, at as u64, 777), "it depends on the position alone");
    }
    for shift in 1..2_000 {
        assert_ne!(whole[..64], whole[shift..shift + 64], "shifted by {shift}");
    }
    assert_ne!(whole[..64], bytes(!7, 0, 64));
    assert_ne!(whole[..64], bytes(8, 0, 64));
}
