//! Every way out of ESTABLISHED: RFC 9293 3.6 and 3.10.4 to 3.10.8.

use super::pair::{Pair, ms, pattern};
use super::solo::{PEERS, Peer, Solo};
use crate::connection::{Config, End, Error, MSL, PathMtu, ReadError, State, WriteError};
use crate::wire::{Flags, Segment};

fn client(peer: Peer) -> Solo {
    Solo::client(&Config::default(), peer)
}

fn states(pair: &mut Pair) -> (State, State) {
    (pair.a.conn().state(), pair.b.conn().state())
}

#[test]
fn the_side_that_closes_first_passes_fin_wait_and_time_wait_the_other_close_wait_and_last_ack() {
    for peer in PEERS {
        let mut first = client(peer);
        first.conn.finish(first.now);
        let fin = first.output();
        assert!(fin[0].segment().flags.contains(Flags::FIN));
        assert_eq!(first.conn.state(), State::FinWait1);
        first.gets_ack();
        assert_eq!(first.conn.state(), State::FinWait2);
        let ack = first.gets_fin();
        assert_eq!(ack.len(), 1);
        assert_eq!(first.conn.state(), State::TimeWait);
        first.run(2 * MSL);
        assert_eq!(first.conn.state(), State::Closed);

        let mut second = client(peer);
        assert_eq!(second.gets_fin().len(), 1, "a FIN is acknowledged at once");
        assert_eq!(second.conn.state(), State::CloseWait);
        second.conn.finish(second.now);
        second.output();
        assert_eq!(second.conn.state(), State::LastAck);
        second.gets_ack();
        assert_eq!(second.conn.state(), State::Closed);
        assert_eq!(second.conn.end(), None, "the application has not read to the end yet");
        assert_eq!(second.conn.read(second.now, &mut [0; 8]), Ok(0));
        assert_eq!(second.conn.end(), Some(End::Orderly));
    }
}

#[test]
fn simultaneous_close_passes_closing() {
    for peer in PEERS {
        let mut solo = client(peer);
        let before = solo.segment();
        solo.conn.finish(solo.now);
        solo.output();
        solo.gets(&Segment { flags: Flags::FIN | Flags::ACK, ..before });
        assert_eq!(solo.conn.state(), State::Closing);
        solo.gets_ack();
        assert_eq!(solo.conn.state(), State::TimeWait);
    }
    let mut pair = Pair::connected(&Config::default());
    let now = pair.now;
    pair.a.conn().finish(now);
    pair.b.conn().finish(now);
    pair.run_for(ms(11));
    assert_eq!(states(&mut pair), (State::Closing, State::Closing));
    pair.run_for(ms(20));
    assert_eq!(states(&mut pair), (State::TimeWait, State::TimeWait));
    pair.assert_exact();
    pair.run_for(2 * MSL);
    assert_eq!(states(&mut pair), (State::Closed, State::Closed));
}

#[test]
fn only_a_fin_that_is_missing_is_worth_waiting_for_and_longer_where_something_is_lost() {
    let mut solo = client(Peer::Extension);
    assert_eq!(solo.conn.fin_patience(), None);
    solo.conn.close(solo.now);
    solo.output();
    assert_eq!(solo.conn.fin_patience(), None, "our own is");
    solo.gets_ack();
    let srtt = solo.conn.snd.rtt.srtt();
    assert_eq!(solo.conn.fin_patience(), Some(2 * srtt));
    solo.conn.snd.loss_rate.on_lost(1);
    assert_eq!(solo.conn.fin_patience(), Some(3 * srtt + ms(50)));
    assert_eq!(solo.gets_fin().len(), 2, "and then the last ACK leaves twice");
    assert_eq!(solo.conn.fin_patience(), None);
}

