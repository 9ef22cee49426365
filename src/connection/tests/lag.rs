//! An answer that is merely late, in a queue behind the peer's own data, brings nothing out a second time.

use super::pair::{ms, pattern};
use super::solo::{Peer, Sent, Solo};
use crate::connection::Config;
use crate::wire::Segment;

const SEGMENTS: usize = 4;

/// A new connection; `SEGMENTS` of ours left, and the first was acknowledged after 20 ms.
fn asked(peer: Peer) -> Solo {
    let mut solo = Solo::client(&Config::default(), peer);
    solo.conn.write(solo.now, &pattern(SEGMENTS * 1100, 1)).unwrap();
    assert_eq!(solo.output().len(), SEGMENTS);
    solo.now += ms(20);
    solo.ts += 20;
    let first = Segment { ack: solo.una(1100), ..solo.segment() };
    solo.gets(&first);
    solo
}

/// For `millis` the peer's data comes, a segment each 60 ms, which leave the peer `pace` milliseconds apart and
/// acknowledge nothing new. How many segments of ours left meanwhile.
fn hears_data(solo: &mut Solo, millis: u64, pace: u32) -> usize {
    let is_data = |sent: &Sent| !sent.segment().payload.is_empty();
    let (mut sent, data) = (0, pattern(1000, 2));
    let echo = solo.segment().options.timestamps.map(|t| t.ecr);
    for _ in 0..millis / 60 {
        sent += solo.run(ms(60)).iter().filter(|(_, sent)| is_data(sent)).count();
        solo.ts += pace;
        let mut word = Segment { ack: solo.una(0), payload: &data, ..solo.segment() };
        if let (Some(stamps), Some(echo)) = (&mut word.options.timestamps, echo) {
            stamps.ecr = echo;
        }
        sent += solo.gets(&word).iter().filter(|sent| is_data(sent)).count();
    }
    sent
}

#[test]
fn what_the_peer_said_before_our_data_can_have_come_there_brings_nothing_out_again_and_again() {
    let mut solo = asked(Peer::Extension);
    let first = hears_data(&mut solo, 300, 0);
    assert!(first <= 30, "{first} segments before a queue is known");
    let rest = hears_data(&mut solo, 3000, 0);
    assert_eq!(rest, 0, "segments in three seconds");
    assert!(!solo.conn.snd.loss_rate.is_heavy(), "{:?}", solo.conn.snd.loss_rate);
    // The answer, at last.
    solo.gets_ack();
    assert_eq!(solo.conn.snd.una, solo.conn.snd.nxt);
}

/// Its clock may tick once a second for all that we know.
#[test]
fn a_plain_peer_whose_clock_seems_to_stand_still_gets_the_flight_again_after_a_second_or_two() {
    let mut solo = asked(Peer::Plain);
    hears_data(&mut solo, 300, 0);
    let sent = hears_data(&mut solo, 6000, 0);
    let flight = SEGMENTS - 1;
    assert!(
        (2 * flight..=60).contains(&sent),
        "{sent} segments in six seconds: few timers, and copies for a word"
    );
}

#[test]
fn what_the_peer_said_since_then_shows_that_our_data_is_lost() {
    for peer in [Peer::Extension, Peer::Plain] {
        let mut solo = asked(peer);
        hears_data(&mut solo, 300, 0);
        let lost = hears_data(&mut solo, 600, 400); // the queue runs empty
        assert!(lost >= SEGMENTS - 1, "{peer:?}: {lost}");
    }
}
