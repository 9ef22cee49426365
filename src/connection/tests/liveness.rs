//! Is the peer there? Keep-alive, idle and user limits; and what an idle connection costs.

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Solo};
use crate::connection::{Config, End, Error};

#[test]
fn a_live_peer_answers_keep_alive_for_a_day() {
    let mut pair = Pair::connected(&Config { keepalive: Some(ms(60_000)), ..Config::default() });
    let before = pair.a.conn().stats().packets_sent;
    pair.run_for(ms(86_400_000));
    assert_eq!((pair.a.conn().end(), pair.b.conn().end()), (None, None));
    let sent = pair.a.conn().stats().packets_sent - before;
    assert!((1000..=2 * 1440 + 10).contains(&sent), "{sent}");
}

#[test]
fn a_dead_peer_is_found_by_five_lost_probes_and_not_by_one() {
    let mut solo = Solo::client(&Config { keepalive: Some(ms(60_000)), ..Config::default() }, Peer::Plain);
    solo.run(ms(60_500));
    assert_eq!(solo.conn.end(), None);
    solo.gets_ack();
    let start = solo.now;
    let sent = solo.run(ms(200_000));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::KeepAliveTimeout)));
    let at: Vec<u64> = sent.iter().map(|(t, _)| (*t - start).as_millis() as u64).collect();
    assert_eq!(at, [60_000, 61_000, 62_000, 63_000, 64_000, 65_000], "five probes, then an RST");
}

#[test]
fn keep_alive_set_on_a_connection_long_idle_does_not_kill_it() {
    let mut solo = Solo::client(&Config::default(), Peer::Plain);
    solo.run(ms(3_600_000));
    solo.conn.set_keepalive(solo.now, Some(ms(10_000)));
    assert_eq!(solo.run(ms(100)).len(), 1);
    assert_eq!(solo.conn.end(), None);
    solo.gets_ack();
    assert!(solo.run(ms(9_900)).is_empty());
}

#[test]
fn keep_alive_leaves_a_connection_with_data_outstanding_to_the_user_timeout() {
    let config = Config { keepalive: Some(ms(5000)), user_timeout: ms(90_000), ..Config::default() };
    let mut solo = Solo::client(&config, Peer::Plain);
    solo.conn.write(solo.now, b"x").unwrap();
    solo.run(ms(80_000));
    assert_eq!(solo.conn.end(), None);
    solo.run(ms(20_000));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::UserTimeout)));
}

#[test]
fn the_user_timeout_counts_from_the_last_progress() {
    let mut solo = Solo::client(&Config { user_timeout: ms(10_000), ..Config::default() }, Peer::Extension);
    for _ in 0..10 {
        solo.conn.write(solo.now, b"x").unwrap();
        solo.run(ms(8_000));
        assert_eq!(solo.conn.end(), None);
        solo.gets_ack();
    }
    solo.run(ms(3_600_000));
    assert_eq!(solo.conn.end(), None, "nothing waits for an ACK");
    solo.conn.write(solo.now, b"x").unwrap();
    let start = solo.now;
    let sent = solo.run(ms(20_000));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::UserTimeout)));
    assert_eq!((sent.last().unwrap().0 - start).as_millis(), 10_000);
}

#[test]
fn an_idle_limit_ends_a_silent_connection_and_only_that() {
    let config = Config { idle_timeout: Some(ms(30_000)), ..Config::default() };
    let mut solo = Solo::client(&config, Peer::Extension);
    for _ in 0..10 {
        solo.run(ms(29_000));
        solo.gets_data(b"x");
    }
    assert_eq!(solo.conn.end(), None);
    solo.run(ms(31_000));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::IdleTimeout)));
}

#[test]
fn an_idle_connection_has_no_timer_and_gives_its_memory_back() {
    let mut pair = Pair::connected(&Config::default());
    pair.a.to_write = pattern(1_000_000, 1);
    pair.run_for(ms(5_000));
    assert!(pair.b.conn().rcv.buffer.memory() > 0 && pair.a.conn().snd.buffer.memory() > 0);
    pair.run_for(ms(30_000));
    for side in [&mut pair.a, &mut pair.b] {
        let conn = side.conn();
        assert_eq!(conn.poll_timeout(), None);
        assert_eq!((conn.rcv.buffer.memory(), conn.snd.buffer.memory()), (0, 0));
    }
    pair.a.to_write.extend(pattern(1000, 3));
    pair.run_for(ms(1000));
    assert!(pair.b.received == pair.a.to_write, "and takes it again when needed");
}

#[test]
fn unread_bytes_keep_their_memory_and_ask_for_no_timer() {
    let mut solo = Solo::client(&Config::default(), Peer::Extension);
    solo.gets_data(b"still unread");
    solo.run(ms(60_000));
    assert_eq!(solo.conn.poll_timeout(), None);
    let mut out = [0; 32];
    assert_eq!(solo.conn.read(solo.now, &mut out), Ok(12));
    assert!(solo.conn.poll_timeout().is_some());
    solo.run(ms(60_000));
    assert_eq!((solo.conn.poll_timeout(), solo.conn.rcv.buffer.memory()), (None, 0));
}

#[test]
fn what_happens_after_the_end_is_a_no_op() {
    let mut solo = Solo::client(&Config::default(), Peer::Extension);
    solo.conn.abort(solo.now);
    solo.output();
    let data = crate::wire::Segment { payload: b"x", ..solo.segment() };
    assert!(solo.gets(&data).is_empty());
    solo.conn.finish(solo.now);
    solo.conn.close(solo.now);
    solo.conn.abort(solo.now);
    solo.conn.handle_timeout(solo.now + ms(1));
    assert!(solo.output().is_empty() && solo.conn.is_drained());
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::Aborted)));
}
