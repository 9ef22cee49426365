//! Buffers that follow the path and the application: no limit to a fast transfer, no store of stale bytes.

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Solo};
use crate::connection::{Algorithm, Config, PathMtu};
use crate::emulator::Impairments;
use crate::wire::Segment;

/// Large datagrams, so that a minute of test is not spent on headers.
const DATAGRAM: usize = 9000;

fn fixed(window: u64) -> Config {
    Config { algorithm: Algorithm::Fixed { window }, ..Config::default() }
}

fn long_path(rate_mbit: u64, loss: f64) -> Impairments {
    Impairments {
        delay: ms(150),
        loss,
        rate_bit_per_s: Some(rate_mbit * 1_000_000),
        overhead_bytes: 28,
        ..Impairments::default()
    }
}

/// Stream bytes per second that reach the application within `during`, after `settle` from the first SYN.
fn goodput(rate_mbit: u64, loss: f64, settle: u64, during: u64) -> f64 {
    let bdp = rate_mbit * 1_000_000 / 8 * 3 / 10;
    let back = Impairments { delay: ms(150), ..Impairments::default() };
    let mtu = PathMtu::Fixed(DATAGRAM);
    let config = Config { mtu, max_receive_datagram: DATAGRAM, ..fixed(bdp * 11 / 10) };
    let mut pair = Pair::new(&config, long_path(rate_mbit, loss), back, 3);
    let bytes = rate_mbit * (settle + during) * 125;
    pair.a.to_write = pattern(bytes as usize, 1);
    pair.run_for(ms(settle));
    let before = pair.b.received.len();
    pair.run_for(ms(during));
    let after = pair.b.received.len();
    assert!(pair.b.received == pair.a.to_write[..after]);
    (after - before) as f64 / (during as f64 / 1000.0)
}

#[test]
fn the_default_limits_carry_1_gbit_per_s_over_300_ms() {
    let rate = goodput(1000, 0.0, 1600, 400);
    assert!(rate >= 0.98 * 125e6, "{rate}");
}

#[test]
fn the_window_leaves_room_for_what_piles_up_behind_losses() {
    let rate = goodput(100, 0.02, 4000, 3000);
    assert!(rate >= 0.95 * 12.5e6 * 0.98, "{rate}");
}

#[test]
fn the_window_begins_small_and_grows_with_what_is_read() {
    let mut pair = Pair::connected(&fixed(10 << 20));
    pair.b.reads = false;
    pair.a.to_write = pattern(20_000_000, 1);
    pair.run_for(ms(1000));
    assert_eq!(pair.b.conn().rcv.buffer.limit(), 128 << 10, "nobody reads: no stranger raises it");
    assert!(pair.b.conn().readable_bytes() <= 128 << 10);
    assert!(pair.b.conn().rcv.buffer.memory() <= 128 << 10);
    // 10,000 bytes each 100 ms are 2,000 in a round trip.
    for _ in 0..50 {
        let now = pair.now;
        assert_eq!(pair.b.conn().read(now, &mut [0; 10_000]), Ok(10_000));
        pair.run_for(ms(100));
        assert!(pair.b.conn().readable_bytes() <= 128 << 10);
    }
    assert_eq!(pair.b.conn().rcv.buffer.limit(), 128 << 10);
    pair.b.reads = true;
    pair.run_for(ms(1000));
    assert!(pair.b.conn().rcv.buffer.limit() >= 2 << 20, "{}", pair.b.conn().rcv.buffer.limit());
}

#[test]
fn what_waits_to_be_sent_is_bounded_by_the_path_and_not_by_the_limit() {
    let slow = Impairments { delay: ms(20), rate_bit_per_s: Some(1_000_000), ..Impairments::default() };
    let back = Impairments { delay: ms(20), ..Impairments::default() };
    let mut pair = Pair::new(&fixed(20_000), slow, back, 1);
    pair.a.to_write = pattern(10_000_000, 1);
    for _ in 0..50 {
        pair.run_for(ms(100));
        let snd = &pair.a.conn().snd;
        let (flight, unsent) = (snd.nxt - snd.una, snd.buffer.end() - snd.nxt);
        assert!(flight <= 21_000 && unsent <= 128 << 10, "{flight} in flight, {unsent} to be sent");
        assert!(snd.buffer.memory() <= 256 << 10);
        assert!(!pair.a.conn().is_writable(), "the application has filled what there is");
    }
    assert!(pair.b.received.len() > 550_000, "and the link was never idle: {}", pair.b.received.len());
}

