//! Path-MTU discovery: the search, the black hole, and when neither has anything to do.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Solo, emit};
use crate::connection::{Algorithm, Config, PathMtu};
use crate::emulator::Impairments;
use crate::wire::{Extension, Integrity, Segment, crc_ok, ext_flags};

const MINUTE: Duration = Duration::from_secs(60);

/// 10 ms each way at 8 Mbit/s; datagrams above `mtu` vanish.
pub(super) fn link(mtu: usize) -> Impairments {
    Impairments {
        delay: ms(10),
        rate_bit_per_s: Some(8_000_000),
        queue_bytes: Some(60_000),
        mtu: Some(mtu),
        ..Impairments::default()
    }
}

/// Data flows from a to b for long: `bytes` of it.
fn flowing(config: &Config, ab: Impairments, bytes: usize) -> Pair {
    let mut pair = Pair::new(config, ab, link(1500), 11);
    pair.a.to_write = pattern(bytes, 3);
    pair
}

/// Sizes of the PROBEs that leave, and of the longest other datagram.
fn watch(pair: &mut Pair) -> Rc<RefCell<(Vec<usize>, usize)>> {
    let seen = Rc::new(RefCell::new((vec![], 0)));
    let log = Rc::clone(&seen);
    pair.filter = Box::new(move |_, _, datagram| {
        let segment = Segment::parse(datagram).expect("what we send parses");
        let is_probe = |ext: Extension<'_>| ext.flags & ext_flags::PROBE != 0;
        let mut log = log.borrow_mut();
        if segment.is_probe_or_echo() && segment.options.ext.is_some_and(is_probe) {
            log.0.push(datagram.len());
        } else {
            log.1 = log.1.max(datagram.len());
        }
        true
    });
    seen
}

fn size_of_a(pair: &mut Pair) -> u64 {
    pair.a.conn().stats().max_datagram
}

#[test]
fn a_clean_path_carries_1472_bytes_within_a_second() {
    let mut pair = flowing(&Config::default(), link(1472), 8 << 20);
    let seen = watch(&mut pair);
    pair.run_for(ms(1000));
    assert_eq!(size_of_a(&mut pair), 1472);
    assert_eq!(*seen.borrow(), (vec![1472], 1472), "one PROBE is enough, and data follows");
    pair.run_to_end(MINUTE);
    pair.assert_exact();
}

#[test]
fn the_search_comes_within_16_bytes_of_what_the_path_carries() {
    for mtu in [1216, 1280, 1392, 1464] {
        let mut pair = flowing(&Config::default(), link(mtu), 24 << 20);
        let seen = watch(&mut pair);
        pair.run_for(ms(20_000));
        let size = size_of_a(&mut pair) as usize;
        assert!(size <= mtu && size + 16 >= mtu, "{size} of {mtu}");
        let (probes, longest) = seen.borrow().clone();
        assert_eq!(longest, size, "{mtu}: nothing but PROBEs was larger");
        assert!(probes.len() <= 16, "{mtu}: {probes:?}");
    }
}

#[test]
fn a_search_ends_at_what_the_peer_announces() {
    let small = Config { max_receive_datagram: 1300, ..Config::default() };
    let mut pair = Pair::with(&Config::default(), &small, link(1500), link(1500), 5);
    pair.a.to_write = pattern(2 << 20, 1);
    let seen = watch(&mut pair);
    pair.run_to_end(MINUTE);
    pair.assert_exact();
    assert_eq!(*seen.borrow(), (vec![1300], 1300));
}

