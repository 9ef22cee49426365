//! Forged, stale and stray segments: RFC 5961, RFC 7323 5 (PAWS), RFC 9293 3.10.7.4.

use super::pair::ms;
use super::solo::{PEERS, Peer, Solo};
use crate::connection::{Config, End, Error, State};
use crate::wire::{Extension, Flags, Options, Segment, SeqNum, ext_flags};

fn client(peer: Peer) -> Solo {
    let mut solo = Solo::client(&Config::default(), peer);
    solo.gets_data(b"0123456789");
    solo
}

#[test]
fn without_the_key_only_an_rst_at_rcv_nxt_resets_one_in_the_window_is_challenged() {
    for peer in PEERS {
        for offset in [-1, 1, 1000, 60_000, -100_000, 1 << 30] {
            let mut solo = client(peer);
            let rst = Segment {
                flags: Flags::RST,
                seq: solo.seq(offset),
                options: Options::default(),
                ..solo.segment()
            };
            let answer = solo.gets_stateless(&rst);
            assert_eq!(solo.conn.state(), State::Established, "{peer:?} {offset}");
            let in_window = (0..=60_000).contains(&offset);
            assert_eq!(answer.len(), usize::from(in_window), "{peer:?} {offset}");
            assert!(answer.iter().all(|s| s.segment().flags == Flags::ACK));
        }
        let mut solo = client(peer);
        let rst = Segment { flags: Flags::RST, options: Options::default(), ..solo.segment() };
        assert!(solo.gets_stateless(&rst).is_empty(), "an RST is never answered");
        assert_eq!(solo.conn.end(), Some(End::Failed(Error::Reset)));
        assert!(solo.conn.is_readable() && solo.conn.readable_bytes() == 10, "what came before can be read");
    }
}

#[test]
fn with_the_key_an_rst_counts_anywhere_in_the_window_and_nowhere_else() {
    for (offset, resets) in [(-1, false), (0, true), (1000, true), (1 << 30, false)] {
        let mut solo = client(Peer::Extension);
        let rst = Segment { flags: Flags::RST, seq: solo.seq(offset), ..solo.segment() };
        solo.gets(&rst);
        assert_eq!(solo.conn.state() == State::Closed, resets, "{offset}");
    }
}

#[test]
fn challenges_are_bounded_in_number() {
    for peer in PEERS {
        let mut solo = client(peer);
        let rst =
            Segment { flags: Flags::RST, seq: solo.seq(500), options: Options::default(), ..solo.segment() };
        let answers: usize = (0..10_000).map(|_| solo.gets_stateless(&rst).len()).sum();
        assert!((1..=12).contains(&answers), "{answers}");
    }
}

#[test]
fn a_syn_on_a_synchronized_connection_is_challenged_with_and_without_options() {
    for peer in PEERS {
        for seq in [0, 1, 500, -70_000, 1 << 30] {
            let mut solo = client(peer);
            let syn = Segment { seq: solo.seq(seq), ..solo.syn(Flags::SYN) };
            for syn in [syn, Segment { options: Options::default(), ..syn }] {
                let answer = solo.gets_stateless(&syn);
                assert_eq!(answer.len(), 1, "{peer:?} {seq}");
                assert_eq!(answer[0].segment().flags, Flags::ACK);
                assert_eq!(answer[0].segment().ack, solo.seq(0));
                assert_eq!(solo.conn.state(), State::Established);
            }
        }
    }
}

#[test]
fn an_extension_connection_drops_data_without_its_key() {
    let mut solo = client(Peer::Extension);
    let forged = Segment { payload: b"evil", ..solo.segment() };
    let report = solo.gets_stateless(&forged);
    assert_eq!(report.len(), 1, "to the peer, not to the forger");
    assert_eq!((report[0].segment().flags, report[0].segment().ack), (Flags::ACK, solo.seq(0)));
    assert!(solo.gets_stateless(&Segment { options: Options::default(), ..forged }).is_empty());
    assert_eq!(solo.conn.readable_bytes(), 10);
    assert_eq!(solo.conn.stats().packets_corrupt, 2);
}

#[test]
fn data_with_an_ack_that_is_too_old_or_of_the_future_is_not_taken() {
    for peer in PEERS {
        let mut solo = client(peer);
        for offset in [1i64, 100, 1 << 20, -(1 << 26), -(1 << 30)] {
            let forged = Segment { ack: solo.una(0) + offset as u32, payload: b"evil", ..solo.segment() };
            let cwnd = solo.conn.stats().cwnd;
            let answer = solo.gets(&forged);
            assert!(answer.len() <= 1, "{peer:?} {offset}");
            assert_eq!((solo.conn.readable_bytes(), solo.conn.stats().cwnd), (10, cwnd), "{peer:?} {offset}");
            assert!(solo.conn.is_acked());
        }
    }
}

#[test]
fn a_segment_without_ack_is_dropped() {
    let mut solo = client(Peer::Plain);
    let odd = Segment { flags: Flags::PSH, payload: b"x", ..solo.segment() };
    assert!(solo.gets(&odd).is_empty());
    assert_eq!(solo.conn.readable_bytes(), 10);
}

