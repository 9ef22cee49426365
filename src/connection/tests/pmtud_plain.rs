//! Path-MTU discovery towards peers without our extension, and on paths that carry less than 1,200 bytes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use super::pmtud::link;
use super::solo::{Peer, Solo};
use crate::connection::{Config, IntegrityMode};
use crate::emulator::Impairments;
use crate::wire::{Flags, SackBuffer, Segment};

const MINUTE: Duration = Duration::from_secs(60);

/// [`link`] with IP headers counted: `mtu` is that of IPv4 packets.
fn ip_link(mtu: usize) -> Impairments {
    Impairments { overhead_bytes: 28, ..link(mtu) }
}

fn plain() -> Config {
    Config { integrity: IntegrityMode::Off, ..Config::default() }
}

/// Data flows from the listener: towards a plain peer its own MSS would keep the other side at 1,200 bytes.
fn flowing(config: &Config, ba: Impairments, bytes: usize) -> Pair {
    let mut pair = Pair::new(config, link(1500), ba, 11);
    pair.b.to_write = pattern(bytes, 3);
    pair
}

fn size_in_use(pair: &mut Pair) -> usize {
    pair.b.conn().stats().max_datagram as usize
}

#[test]
fn datagrams_to_a_plain_peer_grow_to_what_the_path_carries() {
    for (mtu, range) in [(1472, 1472..=1472), (1300, 1284..=1300), (1230, 1214..=1230)] {
        let mut pair = flowing(&plain(), link(mtu), 24 << 20);
        pair.run_for(ms(20_000));
        let size = size_in_use(&mut pair);
        assert!(range.contains(&size), "{size} of {mtu}");
        let stats = pair.b.conn().stats();
        assert_eq!(stats.rto_count, 0, "{mtu}");
        pair.run_to_end(MINUTE);
        pair.assert_exact();
    }
}

#[test]
fn datagrams_to_a_plain_peer_never_exceed_its_mss() {
    let small = Config { max_receive_datagram: 1300, ..plain() };
    let mut pair = Pair::with(&small, &plain(), link(1500), link(1500), 5);
    pair.b.to_write = pattern(4 << 20, 1);
    let longest = Rc::new(RefCell::new(0));
    let log = Rc::clone(&longest);
    pair.filter = Box::new(move |from_a, _, datagram| {
        let len = if from_a { 0 } else { datagram.len() };
        log.replace_with(|longest| len.max(*longest));
        true
    });
    pair.run_to_end(MINUTE);
    pair.assert_exact();
    assert_eq!(*longest.borrow(), 1300);
}

/// A connection to a plain peer whose probe is out: its first byte and its length.
fn probing(peer: Peer) -> (Solo, Option<(i64, i64)>) {
    let mut solo = Solo::client(&Config::default(), peer);
    let data = pattern(20_000, 1);
    solo.conn.write(solo.now, &data).unwrap();
    solo.output();
    solo.now += ms(20);
    let mut sent = solo.gets_ack();
    solo.conn.handle_timeout(solo.now);
    sent.extend(solo.output());
    let una = solo.una(0);
    let probe = sent.iter().map(|s| (s.bytes(), s.segment())).find(|(_, s)| s.seq.delta(una) < 0);
    let probe = probe.map(|(datagram, s)| {
        assert_eq!(datagram.len(), 1452, "what this peer announces");
        assert_eq!(s.seq + s.payload.len() as u32, una, "up to SND.UNA");
        let at = s.seq.delta(solo.conn.identity().iss) as usize - 1;
        assert!(s.payload == &data[at..at + s.payload.len()], "the true bytes");
        (i64::from(s.seq.delta(una)), s.payload.len() as i64)
    });
    (solo, probe)
}

fn dsack(solo: &mut Solo, start: i64, end: i64) {
    let mut blocks = SackBuffer::default();
    blocks.push(solo.una(start), solo.una(end));
    let una = solo.una(0);
    let mut segment = Segment { ack: una, ..solo.segment() };
    segment.options.sack = blocks.as_blocks();
    solo.gets(&segment);
}