#[test]
fn loss_both_ways_is_not_taken_for_a_small_mtu() {
    let size = |seed| {
        let lossy = Impairments { loss: 0.2, ..link(1472) };
        let mut pair = Pair::new(&Config::default(), lossy.clone(), lossy, seed);
        pair.a.to_write = pattern(24 << 20, 3);
        pair.run_for(ms(15_000));
        size_of_a(&mut pair)
    };
    let sizes: Vec<_> = (0..10).map(size).collect();
    // One verdict in a hundred may be wrong where all probes of a size are lost by chance, and costs the last step of the search.
    assert!(sizes.iter().all(|size| *size >= 1400), "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size == 1472).count() >= 9, "{sizes:?}");
}

#[test]
fn an_outage_during_the_search_says_nothing_of_sizes() {
    let mut pair = flowing(&Config::default(), link(1472), 24 << 20);
    let dead = Rc::new(RefCell::new(false));
    let is_dead = Rc::clone(&dead);
    pair.filter = Box::new(move |_, index, datagram| {
        // From the first PROBE on the link is dead.
        let mut dead = is_dead.borrow_mut();
        *dead |= index > 2 && datagram.len() == 1472;
        !*dead
    });
    pair.run_for(MINUTE);
    assert_eq!(size_of_a(&mut pair), 1200);
    pair.filter = Box::new(|_, _, _| true);
    pair.run_for(ms(10_000));
    assert_eq!(size_of_a(&mut pair), 1472);
}

#[test]
fn an_mtu_that_shrinks_twice_in_mid_transfer_costs_seconds_and_no_byte() {
    let bytes = 20 << 20;
    let clean = flowing(&Config::default(), link(1472), bytes).run_to_end(MINUTE);
    let mut pair = flowing(&Config::default(), link(1472), bytes);
    pair.run_for(ms(1500));
    assert_eq!(size_of_a(&mut pair), 1472);
    pair.ab.set_impairments(link(1300));
    pair.run_for(ms(1000));
    assert_eq!(size_of_a(&mut pair), 1200, "back to the base first");
    let before = pair.b.received.len();
    pair.run_for(ms(500));
    assert!(pair.b.received.len() > before + 300_000, "at full speed again");
    pair.run_for(ms(13_000));
    assert!((1284..=1300).contains(&size_of_a(&mut pair)), "then to what passes");
    pair.ab.set_impairments(link(1200));
    pair.run_for(ms(1000));
    assert_eq!(size_of_a(&mut pair), 1200);
    let took = ms(17_000) + pair.run_to_end(MINUTE);
    pair.assert_exact();
    assert!(took < clean + ms(3000), "{took:?}, without a hole {clean:?}");
}

#[test]
fn one_large_message_into_a_hole_arrives_in_small_pieces() {
    let mut pair = flowing(&Config::default(), link(1472), 1 << 20);
    pair.a.finish_when_written = false;
    pair.run_for(ms(2000));
    assert_eq!((pair.b.received.len(), size_of_a(&mut pair)), (1 << 20, 1472));
    pair.ab.set_impairments(link(1200));
    pair.a.to_write.extend(pattern(1432, 9));
    pair.a.finish_when_written = true;
    pair.b.finish_when_written = true;
    let took = pair.run_to_end(MINUTE);
    pair.assert_exact();
    assert!(took < ms(1500), "{took:?}");
}

#[test]
fn small_segments_that_arrive_give_a_black_hole_away_without_a_timeout() {
    let window = Algorithm::Fixed { window: 50_000 }; // leaves room for them beside what is lost
    let mut pair = flowing(&Config { algorithm: window, ..Config::default() }, link(1472), 1 << 20);
    pair.a.finish_when_written = false;
    pair.run_for(ms(2000));
    pair.ab.set_impairments(link(1200));
    pair.a.to_write.extend(pattern(1432, 9));
    for i in 0..50 {
        pair.run_for(ms(20));
        pair.a.to_write.extend(pattern(100, i));
    }
    pair.run_for(ms(100));
    assert_eq!(size_of_a(&mut pair), 1200);
    assert_eq!(pair.a.conn().stats().rto_count, 0);
    assert!(pair.b.received == pair.a.to_write);
}

#[test]
fn an_outage_is_no_black_hole() {
    let mut pair = flowing(&Config::default(), link(1472), 10 << 20);
    pair.run_for(ms(1000));
    for i in 0..5 {
        pair.filter = Box::new(|_, _, _| false);
        pair.run_for(ms(100 + 700 * i));
        pair.filter = Box::new(|_, _, _| true);
        pair.run_for(ms(500));
        assert_eq!(size_of_a(&mut pair), 1472, "outage {i}");
    }
    pair.run_to_end(MINUTE);
    pair.assert_exact();
}

#[test]
fn after_a_hole_that_is_gone_the_size_comes_back() {
    let mut pair = flowing(&Config::default(), link(1472), 24 << 20);
    pair.run_for(ms(1000));
    pair.ab.set_impairments(link(1200));
    pair.run_for(ms(2000));
    assert_eq!(size_of_a(&mut pair), 1200);
    pair.ab.set_impairments(link(1472));
    pair.run_for(ms(4000));
    assert_eq!(size_of_a(&mut pair), 1472);
}

#[test]
fn without_data_and_with_little_nothing_is_probed_and_nobody_wakes() {
    let mut pair = Pair::connected(&Config::default());
    let seen = watch(&mut pair);
    pair.run_for(MINUTE);
    for i in 0..20 {
        pair.a.to_write.extend(pattern(100, i));
        pair.run_for(ms(300));
    }
    pair.run_for(MINUTE);
    assert_eq!(seen.borrow().0, []);
    assert_eq!(pair.a.conn().poll_timeout(), None);
    assert_eq!(pair.b.conn().poll_timeout(), None);
}

#[test]
fn an_unfinished_search_sleeps_with_its_connection_and_goes_on_with_the_data() {
    let mut pair = flowing(&Config::default(), link(1400), 1 << 20);
    pair.a.finish_when_written = false;
    let seen = watch(&mut pair);
    pair.run_for(MINUTE);
    assert_eq!(pair.a.conn().poll_timeout(), None, "idle with a PROBE unanswered");
    let before = seen.borrow().0.len();
    assert!(before > 0);
    pair.a.to_write.extend(pattern(24 << 20, 7));
    pair.run_for(ms(18_000));
    assert!((1384..=1400).contains(&size_of_a(&mut pair)), "{}", size_of_a(&mut pair));
    pair.run_for(MINUTE);
    assert_eq!(pair.a.conn().poll_timeout(), None, "idle with the search finished");
    assert!(pair.b.received == pair.a.to_write);
}

#[test]
fn the_search_is_repeated_after_ten_minutes_of_data() {
    // Slow enough for ten minutes.
    let slow = Impairments { rate_bit_per_s: Some(300_000), queue_bytes: Some(20_000), ..link(1300) };
    let mut pair = flowing(&Config::default(), slow.clone(), 30 << 20);
    pair.run_for(MINUTE);
    assert!((1284..=1300).contains(&size_of_a(&mut pair)));
    pair.ab.set_impairments(Impairments { mtu: Some(1472), ..slow });
    pair.run_for(8 * MINUTE);
    assert!(size_of_a(&mut pair) <= 1300);
    pair.run_for(3 * MINUTE);
    assert_eq!(size_of_a(&mut pair), 1472);
}

#[test]
fn a_size_that_was_asked_for_is_used_as_it_is() {
    for size in [600, 1200, 1400] {
        let config = Config { mtu: PathMtu::Fixed(size), ..Config::default() };
        let mut pair = flowing(&config, link(1500), 4 << 20);
        let seen = watch(&mut pair);
        pair.run_to_end(MINUTE);
        pair.assert_exact();
        assert_eq!(*seen.borrow(), (vec![], size));
        assert_eq!(size_of_a(&mut pair), size as u64);
    }
}

/// A connection that has put data into flight, and its PROBE.
fn probing(peer: Peer) -> (Solo, Option<Vec<u8>>) {
    let mut solo = Solo::client(&Config::default(), peer);
    solo.gets_ack();
    solo.conn.write(solo.now, &pattern(5000, 1)).unwrap();
    let mut sent = solo.output();
    solo.conn.handle_timeout(solo.now);
    sent.extend(solo.output());
    let is_probe = |s: &Segment<'_>| s.options.ext.is_some_and(|ext| ext.flags & ext_flags::PROBE != 0);
    let nonce = sent.iter().map(|s| s.segment()).find(is_probe).map(|s| {
        assert_eq!((s.payload.len(), s.seq_len()), (0, 0));
        s.options.ext.unwrap().tail.to_vec()
    });
    (solo, nonce)
}

fn echo(solo: &mut Solo, nonce: &[u8]) {
    let mut segment = Segment { ack: solo.una(0), ..solo.segment() };
    segment.options.ext = Some(Extension { flags: ext_flags::ECHO, tail: nonce });
    solo.gets(&segment);
}

#[test]
fn only_an_echo_with_the_right_nonce_counts_and_it_counts_once() {
    let (mut solo, nonce) = probing(Peer::Extension);
    let nonce = nonce.expect("a PROBE");
    let flight = solo.conn.stats().bytes_in_flight;
    assert_eq!(flight, 5000, "a PROBE takes no sequence space");
    for wrong in 0..64 {
        let mut forged = nonce.clone();
        forged[wrong / 8] ^= 1 << (wrong % 8);
        echo(&mut solo, &forged);
    }
    echo(&mut solo, &[0; 8]);
    echo(&mut solo, &[]);
    echo(&mut solo, &nonce[..7]);
    assert_eq!(solo.conn.stats().max_datagram, 1200);
    echo(&mut solo, &nonce);
    assert_eq!(solo.conn.stats().max_datagram, 1452, "what this peer announces");
    let (cwnd, mss) = (solo.conn.stats().cwnd, solo.conn.snd.mss);
    echo(&mut solo, &nonce);
    assert_eq!((solo.conn.stats().cwnd, solo.conn.snd.mss), (cwnd, mss));
}

#[test]
fn an_echo_without_the_connections_key_is_not_heard() {
    let (mut solo, nonce) = probing(Peer::Extension);
    let mut segment = solo.segment();
    let nonce = nonce.expect("a PROBE");
    segment.options.ext = Some(Extension { flags: ext_flags::ECHO, tail: &nonce });
    solo.gets_stateless(&segment);
    assert_eq!(solo.conn.stats().max_datagram, 1200);
}

#[test]
fn a_late_echo_of_an_earlier_try_is_as_good() {
    let (mut solo, nonce) = probing(Peer::Extension);
    solo.run(ms(3500));
    echo(&mut solo, &nonce.expect("a PROBE"));
    assert_eq!(solo.conn.stats().max_datagram, 1452);
}

/// Everything that may leave now: the sizes of its rows of datagrams, every datagram of a row checked.
fn rows(solo: &mut Solo) -> Vec<usize> {
    let key = solo.conn.keys.expect("the extension").0;
    let (mut out, mut sizes) = (vec![], vec![]);
    while let Some(transmit) = solo.conn.poll_transmit(solo.now, 4, &mut out) {
        if let Some(size) = transmit.segment_size {
            assert!(out.chunks(size).all(|datagram| crc_ok(datagram, key)));
            sizes.push(size);
        }
        out.clear();
    }
    sizes
}

#[test]
fn rows_are_of_equal_datagrams_before_and_after_each_change() {
    let (mut solo, nonce) = probing(Peer::Extension);
    solo.conn.write(solo.now, &pattern(1 << 20, 2)).unwrap();
    let first = rows(&mut solo);
    assert!(!first.is_empty() && first.iter().all(|size| *size == 1200), "{first:?}");
    echo(&mut solo, &nonce.expect("a PROBE"));
    solo.now += ms(20);
    let (ack, key) = (solo.segment(), solo.conn.keys.unwrap().1);
    let datagram = emit(&ack, Integrity::Crc { key });
    solo.conn.handle_segment(solo.now, &ack, &datagram, false);
    let larger = rows(&mut solo);
    assert!(!larger.is_empty() && larger.iter().all(|size| *size == 1452), "{larger:?}");
    let (una, nxt) = (solo.conn.snd.una, solo.conn.snd.nxt);
    solo.now += ms(300);
    solo.conn.leave_black_hole(solo.now);
    let again = rows(&mut solo);
    assert!(!again.is_empty() && again.iter().all(|size| (600..=1200).contains(size)), "{again:?}");
    assert_eq!((solo.conn.snd.una, solo.conn.snd.nxt), (una, nxt), "the same bytes");
}