#[test]
fn a_fin_that_acknowledges_ours_skips_fin_wait_2() {
    let mut solo = client(Peer::Plain);
    solo.conn.finish(solo.now);
    solo.output();
    solo.gets_fin();
    assert_eq!(solo.conn.state(), State::TimeWait);
}

#[test]
fn after_a_half_close_data_still_flows_the_other_way() {
    let mut pair = Pair::connected(&Config::default());
    let now = pair.now;
    pair.a.conn().finish(now);
    pair.run_for(ms(1000));
    assert_eq!(states(&mut pair), (State::FinWait2, State::CloseWait));
    assert!(pair.b.eof);
    pair.b.to_write = pattern(400_000, 3);
    pair.run_for(ms(5000));
    assert!(pair.a.received == pair.b.to_write);
    assert_eq!(states(&mut pair), (State::FinWait2, State::CloseWait), "a day later too");
    pair.run_for(ms(86_400_000));
    let now = pair.now;
    pair.b.conn().finish(now);
    pair.run_to_end(ms(1000));
    pair.assert_exact();
}

#[test]
fn a_fin_beyond_a_hole_waits_for_the_hole() {
    for peer in PEERS {
        let mut solo = client(peer);
        let fin =
            Segment { flags: Flags::FIN | Flags::ACK, seq: solo.seq(3), payload: b"def", ..solo.segment() };
        solo.gets(&fin);
        assert_eq!(solo.conn.state(), State::Established);
        solo.gets_data(b"abc");
        assert_eq!(solo.conn.state(), State::CloseWait);
        let mut out = [0; 16];
        assert_eq!(solo.conn.read(solo.now, &mut out), Ok(6));
        assert_eq!(&out[..6], b"abcdef");
        assert_eq!(solo.conn.read(solo.now, &mut out), Ok(0));
        assert_eq!(solo.conn.read(solo.now, &mut out), Ok(0), "at every later call too");
    }
}

#[test]
fn data_beyond_the_peers_own_fin_is_not_read() {
    let mut solo = client(Peer::Extension);
    solo.gets_fin();
    solo.gets_data(b"ghost");
    assert_eq!(solo.conn.read(solo.now, &mut [0; 8]), Ok(0));
}

#[test]
fn time_wait_answers_a_repeated_fin_and_starts_over() {
    for peer in PEERS {
        let mut solo = client(peer);
        solo.conn.finish(solo.now);
        solo.output();
        solo.gets_fin();
        solo.run(MSL);
        let again = Segment { flags: Flags::FIN | Flags::ACK, seq: solo.seq(-1), ..solo.segment() };
        assert_eq!(solo.gets(&again).len(), 1, "{peer:?}");
        assert_eq!(solo.conn.time_wait().unwrap().expires, solo.now + 2 * MSL);
    }
}

#[test]
fn an_rst_does_not_assassinate_time_wait() {
    for peer in PEERS {
        let mut solo = client(peer);
        solo.conn.finish(solo.now);
        solo.output();
        solo.gets_fin();
        let rst = Segment { flags: Flags::RST, ..solo.segment() };
        solo.gets(&rst);
        assert_eq!(solo.conn.state(), State::TimeWait, "RFC 1337");
    }
}

#[test]
fn a_minute_of_unanswered_fins_with_everything_acknowledged_is_an_orderly_close() {
    let mut solo = client(Peer::Extension);
    solo.gets_fin();
    assert_eq!(solo.conn.read(solo.now, &mut [0; 8]), Ok(0));
    solo.conn.write(solo.now, b"bye").unwrap();
    solo.output();
    solo.gets_ack();
    solo.conn.finish(solo.now);
    let fins = solo.run(ms(3_000));
    assert!(fins.len() >= 5 && fins.iter().all(|(_, s)| s.segment().flags.contains(Flags::FIN)));
    assert!(solo.conn.may_be_left() && solo.conn.end() == Some(End::Orderly));
    assert_eq!(solo.conn.state(), State::LastAck, "the peer may only be out of reach for a while");
    solo.run(ms(70_000));
    assert_eq!(solo.conn.state(), State::Closed);
}