#[test]
fn only_the_dsack_of_just_those_bytes_counts_and_it_is_no_sign_of_reordering() {
    let (mut solo, probe) = probing(Peer::Plain);
    let (start, len) = probe.expect("acknowledged bytes again");
    assert_eq!(len, 1452 - 32);
    let flight = solo.conn.stats().bytes_in_flight;
    for (wrong_start, wrong_end) in [(start - 1, 0), (start + 1, 0), (start, -1), (start - 5, -5)] {
        dsack(&mut solo, wrong_start, wrong_end);
    }
    assert_eq!(solo.conn.stats().max_datagram, 1200);
    let rack = format!("{:?}", solo.conn.snd.rack);
    dsack(&mut solo, start, 0);
    assert_eq!(solo.conn.stats().max_datagram, 1452);
    assert_eq!(format!("{:?}", solo.conn.snd.rack), rack, "nor of a spurious retransmission");
    assert_eq!(solo.conn.stats().bytes_in_flight, flight, "a probe is not in flight");
}

#[test]
fn a_peer_without_sack_is_never_probed() {
    let (mut solo, probe) = probing(Peer::Bare);
    assert_eq!(probe, None);
    let una = solo.una(0);
    for (_, sent) in solo.run(ms(30_000)) {
        assert!(sent.bytes().len() <= 556 && sent.segment().seq.delta(una) >= 0);
    }
}

#[test]
fn without_data_a_plain_peer_is_not_probed_and_nobody_wakes() {
    let mut pair = Pair::connected(&plain());
    pair.run_for(MINUTE);
    for i in 0..20 {
        pair.b.to_write.extend(pattern(100, i));
        pair.run_for(ms(300));
    }
    pair.run_for(MINUTE);
    assert_eq!(pair.b.conn().snd.pmtud.probes(), 0);
    assert_eq!((pair.a.conn().poll_timeout(), pair.b.conn().poll_timeout()), (None, None));
    assert_eq!(pair.b.conn().snd.buffer.memory(), 0, "kept bytes do not outlive the rest");
}

/// L21 of the scenario list: IP packets of 1,500, 1,280, 1,000, 1,400 bytes, and no ICMP.
#[test]
fn an_mtu_that_shrinks_below_the_base_and_grows_again_costs_seconds_and_no_byte() {
    for config in [Config::default(), plain()] {
        let mut pair = flowing(&config, ip_link(1500), 30 << 20);
        let clean = flowing(&config, ip_link(1500), 30 << 20).run_to_end(MINUTE);
        pair.run_for(ms(3000));
        assert_eq!(size_in_use(&mut pair), 1472);
        let mut took = ms(3000);
        for (mtu, rest) in [(1280, ms(11_000)), (1000, ms(11_000)), (1400, ms(0))] {
            pair.ba.set_impairments(ip_link(mtu));
            let before = pair.a.received.len();
            pair.run_for(ms(4000));
            let arrived = pair.a.received.len() - before;
            assert!(arrived > 1_200_000, "{mtu}: {arrived} bytes in four seconds, {:?}", config.integrity);
            pair.run_for(rest);
            took += ms(4000) + rest;
            assert!(size_in_use(&mut pair) + 28 <= mtu, "{mtu}: {}", size_in_use(&mut pair));
        }
        took += pair.run_to_end(2 * MINUTE);
        pair.assert_exact();
        assert!(took < clean + ms(8000), "{took:?}, without holes {clean:?}");
    }
}

/// L25 of the scenario list.
#[test]
fn a_576_byte_path_is_found_out_within_seconds() {
    for config in [Config::default(), plain()] {
        let mut pair = flowing(&config, ip_link(576), 4 << 20);
        pair.run_for(ms(4000));
        assert_eq!(size_in_use(&mut pair), 548, "{:?}", config.integrity);
        let arrived = pair.a.received.len();
        assert!(arrived > 1_000_000, "{arrived} bytes in four seconds");
        pair.run_to_end(MINUTE);
        pair.assert_exact();
    }
}

