//! Opening: RFC 9293 3.5 with wire-format.md's retry schedule, and what the SYNs agree on.

use super::pair::{Pair, ms, pattern};
use super::solo::{PEERS, Peer, Solo, emit, terms};
use crate::connection::{Config, End, Error, IntegrityMode, State};
use crate::emulator::Impairments;
use crate::wire::{Flags, Integrity, Segment, SeqNum};

fn delay(n: u64) -> Impairments {
    Impairments { delay: ms(n), ..Impairments::default() }
}

fn plain() -> Config {
    Config { integrity: IntegrityMode::Off, ..Config::default() }
}

#[test]
fn an_unanswered_syn_is_repeated_on_schedule_until_the_limit() {
    let config = Config { connect_timeout: ms(10_000), ..Config::default() };
    let mut solo = Solo::opening(&config, Peer::Extension);
    let start = solo.now;
    let sent = solo.run(ms(60_000));
    let at: Vec<u64> = sent.iter().map(|(t, _)| (*t - start).as_millis() as u64).collect();
    assert_eq!(at, [0, 300, 700, 1200, 1800, 2600, 3600, 4600, 5600, 6600, 7600, 8600, 9600]);
    assert!(sent.iter().all(|(_, s)| s.segment().flags.contains(Flags::SYN)));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::ConnectTimeout)));
    assert!(solo.conn.is_drained() && solo.conn.poll_timeout().is_none());
}

#[test]
fn an_rst_with_an_acceptable_ack_refuses_and_any_other_is_ignored() {
    for peer in PEERS {
        let mut solo = Solo::opening(&Config::default(), peer);
        solo.output();
        let rst = Segment { flags: Flags::RST | Flags::ACK, window: 0, ..solo.syn(Flags::SYN | Flags::ACK) };
        let rst = Segment { options: Default::default(), ..rst };
        for bad in [
            Segment { ack: rst.ack + 1, ..rst },
            Segment { ack: rst.ack - 1, ..rst },
            Segment { flags: Flags::RST, ..rst },
        ] {
            solo.gets_stateless(&bad);
            assert_eq!(solo.conn.state(), State::SynSent, "{bad:?}");
        }
        solo.gets_stateless(&rst);
        assert_eq!(solo.conn.end(), Some(End::Failed(Error::Refused)));
        assert!(solo.conn.is_drained());
    }
}

#[test]
fn a_damaged_syn_ack_is_dropped() {
    for peer in PEERS {
        let mut solo = Solo::opening(&Config::default(), peer);
        solo.output();
        let integrity = if peer == Peer::Extension { Integrity::CrcAndChecksum } else { Integrity::Checksum };
        let good = emit(&solo.syn(Flags::SYN | Flags::ACK), integrity);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let Ok(segment) = Segment::parse(&bad) else { continue };
            solo.conn.handle_segment(solo.now, &segment, &bad, false);
            assert_eq!(solo.conn.state(), State::SynSent, "{peer:?}, bit {bit}");
        }
        solo.gets_bytes(&good);
        assert!(solo.conn.is_established());
    }
}

#[test]
fn both_roles_agree_with_each_kind_of_peer_on_what_it_offers() {
    for peer in PEERS {
        for solo in [Solo::client(&Config::default(), peer), Solo::server(&Config::default(), peer)] {
            let terms = terms(&solo);
            let has_options = peer != Peer::Bare;
            assert_eq!(terms.extension, peer == Peer::Extension);
            assert_eq!((terms.timestamps, terms.sack), (has_options, has_options));
            assert_eq!(terms.window_scale, has_options.then_some((7, 12)));
            assert_eq!(terms.peer_mss, if has_options { 1432 } else { 536 });
            let options = [0, 12, 20][usize::from(has_options) + usize::from(terms.extension)];
            assert_eq!(solo.conn.snd.mss, 1180.min(usize::from(terms.peer_mss)) - options);
        }
    }
}

#[test]
fn a_plain_peer_without_the_extension_is_served_in_both_roles() {
    for (a, b) in [(Config::default(), plain()), (plain(), Config::default()), (plain(), plain())] {
        let mut pair = Pair::with(&a, &b, delay(10), delay(10), 3);
        pair.a.to_write = pattern(100_000, 1);
        pair.b.to_write = pattern(100_000, 2);
        pair.run_to_end(ms(20_000));
        pair.assert_exact();
        assert!(pair.a.conn().keys.is_none() && pair.b.conn().keys.is_none());
    }
}