#[test]
fn writable_means_a_quarter_of_what_fits() {
    let mut pair = Pair::connected(&fixed(20_000));
    let now = pair.now;
    assert!(pair.a.conn().is_writable());
    assert_eq!(pair.a.conn().write(now, &vec![7; 1 << 20]), Ok(128 << 10));
    assert!(!pair.a.conn().is_writable());
    let mut most = 0;
    while !pair.a.conn().is_writable() {
        most = pair.a.conn().snd.room();
        let end = pair.now + ms(1);
        while pair.step(end) {}
    }
    assert!(most < 32 << 10 && pair.a.conn().snd.room() >= 32 << 10);
    let mut small = Pair::connected(&Config { send_buffer: 64 << 10, ..fixed(20_000) });
    let now = small.now;
    assert_eq!(small.a.conn().write(now, &vec![7; 1 << 20]), Ok(64 << 10), "never beyond the limit");
}

#[test]
fn both_buffers_give_their_memory_back_when_idle() {
    let mut pair = Pair::connected(&Config::default());
    let (a, b) = (pair.a.conn().snd.buffer.memory(), pair.b.conn().rcv.buffer.memory());
    assert_eq!((a, b), (0, 0), "an idle connection has none");
    pair.a.to_write = pattern(5_000_000, 1);
    pair.run_for(ms(3000));
    assert!(pair.b.received == pair.a.to_write);
    assert!(pair.a.conn().snd.buffer.memory() > 0 && pair.b.conn().rcv.buffer.memory() > 0);
    pair.run_for(ms(25_000));
    let (a, b) = (pair.a.conn().snd.buffer.memory(), pair.b.conn().rcv.buffer.memory());
    assert_eq!((a, b), (0, 0));
}

/// At half loss both ways most of what arrives waits behind holes, and the application reads rarely.
#[test]
fn at_half_loss_both_ways_the_window_limits_nobody_after_the_first_second() {
    let link =
        |loss, rate_bit_per_s| Impairments { loss, delay: ms(20), rate_bit_per_s, ..Impairments::default() };
    let rate = Some(100_000_000);
    let mtu = PathMtu::Fixed(DATAGRAM);
    for seed in 1..4 {
        let config = Config { mtu, max_receive_datagram: DATAGRAM, ..fixed(500_000) };
        let mut pair = Pair::new(&config, link(0.0, rate), link(0.0, None), seed);
        pair.a.finish_when_written = false;
        pair.run_for(ms(150)); // the handshake has tests of its own, and may fail here
        pair.ab.set_impairments(link(0.5, rate));
        pair.ba.set_impairments(link(0.5, None));
        pair.a.to_write = pattern(40_000_000, 1);
        pair.run_for(ms(1000));
        let (mut blocked, mut starved) = (0, 0);
        for _ in 0..2000 {
            pair.run_for(ms(1));
            let snd = &pair.a.conn().snd;
            blocked += u32::from(snd.una + snd.wnd < snd.nxt + DATAGRAM as u64);
            starved += u32::from(snd.buffer.end() == snd.nxt);
        }
        assert_eq!((blocked, starved), (0, 0), "of 2000 ms, with seed {seed}");
        let b = pair.b.conn();
        assert!(b.rcv.buffer.limit() <= 8 * b.stats().bytes_received as usize + (128 << 10));
    }
}

#[test]
fn who_leaves_a_hole_makes_us_hold_a_multiple_of_what_was_read_and_no_more() {
    let mut solo = Solo::server(&Config::default(), Peer::Extension);
    let held = |solo: &mut Solo, piece: i64| {
        for at in 0.. {
            solo.now += ms(1);
            let segment = Segment { seq: solo.seq(1 + at * piece), payload: &[7; 1000], ..solo.segment() };
            if solo.conn.rcv.window_end() < solo.conn.rcv.nxt() + 1 + ((at + 1) * piece) as u64 {
                return solo.conn.rcv.buffer.memory();
            }
            solo.gets(&segment);
        }
        unreachable!("the window ends")
    };
    let memory = held(&mut solo, 1000);
    assert!(memory <= 128 << 10, "nothing was read: {memory}");
    let mut solo = Solo::server(&Config::default(), Peer::Extension);
    for _ in 0..100 {
        solo.gets_data(&[1; 1000]);
        let now = solo.now;
        assert_eq!(solo.conn.read(now, &mut [0; 2000]), Ok(1000));
    }
    let _ = held(&mut solo, 1000);
    let limit = solo.conn.rcv.buffer.limit();
    assert!((400_000..=8 * 100_000 + (128 << 10)).contains(&limit), "100,000 bytes were read: {limit}");
}