/// The hole that stalls a kernel: full-size segments vanish, and no message says so.
#[test]
fn a_hole_above_1280_bytes_costs_nothing_worth_mentioning() {
    let fixed = Config { mtu: crate::connection::PathMtu::Fixed(1252), ..Config::default() };
    let best = flowing(&fixed, ip_link(1280), 16 << 20).run_to_end(MINUTE);
    for config in [Config::default(), plain()] {
        let mut pair = flowing(&config, ip_link(1280), 16 << 20);
        let took = pair.run_to_end(MINUTE);
        pair.assert_exact();
        assert!(took < best.mul_f64(1.03), "{took:?}, knowing it beforehand {best:?}");
    }
}

#[test]
fn an_outage_at_the_start_is_not_taken_for_a_small_mtu_for_long() {
    for config in [Config::default(), plain()] {
        let mut pair = flowing(&config, link(1472), 24 << 20);
        pair.run_for(ms(21)); // the handshake
        pair.filter = Box::new(|from_a, _, _| from_a);
        pair.run_for(ms(3000));
        pair.filter = Box::new(|_, _, _| true);
        pair.run_for(ms(12_000));
        assert_eq!(size_in_use(&mut pair), 1472, "{:?}", config.integrity);
    }
}

/// Neither SACK nor our extension: what arrives is all there is to go by.
#[test]
fn a_peer_that_cannot_be_asked_gets_small_datagrams_after_two_timeouts_and_a_trial_later() {
    let mut solo = Solo::opening(&Config::default(), Peer::Bare);
    solo.output();
    solo.now += ms(20);
    let mut syn_ack = solo.syn(Flags::SYN | Flags::ACK);
    syn_ack.options.mss = Some(1460);
    solo.gets_stateless(&syn_ack);
    solo.conn.write(solo.now, &pattern(30_000, 1)).unwrap();
    let sizes: Vec<usize> = solo.run(ms(10_000)).iter().map(|(_, sent)| sent.bytes().len()).collect();
    assert_eq!(sizes.first(), Some(&1200));
    assert!(sizes.last().is_some_and(|size| *size <= 548), "{sizes:?}");
    assert_eq!((solo.conn.stats().rto_count > 2, solo.conn.stats().max_datagram), (true, 548));
    for _ in 0..500 {
        solo.conn.write(solo.now, &pattern(5000, 1)).unwrap();
        solo.output();
        solo.now += ms(20);
        solo.conn.handle_timeout(solo.now);
        solo.gets_ack();
    }
    assert_eq!(solo.conn.stats().max_datagram, 1200);
}

/// The longest time in which not a byte arrived.
fn longest_stall(pair: &mut Pair, duration: Duration) -> Duration {
    let (end, mut since, mut longest) = (pair.now + duration, pair.now, Duration::ZERO);
    let mut received = pair.a.received.len();
    while pair.now < end {
        pair.run_for(ms(5));
        if pair.a.received.len() > received {
            (received, since) = (pair.a.received.len(), pair.now);
        }
        longest = longest.max(pair.now - since);
    }
    longest
}

#[test]
fn a_hole_in_mid_transfer_stalls_for_a_second_and_takes_no_window() {
    // A plain peer's smallest RTO is 200 ms.
    for (config, most) in [(Config::default(), ms(1000)), (plain(), ms(1400))] {
        let mut pair = flowing(&config, ip_link(1500), 40 << 20);
        pair.run_for(ms(10_000));
        assert_eq!(size_in_use(&mut pair), 1472);
        let before = pair.b.conn().stats();
        pair.ba.set_impairments(ip_link(1280));
        let stall = longest_stall(&mut pair, ms(1500));
        assert!(stall < most, "{stall:?} {:?}", config.integrity);
        let arrived = pair.a.received.len();
        pair.run_for(ms(1500));
        let arrived = pair.a.received.len() - arrived;
        assert!(arrived > 1_350_000, "{arrived} bytes at 1 MB/s");
        let after = pair.b.conn().stats();
        assert!(after.rto_count > before.rto_count && after.max_datagram < 1472);
        assert!(
            after.ssthresh.saturating_mul(10) > before.ssthresh.saturating_mul(9).saturating_sub(1),
            "{before:?} {after:?}"
        );
        assert!(after.cwnd * 10 > before.cwnd * 6, "{before:?} {after:?}");
    }
}