#[test]
fn a_plain_peer_over_a_lossy_link_gets_exact_bytes_too() {
    for seed in 0..10 {
        let link = Impairments { loss: 0.2, reorder: 0.2, ..delay(10) };
        let mut pair = Pair::with(&plain(), &Config::default(), link.clone(), link, seed);
        pair.a.to_write = pattern(50_000, 1);
        pair.b.to_write = pattern(50_000, 2);
        pair.run_to_end(ms(300_000));
        assert!(pair.is_over(), "seed {seed}");
        pair.assert_exact();
    }
}

#[test]
fn integrity_that_is_required_refuses_a_plain_peer() {
    let strict = Config { integrity: IntegrityMode::Require, ..Config::default() };
    let mut solo = Solo::opening(&strict, Peer::Plain);
    solo.output();
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK);
    solo.gets_stateless(&syn_ack);
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::IntegrityRefused)));
}

#[test]
fn a_peer_whose_syn_ack_has_a_zero_sum_may_leave_it_zero_and_no_other_may() {
    let zero = |segment: &Segment<'_>| {
        let mut bytes = emit(segment, Integrity::Checksum);
        bytes[16..18].fill(0);
        bytes
    };
    let mut solo = Solo::opening(&plain(), Peer::Plain);
    solo.output();
    let syn_ack = zero(&solo.syn(Flags::SYN | Flags::ACK));
    solo.gets_bytes(&syn_ack);
    let data = zero(&Segment { payload: b"hello", ..solo.segment() });
    solo.gets_bytes(&data);
    assert_eq!(solo.conn.readable_bytes(), 5);
    let mut summing = Solo::client(&plain(), Peer::Plain);
    let data = zero(&Segment { payload: b"hello", ..summing.segment() });
    summing.gets_bytes(&data);
    assert_eq!((summing.conn.readable_bytes(), summing.conn.stats().packets_corrupt), (0, 1));
}

#[test]
fn a_lost_syn_ack_or_a_lost_ack_delays_the_handshake_and_nothing_else() {
    for (from_a, index) in [(true, 1), (false, 1), (true, 2), (false, 2), (true, 3)] {
        let mut pair = Pair::new(&Config::default(), delay(10), delay(10), 4);
        pair.filter = Box::new(move |a, i, _| (a, i) != (from_a, index));
        pair.a.to_write = pattern(5000, 1);
        pair.b.to_write = pattern(5000, 2);
        let took = pair.run_to_end(ms(10_000));
        pair.assert_exact();
        assert!(took < ms(1200), "{from_a} {index}: {took:?}");
    }
}

/// The client's ACK is lost and it has nothing to say: it repeats it, so that the server may speak.
#[test]
fn a_server_that_speaks_first_is_heard_though_the_handshakes_ack_was_lost() {
    for lost in 1..5 {
        let mut pair = Pair::new(&Config::default(), delay(10), delay(10), 5);
        pair.a.finish_when_written = false;
        pair.b.to_write = pattern(1000, 2);
        pair.filter = Box::new(move |a, i, _| !a || i == 1 || i > 1 + lost);
        pair.run_for(ms(3000));
        assert!(pair.a.received == pair.b.to_write, "{lost} lost");
    }
}

#[test]
fn a_silent_opener_stops_repeating_its_ack_once_it_was_answered() {
    for lost_answers in [0, 1, 3] {
        let mut pair = Pair::new(&Config::default(), delay(10), delay(10), 6);
        pair.a.finish_when_written = false;
        pair.b.finish_when_written = false;
        pair.filter = Box::new(move |a, i, _| a || i == 1 || i > 1 + lost_answers);
        pair.run_for(ms(20_000));
        let before = pair.a.conn().stats().packets_sent;
        pair.run_for(ms(600_000));
        assert_eq!(pair.a.conn().stats().packets_sent, before, "{lost_answers} answers lost");
        assert!(before < 20);
    }
}

#[test]
fn a_plain_listener_is_not_asked_whether_our_ack_arrived() {
    let mut solo = Solo::client(&Config::default(), Peer::Plain);
    solo.output();
    assert!(solo.run(ms(600_000)).is_empty(), "keep-alive is off");
}

#[test]
fn simultaneous_open_connects_with_and_without_the_extension() {
    for (a, b) in [(Config::default(), Config::default()), (plain(), Config::default()), (plain(), plain())] {
        let mut pair = Pair::with(&a, &b, delay(10), delay(10), 8);
        pair.connect_b();
        pair.a.to_write = pattern(50_000, 1);
        pair.b.to_write = pattern(50_000, 2);
        pair.run_to_end(ms(10_000));
        pair.assert_exact();
        assert_eq!(pair.a.conn().keys.is_some(), a.integrity == b.integrity && a != plain());
    }
}