#[test]
fn with_data_unacknowledged_the_last_fins_never_count_as_orderly() {
    let mut solo = Solo::client(&Config { user_timeout: ms(20_000), ..Config::default() }, Peer::Extension);
    solo.gets_fin();
    assert_eq!(solo.conn.read(solo.now, &mut [0; 8]), Ok(0));
    solo.conn.write(solo.now, b"bye").unwrap();
    solo.conn.finish(solo.now);
    solo.run(ms(60_000));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::UserTimeout)));
}

#[test]
fn port_unreachable_ends_last_ack_in_order_and_means_nothing_in_established() {
    let mut solo = client(Peer::Extension);
    solo.conn.handle_refused(solo.now);
    assert_eq!(solo.conn.state(), State::Established, "RFC 5927: anybody may forge it");
    solo.gets_fin();
    assert_eq!(solo.conn.read(solo.now, &mut [0; 8]), Ok(0));
    solo.conn.finish(solo.now);
    solo.output();
    solo.conn.handle_refused(solo.now);
    assert_eq!(solo.conn.end(), Some(End::Orderly));
}

#[test]
fn a_reset_after_both_fins_with_all_data_acknowledged_is_no_failure() {
    for closing in [true, false] {
        let mut solo = client(Peer::Plain);
        let before = solo.segment();
        if !closing {
            solo.gets_fin();
        }
        solo.conn.finish(solo.now);
        solo.output();
        if closing {
            solo.gets(&Segment { flags: Flags::FIN | Flags::ACK, ..before });
        }
        assert_eq!(solo.conn.state(), if closing { State::Closing } else { State::LastAck });
        let rst = Segment { flags: Flags::RST, ..solo.segment() };
        solo.gets(&rst);
        assert_eq!(solo.conn.read(solo.now, &mut [0; 8]), Ok(0));
        assert_eq!(solo.conn.end(), Some(End::Orderly));
    }
}

#[test]
fn close_with_unread_data_resets_the_peer_only_after_all_of_ours_is_acknowledged() {
    let mut pair = Pair::connected(&Config::default());
    pair.a.reads = false;
    pair.b.to_write = pattern(50_000, 2);
    pair.run_for(ms(200));
    pair.a.to_write = pattern(100_000, 1);
    pair.settle();
    let now = pair.now;
    assert_eq!(pair.a.written, 100_000);
    assert!(pair.a.conn().readable_bytes() > 0);
    pair.a.conn().close(now);
    pair.run_for(ms(3000));
    assert!(pair.b.received == pair.a.to_write, "every byte of ours arrived first");
    assert!(pair.b.eof);
    assert_eq!(pair.a.conn().end(), Some(End::Orderly));
    assert_eq!(pair.b.conn().end(), Some(End::Failed(Error::Reset)));
    assert_eq!(states(&mut pair), (State::Closed, State::Closed));
}

#[test]
fn data_that_arrives_after_close_is_answered_with_a_reset() {
    let mut solo = client(Peer::Plain);
    solo.conn.close(solo.now);
    solo.output();
    solo.gets_ack();
    assert_eq!((solo.conn.state(), solo.conn.end()), (State::FinWait2, Some(End::Orderly)));
    let answer = solo.gets_data(b"too late");
    assert!(answer[0].segment().flags.contains(Flags::RST));
    assert!(solo.conn.is_drained());
}

#[test]
fn a_closed_connection_does_not_wait_for_ever_for_a_peer_that_never_finishes() {
    let mut solo = client(Peer::Extension);
    solo.conn.close(solo.now);
    solo.output();
    solo.gets_ack();
    solo.run(ms(59_000));
    assert_eq!(solo.conn.state(), State::FinWait2);
    solo.run(ms(2_000));
    assert!(solo.conn.is_drained());
}