#[test]
fn old_timestamps_are_dropped_and_acknowledged_and_do_not_poison() {
    for peer in [Peer::Extension, Peer::Plain] {
        let mut solo = client(peer);
        solo.ts += 10_000;
        solo.gets_data(b"new");
        let good = solo.ts;
        let least = if peer == Peer::Extension { 251 } else { 1 };
        for old in [good - least, good.wrapping_sub(1 << 30), good.wrapping_sub((1 << 31) - 1)] {
            solo.ts = old;
            assert_eq!(solo.gets_data(b"old").len(), 1, "PAWS answers with an ACK");
            assert_eq!(solo.conn.readable_bytes(), 13);
        }
        solo.ts = good + 1_000_000; // far ahead, but outside the window: TS.Recent must not follow
        let outside = Segment { seq: solo.seq(1 << 29), payload: b"x", ..solo.segment() };
        solo.gets(&outside);
        solo.ts = good;
        solo.gets_data(b"new");
        assert_eq!(solo.conn.readable_bytes(), 16);
    }
}

#[test]
fn data_that_a_later_retransmission_overtook_fills_its_hole() {
    let mut solo = client(Peer::Extension);
    let late = solo.ts + 1000;
    solo.ts = late + 40;
    solo.gets_data(b"sent again, later");
    solo.ts = late;
    assert_eq!(solo.gets_data(b"first copy").len(), 1);
    assert_eq!(solo.conn.readable_bytes(), 10 + 17 + 10);
    let bare = Segment { payload: b"", ..solo.segment() };
    assert_eq!(solo.gets(&bare).len(), 1, "an old ACK is still an old ACK, and answered as one");
}

#[test]
fn a_timestamp_beside_an_ack_that_cannot_be_true_does_not_poison() {
    let mut solo = client(Peer::Plain);
    let good = solo.ts;
    for ack in [1 << 20, 1u32.wrapping_neg() << 26] {
        solo.ts = good + 1_000_000;
        let forged = Segment { ack: solo.una(0) + ack, payload: b"evil", ..solo.segment() };
        solo.gets(&forged);
        solo.ts = good;
        let before = solo.conn.readable_bytes();
        solo.gets_data(b"true");
        assert_eq!(solo.conn.readable_bytes(), before + 4);
    }
}

#[test]
fn a_segment_without_the_agreed_timestamps_is_dropped_an_rst_is_exempt() {
    let mut solo = client(Peer::Plain);
    let bare = Segment { options: Options::default(), payload: b"x", ..solo.segment() };
    solo.gets(&bare);
    assert_eq!(solo.conn.readable_bytes(), 10);
    let rst = Segment { flags: Flags::RST, payload: &[], ..bare };
    solo.gets(&rst);
    assert_eq!(solo.conn.state(), State::Closed);
}

#[test]
fn after_24_days_of_silence_any_timestamp_counts() {
    let mut solo = client(Peer::Plain);
    solo.ts -= 1;
    solo.run(ms(25 * 86_400_000));
    solo.gets_data(b"still here");
    assert_eq!(solo.conn.readable_bytes(), 20);
}

#[test]
fn two_connections_never_answer_each_others_stray_acks_for_ever() {
    // Both believe that the other is elsewhere: each ACK is unacceptable to its receiver.
    let mut a = client(Peer::Bare);
    let stray = Segment { seq: a.seq(-5000), ack: a.una(1000), ..a.segment() };
    let answers: usize = (0..1000).map(|_| a.gets(&stray).len()).sum();
    assert!(answers <= 12, "{answers}");
}

#[test]
fn a_probe_is_echoed_at_once_with_its_nonce_and_takes_no_sequence_space() {
    let mut solo = client(Peer::Extension);
    let tail = *b"8 nonce!more";
    let ext = Some(Extension { flags: ext_flags::PROBE, tail: &tail });
    let probe = solo.segment();
    let probe = Segment { options: Options { ext, ..probe.options }, padding: 700, ..probe };
    let answer = solo.gets(&probe);
    let echo = answer.iter().find_map(|s| {
        let ext = s.segment().options.ext?;
        (ext.flags & ext_flags::ECHO != 0).then(|| ext.nonce().unwrap())
    });
    assert_eq!(echo, Some(*b"8 nonce!"));
    assert_eq!(solo.conn.readable_bytes(), 10);
    assert!(answer.iter().all(|s| s.bytes().len() <= 100), "not longer than the probe");
    let mut plain = client(Peer::Plain);
    assert!(
        plain
            .gets_stateless(&Segment {
                options: Options { ext, ..plain.segment().options },
                ..plain.segment()
            })
            .is_empty()
    );
}

#[test]
fn corrupt_segments_are_counted_only_where_they_could_be_ours() {
    let mut solo = client(Peer::Extension);
    let near = Segment { payload: b"x", ..solo.segment() };
    solo.gets_stateless(&near);
    let far = Segment { seq: SeqNum::new(solo.seq(0).get() ^ (1 << 31)), ..near };
    solo.gets_stateless(&far);
    assert_eq!(solo.conn.stats().packets_corrupt, 1);
    let ack = solo.gets_data(b"x");
    assert_eq!(ack[0].segment().options.ext.unwrap().flags & ext_flags::CORRUPT_COUNT, 1);
}

#[test]
fn the_urgent_pointer_is_read_in_line_wherever_it_points() {
    for urgent in [0, 1, 3, 4, 65535] {
        let mut solo = client(Peer::Plain);
        let flags = Flags::ACK | Flags::URG;
        let segment = Segment { flags, urgent, payload: b"abc", ..solo.segment() };
        solo.gets(&segment);
        assert_eq!(solo.conn.readable_bytes(), 13);
    }
}
