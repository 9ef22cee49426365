//! A peer that lies: well-formed segments with a right sum or CRC and any content, in every state.

use super::pair::ms;
use super::solo::{PEERS, Peer, Solo};
use crate::connection::{Config, State};
use crate::emulator::Rng;
use crate::wire::{Extension, Flags, Options, SackBuffer, Segment, SeqNum, Timestamps};

/// Most segments lie near what the connection believes; a few anywhere.
fn near(rng: &mut Rng, base: SeqNum, window: u32) -> SeqNum {
    match rng.below(8) {
        0 => SeqNum::new(rng.next_u64() as u32),
        1 => base - rng.below(3000) as u32,
        2 => base + (1 << 31) - 2 + rng.below(4) as u32,
        3 | 4 => base,
        _ => base + rng.below(u64::from(window.max(2))) as u32,
    }
}

fn flags(rng: &mut Rng) -> Flags {
    match rng.below(16) {
        0 => Flags::SYN,
        1 => Flags::SYN | Flags::ACK,
        2 if rng.below(8) == 0 => Flags::RST,
        3 => Flags::FIN | Flags::ACK,
        4 => Flags::URG | Flags::ACK | Flags::PSH,
        5 => Flags::FIN,
        _ => Flags::ACK,
    }
}

fn deliver_lie(rng: &mut Rng, solo: &mut Solo, blocks: &mut SackBuffer) {
    let honest = solo.segment();
    let flight = (solo.conn.snd.nxt - solo.conn.snd.una) as u32;
    let una = solo.una(0);
    blocks.clear();
    for _ in 0..rng.below(5) * rng.below(2) {
        let left = near(rng, una, flight + 10);
        blocks.push(left, near(rng, left, 5000));
    }
    let timestamps = match rng.below(10) {
        0 => None,
        1 => Some(Timestamps { val: rng.next_u64() as u32, ecr: rng.next_u64() as u32 }),
        _ => honest.options.timestamps.map(|t| Timestamps { ecr: t.ecr - rng.below(3000) as u32, ..t }),
    };
    let payload = vec![rng.next_u64() as u8; rng.below(1400) as usize * rng.below(2) as usize];
    let flags = flags(rng);
    let mut options = Options { timestamps, ..honest.options };
    if flags.contains(Flags::SYN) {
        options.mss = Some(rng.next_u64() as u16);
        options.window_scale = Some(rng.below(256) as u8);
        options.sack_permitted = rng.below(2) == 0;
        options.ext = (rng.below(2) == 0).then(Extension::default);
    } else {
        options.sack = blocks.as_blocks();
    }
    let segment = Segment {
        seq: near(rng, honest.seq, 200_000),
        ack: near(rng, una, flight + 2),
        flags,
        window: if rng.below(4) == 0 { 0 } else { rng.next_u64() as u16 },
        options,
        payload: &payload,
        ..honest
    };
    if flags.intersects(Flags::SYN | Flags::RST) || rng.below(16) == 0 {
        solo.gets_stateless(&segment);
    } else {
        solo.gets(&segment);
    }
}

/// What the application and the clock do meanwhile.
fn live_on(rng: &mut Rng, solo: &mut Solo) {
    let now = solo.now;
    match rng.below(60) {
        0..=9 => drop(solo.conn.write(now, &vec![1; rng.below(20_000) as usize])),
        10..=14 => drop(solo.conn.read(now, &mut vec![0; rng.below(30_000) as usize])),
        15 if rng.below(20) == 0 => solo.conn.finish(now),
        16 if rng.below(40) == 0 => solo.conn.close(now),
        17 if rng.below(40) == 0 => solo.conn.abort(now),
        20..=40 => drop(solo.run(ms(rng.below(40)))),
        41 => drop(solo.run(ms(rng.below(3000)))),
        _ => {}
    }
}

fn begin(rng: &mut Rng) -> Solo {
    let peer = PEERS[rng.below(3) as usize];
    let config = Config {
        send_buffer: 100_000,
        recv_buffer: [3000, 60_000, 1 << 20, 1 << 30][rng.below(4) as usize],
        nodelay: rng.below(2) == 0,
        keepalive: (rng.below(3) == 0).then_some(ms(5000)),
        idle_timeout: (rng.below(8) == 0).then_some(ms(60_000)),
        ..Config::default()
    };
    let mut solo = match rng.below(5) {
        0 => Solo::opening(&config, peer),
        1 => Solo::server(&config, peer),
        _ => Solo::client(&config, peer),
    };
    match rng.below(5) {
        0 => drop(solo.gets_fin()),
        1 => solo.conn.finish(solo.now),
        _ => {}
    }
    solo.output();
    solo
}

