//! Windows and ACKs: RFC 9293 3.7.4, 3.8.6, RFC 5681 4.2, RFC 7323 2.

use super::pair::{Pair, ms, pattern};
use super::solo::{PEERS, Peer, Solo, emit};
use crate::connection::{Config, End, Error};
use crate::emulator::Impairments;
use crate::wire::{Flags, Integrity, Segment};

fn stopped_reader(recv_buffer: usize) -> Pair {
    let mut pair = Pair::connected(&Config { recv_buffer, ..Config::default() });
    pair.b.reads = false;
    pair.a.to_write = pattern(3_000_000, 1);
    pair
}

#[test]
fn a_peer_that_stops_reading_for_minutes_is_waited_for_and_asked_ever_more_seldom() {
    let mut pair = stopped_reader(200_000);
    pair.run_for(ms(2000));
    let held = pair.b.conn().readable_bytes();
    assert!((120_000..=201_000).contains(&held), "{held}");
    assert_eq!(pair.a.conn().snd.wnd, 0);
    let before = pair.a.conn().stats().packets_sent;
    pair.run_for(ms(300_000));
    let probes = pair.a.conn().stats().packets_sent - before;
    assert!((40..=75).contains(&probes), "one each 5 s: {probes}");
    assert_eq!(pair.a.conn().end(), None, "MUST-37: it answers, so it lives");
    pair.b.reads = true;
    pair.a.finish_when_written = true;
    pair.b.finish_when_written = true;
    pair.run_to_end(ms(30_000));
    pair.assert_exact();
}

#[test]
fn a_lost_window_update_is_made_up_for_by_the_next_probe() {
    let mut pair = stopped_reader(200_000);
    pair.run_for(ms(2000));
    pair.b.reads = true;
    let until = pair.now + ms(50);
    let mut link = pair.ba.impairments().clone();
    link.blackouts = vec![crate::emulator::Window { from: pair.now, until }];
    pair.ba.set_impairments(link);
    pair.run_for(ms(20_000));
    assert!(pair.b.received == pair.a.to_write);
}

#[test]
fn a_peer_that_no_longer_answers_window_probes_is_given_up_after_the_user_timeout() {
    let mut solo = Solo::client(&Config { user_timeout: ms(30_000), ..Config::default() }, Peer::Plain);
    let shut = Segment { window: 0, ..solo.segment() };
    solo.gets(&shut);
    solo.conn.write(solo.now, b"hello").unwrap();
    let probes = solo.run(ms(40_000));
    assert!(probes.iter().rev().skip(1).all(|(_, s)| s.segment().payload.is_empty()));
    assert!((5..12).contains(&probes.len()), "{}", probes.len());
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::UserTimeout)));
}

#[test]
fn window_probes_back_off_to_a_minute_towards_a_plain_peer_though_it_answers() {
    let mut solo = Solo::client(&Config::default(), Peer::Plain);
    let shut = Segment { window: 0, ..solo.segment() };
    solo.gets(&shut);
    solo.conn.write(solo.now, b"hello").unwrap();
    let mut at = vec![];
    for _ in 0..600 {
        let sent = solo.run(ms(1000));
        at.extend(sent.iter().map(|(t, _)| t.as_millis()));
        if !sent.is_empty() {
            let shut = Segment { window: 0, ..solo.segment() };
            solo.gets(&shut);
        }
    }
    let gaps: Vec<u64> = at.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(gaps.last(), Some(&60_000), "{gaps:?}");
    assert!(gaps.windows(2).all(|w| w[1] >= w[0]));
    assert_eq!(solo.conn.end(), None);
}

#[test]
fn the_window_is_that_of_the_ack_that_tells_most_though_what_it_came_with_was_sent_again() {
    for peer in PEERS {
        let mut solo = Solo::client(&Config::default(), peer);
        solo.conn.write(solo.now, &pattern(5_000, 1)).unwrap();
        let before = solo.segment();
        assert!(!solo.output().is_empty());
        // What follows a lost segment, then that one again: by now our bytes have arrived, and nobody reads them.
        solo.gets(&Segment { seq: solo.seq(5), payload: b"later", ..before });
        let again = Segment { window: 3, payload: b"first", ..solo.segment() };
        solo.gets(&again);
        assert!(solo.conn.is_acked() && solo.conn.readable_bytes() == 10);
        let window = 3 << solo.conn.snd.shift;
        solo.conn.write(solo.now, &pattern(50_000, 1)).unwrap();
        let sent: usize = solo.output().iter().map(|s| s.segment().payload.len()).sum();
        assert!(sent <= window, "{peer:?}: {sent} bytes into a window of {window}");
    }
}

#[test]
fn a_bare_fin_is_taken_though_the_window_is_shut() {
    let mut pair = Pair::connected(&Config { recv_buffer: 60_000, ..Config::default() });
    pair.b.reads = false;
    pair.a.to_write = pattern(60_000, 1);
    pair.run_for(ms(500));
    let now = pair.now;
    pair.a.conn().finish(now);
    pair.run_for(ms(500_000));
    assert!(pair.a.conn().is_acked(), "{:?}", pair.a.conn().end());
}

#[test]
fn the_window_grows_with_the_path_up_to_the_configured_maximum() {
    let link = Impairments { delay: ms(50), ..Impairments::default() };
    let mut pair = Pair::new(&Config { recv_buffer: 4 << 20, ..Config::default() }, link.clone(), link, 2);
    pair.a.to_write = pattern(30_000_000, 1);
    let took = pair.run_to_end(ms(60_000));
    pair.assert_exact();
    assert_eq!(pair.b.conn().rcv.buffer.limit(), 4 << 20);
    assert!(took < ms(4000), "30 MB in 4 MiB windows of 100 ms: {took:?}");
    let mut idle = Pair::connected(&Config::default());
    assert_eq!(idle.b.conn().rcv.buffer.limit(), 128 << 10, "no need, no growth");
}