#[test]
fn close_with_everything_read_ends_in_order_on_both_sides() {
    let mut pair = Pair::connected(&Config::default());
    pair.b.finish_when_written = true;
    let now = pair.now;
    pair.a.conn().close(now);
    pair.run_to_end(ms(1000));
    pair.assert_exact();
}

#[test]
fn abort_resets_the_peer_from_every_state_that_has_one() {
    for finished in [false, true] {
        for fin_first in [false, true] {
            let mut solo = client(Peer::Plain);
            if fin_first {
                solo.gets_fin();
            }
            if finished {
                solo.conn.finish(solo.now);
                solo.output();
            }
            solo.conn.abort(solo.now);
            let sent = solo.output();
            assert_eq!(sent.len(), 1);
            let rst = sent[0].segment();
            assert!(rst.flags.contains(Flags::RST) && rst.seq == solo.una(0) + u32::from(finished));
            assert_eq!(solo.conn.end(), Some(End::Failed(Error::Aborted)));
            assert_eq!(solo.conn.write(solo.now, b"x"), Err(WriteError::Ended(Error::Aborted)));
            assert!(solo.conn.is_drained());
        }
    }
    let mut pair = Pair::connected(&Config::default());
    let now = pair.now;
    pair.a.conn().abort(now);
    pair.run_for(ms(20));
    assert_eq!(pair.b.conn().end(), Some(End::Failed(Error::Reset)));
    assert_eq!(pair.b.conn().read(now, &mut [0; 8]), Err(ReadError::Ended(Error::Reset)));
}

#[test]
fn abort_in_syn_sent_and_in_time_wait_says_nothing() {
    let mut opening = Solo::opening(&Config::default(), Peer::Plain);
    opening.output();
    opening.conn.abort(opening.now);
    assert!(opening.output().is_empty() && opening.conn.is_drained());
    let mut solo = client(Peer::Plain);
    solo.conn.finish(solo.now);
    solo.output();
    solo.gets_fin();
    solo.conn.abort(solo.now);
    assert!(solo.output().is_empty() && solo.conn.is_drained());
}

#[test]
fn finish_twice_is_once_and_nothing_can_be_written_after_it() {
    let mut solo = client(Peer::Extension);
    solo.conn.finish(solo.now);
    solo.conn.finish(solo.now);
    assert_eq!(solo.output().len(), 1);
    assert_eq!(solo.conn.write(solo.now, b"x"), Err(WriteError::Finished));
}

#[test]
fn a_lost_fin_or_a_lost_last_ack_is_made_good() {
    for (from_a, nth) in [(true, 0), (false, 0), (false, 1), (true, 1), (true, 2), (false, 2)] {
        let mut pair = Pair::connected(&Config::default());
        let now = pair.now;
        pair.a.conn().finish(now);
        pair.b.finish_when_written = true;
        let mut seen = [0, 0];
        pair.filter = Box::new(move |a, _, _| {
            seen[usize::from(a)] += 1;
            a != from_a || seen[usize::from(a)] != nth + 1
        });
        pair.run_to_end(ms(5000));
        pair.assert_exact();
    }
}

#[test]
fn a_last_full_segment_lost_with_its_fin_is_one_segment_again() {
    // As long as the path is not suspected of carrying less.
    let config = Config { mtu: PathMtu::Fixed(1200), ..Config::default() };
    let mut solo = Solo::client(&config, Peer::Plain);
    let mss = solo.conn.snd.mss;
    solo.conn.write(solo.now, &vec![7; mss]).unwrap();
    solo.conn.finish(solo.now);
    assert_eq!(solo.output().len(), 1);
    let again = solo.run(ms(2000));
    assert!(!again.is_empty());
    for (_, sent) in again {
        assert_eq!(sent.segment().payload.len(), mss);
        assert!(sent.segment().flags.contains(Flags::FIN));
    }
}