#[test]
fn no_segment_in_any_state_breaks_the_books_spins_a_timer_or_takes_memory_without_bound() {
    let mut rng = Rng::new(0x5eed);
    let mut blocks = SackBuffer::default();
    let mut visited = [0u32; State::ALL.len()];
    let mut delivered = 0;
    while delivered < 100_000 {
        let mut solo = begin(&mut rng);
        let limit = solo.conn.rcv.buffer.limit().max(solo.conn.config.recv_buffer);
        for _ in 0..rng.below(400) {
            deliver_lie(&mut rng, &mut solo, &mut blocks);
            live_on(&mut rng, &mut solo);
            delivered += 1;
            let state = solo.conn.state();
            visited[State::ALL.iter().position(|s| *s == state).unwrap()] += 1;
            let memory = solo.conn.rcv.buffer.memory() + solo.conn.snd.buffer.memory();
            assert!(memory <= 2 * (limit + 100_000) + 70_000, "{memory}");
            if state == State::Closed {
                break;
            }
        }
        assert_ends(&mut rng, &mut solo);
    }
    for (state, count) in State::ALL.iter().zip(visited) {
        assert!(count > 20 || *state == State::Listen, "{state:?} was visited {count} times");
    }
}

/// Whatever it has been through: with the peer silent, a connection that wants something ends, and one that
/// does not asks for no timer.
fn assert_ends(rng: &mut Rng, solo: &mut Solo) {
    solo.conn.set_keepalive(solo.now, None);
    solo.conn.set_idle_timeout(solo.now, None);
    if rng.below(2) == 0 {
        solo.conn.close(solo.now);
        solo.run(ms(400_000));
        assert!(solo.conn.is_drained(), "{}", solo.timers());
        assert!(solo.conn.end().is_some());
    } else {
        drop(solo.run(ms(400_000)));
        let left = solo.conn.poll_timeout();
        assert!(left.is_none() || !solo.conn.opening.is_confirmed, "{}", solo.timers());
    }
}

#[test]
fn a_peer_of_tiny_segments_cannot_overfill_the_receive_buffer() {
    for recv_buffer in [20_000, 1 << 20, 1 << 30] {
        let mut solo = Solo::client(&Config { recv_buffer, ..Config::default() }, Peer::Extension);
        let limit = solo.conn.rcv.buffer.limit();
        for _ in 0..40_000 {
            solo.gets_data(b"0123456789");
        }
        let held = solo.conn.readable_bytes();
        assert!(held <= limit + (1 << solo.conn.rcv.shift), "{held} of {limit}");
        assert!(held > limit * 9 / 10, "{held} of {limit}");
    }
}

#[test]
fn an_ack_of_unsent_data_and_sacks_of_nothing_change_nothing() {
    for peer in PEERS {
        let mut solo = Solo::client(&Config::default(), peer);
        solo.conn.write(solo.now, &[1; 5000]).unwrap();
        solo.output();
        let before = solo.conn.stats();
        let mut blocks = SackBuffer::default();
        for (left, right) in [(6000, 9000), (-500, 300), (2000, 1000), (1000, 1000), (0, 1 << 20)] {
            blocks.clear();
            blocks.push(solo.una(left), solo.una(right));
            for ack in [solo.una(0), solo.una(5001), solo.una(1 << 30)] {
                let honest = solo.segment();
                let options = Options { sack: blocks.as_blocks(), ..honest.options };
                solo.gets(&Segment { ack, options, ..honest });
            }
        }
        let after = solo.conn.stats();
        assert_eq!((before.bytes_in_flight, before.cwnd), (after.bytes_in_flight, after.cwnd), "{peer:?}");
        assert_eq!((after.bytes_acked, after.packets_lost), (0, 0));
    }
}

#[test]
fn a_window_that_shrinks_to_nothing_over_data_in_flight_keeps_the_connection_while_the_peer_answers() {
    for peer in PEERS {
        let mut solo = Solo::client(&Config::default(), peer);
        solo.conn.write(solo.now, &[1; 20_000]).unwrap();
        solo.output();
        for _ in 0..300 {
            if !solo.run(ms(1000)).is_empty() {
                let shut = Segment { ack: solo.una(0), window: 0, ..solo.segment() };
                solo.gets(&shut);
            }
        }
        assert_eq!(solo.conn.end(), None, "{peer:?}: it answers (MUST-37)");
        for _ in 0..1000 {
            solo.run(ms(1000));
            let ack = Segment { window: 60_000, ..solo.segment() };
            solo.gets(&ack);
        }
        assert!(solo.conn.is_acked());
    }
}

#[test]
fn a_peer_that_sacks_everything_and_acknowledges_nothing_is_taken_as_reneging() {
    for peer in [Peer::Extension, Peer::Plain] {
        let mut solo = Solo::client(&Config::default(), peer);
        solo.conn.write(solo.now, &[1; 5000]).unwrap();
        solo.output();
        let mut blocks = SackBuffer::default();
        let mss = solo.conn.snd.mss as i64;
        blocks.push(solo.una(mss), solo.una(5000));
        solo.now += ms(20);
        let sacking = Options { sack: blocks.as_blocks(), ..solo.segment().options };
        let all_but_one = Segment { ack: solo.una(0), options: sacking, ..solo.segment() };
        solo.gets(&all_but_one);
        let first = Segment { ack: solo.una(mss), ..solo.segment() };
        solo.gets(&first); // the hole is filled, and what lay beyond it is gone
        let again = solo.run(ms(60_000));
        assert!(again.iter().any(|(_, s)| s.segment().seq == solo.una(0)), "{peer:?}: sent again");
        solo.gets_ack();
        assert!(solo.conn.is_acked());
    }
}