#[test]
fn simultaneous_open_survives_any_lost_segment() {
    for (from_a, index) in [(true, 1), (true, 2), (true, 3), (false, 1), (false, 2), (false, 3)] {
        let mut pair = Pair::with(&Config::default(), &Config::default(), delay(10), delay(15), 8);
        pair.connect_b();
        pair.filter = Box::new(move |a, i, _| (a, i) != (from_a, index));
        pair.a.to_write = pattern(5000, 1);
        pair.b.to_write = pattern(5000, 2);
        pair.run_to_end(ms(10_000));
        pair.assert_exact();
    }
}

#[test]
fn the_window_of_a_syn_is_never_scaled() {
    let mut solo = Solo::opening(&Config::default(), Peer::Extension);
    solo.output();
    let syn = solo.syn(Flags::SYN);
    solo.gets_stateless(&Segment { window: 1000, ..syn });
    assert_eq!(solo.conn.state(), State::SynReceived);
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK);
    solo.gets_stateless(&Segment { window: 1000, ..syn_ack });
    assert!(solo.conn.is_established());
    assert!(solo.conn.snd.wnd <= 1000, "{}", solo.conn.snd.wnd);
}

#[test]
fn a_reset_in_an_active_syn_received_refuses() {
    let mut solo = Solo::opening(&Config::default(), Peer::Plain);
    solo.output();
    let syn = solo.syn(Flags::SYN);
    solo.gets_stateless(&syn);
    let rst = Segment { flags: Flags::RST, ..solo.segment() };
    solo.gets(&rst);
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::Refused)));
}

#[test]
fn an_ack_of_anything_but_our_syn_changes_nothing() {
    let mut solo = Solo::opening(&Config::default(), Peer::Plain);
    solo.output();
    let syn_ack = solo.syn(Flags::SYN | Flags::ACK);
    for ack in [syn_ack.ack - 1, syn_ack.ack + 1, SeqNum::new(0)] {
        solo.gets_stateless(&Segment { ack, ..syn_ack });
        assert_eq!(solo.conn.state(), State::SynSent);
    }
}

#[test]
fn bytes_and_a_fin_queued_before_the_handshake_leave_after_it() {
    let mut pair = Pair::new(&Config::default(), delay(10), delay(10), 9);
    let now = pair.now;
    pair.a.conn().write(now, b"early").unwrap();
    pair.a.conn().finish(now);
    assert_eq!(pair.a.conn().state(), State::SynSent);
    pair.run_to_end(ms(5000));
    assert_eq!(pair.b.received, b"early");
    assert_eq!(pair.a.conn().end(), Some(End::Orderly));
}

#[test]
fn the_first_data_segments_timestamp_is_echoed() {
    for peer in [Peer::Extension, Peer::Plain] {
        let mut solo = Solo::server(&Config::default(), peer);
        solo.ts += 300;
        let answer = solo.gets_data(b"first");
        assert_eq!(answer[0].segment().options.timestamps.unwrap().ecr, solo.ts, "{peer:?}");
    }
}

/// At half loss most SYN-ACKs leave more than once, and then none tells a round trip: the server's last words, lost,
/// came again after 1, 3 and 7 seconds, and one program in seventeen had given up by then.
#[test]
fn a_server_whose_syn_ack_was_repeated_times_its_answer_by_what_the_client_echoes() {
    let mut pair = Pair::new(&Config::default(), delay(10), delay(15), 10);
    (pair.a.finish_when_written, pair.b.finish_when_written) = (false, false);
    let mut answers = 0;
    pair.filter = Box::new(move |from_a, index, datagram| {
        let has_payload = Segment::parse(datagram).is_ok_and(|segment| !segment.payload.is_empty());
        answers += u32::from(!from_a && has_payload);
        from_a || index != 1 && !(has_payload && answers == 1)
    });
    pair.a.to_write = pattern(1000, 1);
    pair.run_for(ms(600));
    assert!(pair.b.received.len() == 1000 && pair.b.conn().snd.rtt.srtt().is_zero());
    pair.b.to_write = pattern(1, 2);
    pair.run_for(ms(150));
    assert_eq!(pair.a.received, pair.b.to_write, "sent again after two round trips");
    assert_eq!(pair.b.conn().snd.rtt.rto(), ms(200));
}