#[test]
fn the_window_stays_what_the_scaled_field_says_and_never_retreats() {
    for peer in PEERS {
        let mut solo = Solo::client(&Config { recv_buffer: 1 << 20, ..Config::default() }, peer);
        let shift = solo.conn.rcv.shift;
        let mut edge = 0;
        for i in 0..2000 {
            let answers = solo.gets_data(&[7; 333]);
            if i % 5 == 0 {
                let _ = solo.conn.read(solo.now, &mut [0; 1500]);
            }
            for ack in answers {
                let ack = ack.segment();
                let acked = solo.conn.rcv.space.unwrap(ack.ack, solo.conn.rcv.nxt()).unwrap();
                let right = acked + (u64::from(ack.window) << shift);
                assert!(right + (1 << shift) > edge, "{right} after {edge}");
                assert!(right <= solo.conn.rcv.buffer.edge());
                edge = edge.max(right);
            }
        }
    }
}

#[test]
fn acks_come_at_once_in_the_beginning_then_for_every_second_segment_and_after_a_delay() {
    for peer in [Peer::Extension, Peer::Plain] {
        let mut solo = Solo::client(&Config::default(), peer);
        let full = vec![7; solo.conn.snd.mss];
        for _ in 0..20 {
            assert_eq!(solo.gets_data(&full).len(), 1);
        }
        for _ in 0..20 {
            assert_eq!(solo.gets_data(&full).len(), 0);
            assert_eq!(solo.gets_data(&full).len(), 1);
        }
        assert_eq!(solo.gets_data(b"a little").len(), 0);
        let late = solo.run(ms(1000));
        assert_eq!(late.len(), 1);
        assert!(solo.now - late[0].0 >= ms(970), "within 25 ms (MUST-40: 500)");
    }
}

#[test]
fn a_batch_that_one_call_received_is_acknowledged_once() {
    let mut solo = Solo::client(&Config::default(), Peer::Extension);
    let full = vec![7; solo.conn.snd.mss];
    let (_, key) = solo.conn.keys.unwrap();
    for _ in 0..44 {
        let datagram = emit(&Segment { payload: &full, ..solo.segment() }, Integrity::Crc { key });
        let segment = Segment::parse(&datagram).unwrap();
        solo.conn.handle_segment(solo.now, &segment, &datagram, false);
    }
    let acks = solo.output();
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0].segment().ack, solo.seq(0));
}

#[test]
fn an_ack_rides_on_data_that_leaves_anyway() {
    let mut solo = Solo::client(&Config::default(), Peer::Plain);
    let segment = Segment { payload: b"question", ..solo.segment() };
    solo.conn.write(solo.now, b"answer").unwrap();
    let sent = solo.gets(&segment);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].segment().payload, sent[0].segment().ack), (&b"answer"[..], solo.seq(0)));
    assert!(solo.gets_ack().is_empty(), "an ACK is not acknowledged");
}

#[test]
fn nagle_holds_a_small_segment_until_the_one_before_is_acknowledged() {
    for (nodelay, at_once) in [(false, 1), (true, 3)] {
        let mut solo = Solo::client(&Config { nodelay, ..Config::default() }, Peer::Plain);
        solo.output();
        let mut sent = 0;
        for _ in 0..3 {
            solo.conn.write(solo.now, b"tiny").unwrap();
            sent += solo.output().len();
        }
        assert_eq!(sent, at_once);
        solo.now += ms(20);
        let rest = solo.gets_ack();
        assert_eq!(rest.len(), usize::from(!nodelay));
        assert!(nodelay || rest[0].segment().payload == b"tinytiny", "collected into one");
    }
}

#[test]
fn a_window_that_opens_by_a_sliver_is_not_filled_with_one() {
    let mut solo = Solo::client(&Config::default(), Peer::Plain);
    let mss = solo.conn.snd.mss;
    solo.conn.write(solo.now, &vec![1; 8 * mss]).unwrap();
    solo.output();
    solo.conn.write(solo.now, &vec![1; 8 * mss]).unwrap();
    // Half is acknowledged, and the window reaches 128 bytes beyond what was sent.
    let rest = 4 * mss as u32;
    let sliver =
        Segment { ack: solo.una(4 * mss as i64), window: ((rest + 128) >> 7) as u16, ..solo.segment() };
    let sent = solo.gets(&sliver);
    assert!(sent.iter().all(|s| s.segment().payload.len() >= mss), "sender's silly-window avoidance");
}

#[test]
fn the_reader_of_single_bytes_does_not_cause_a_window_update_each() {
    let mut solo = Solo::client(&Config { recv_buffer: 60_000, ..Config::default() }, Peer::Plain);
    for _ in 0..55 {
        solo.gets_data(&[7; 1100]);
    }
    assert_eq!(solo.conn.readable_bytes(), 60_000);
    solo.run(ms(100));
    let mut updates = 0;
    for _ in 0..60_000 {
        solo.conn.read(solo.now, &mut [0]).unwrap();
        updates += solo.output().len();
    }
    assert!((3..=6).contains(&updates), "receiver's silly-window avoidance: {updates}");
}

#[test]
fn the_last_byte_written_is_pushed() {
    let mut solo = Solo::client(&Config::default(), Peer::Plain);
    solo.conn.write(solo.now, &[1; 3000]).unwrap();
    let sent = solo.output();
    let pushed: Vec<bool> = sent.iter().map(|s| s.segment().flags.contains(Flags::PSH)).collect();
    assert_eq!(pushed, [false, false, true]);
}
