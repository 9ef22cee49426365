//! Small questions, small answers: nothing in the stack may add to the path's round trip.

use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use crate::connection::{Algorithm, Config};
use crate::emulator::Impairments;

const MESSAGE: usize = 64;
const ROUNDS: usize = 3000;

/// The slowest round trip of the messages, and the datagrams that they took.
fn ping_pong(config: &Config, delay: Duration) -> (Duration, u64) {
    let link = Impairments { delay, ..Impairments::default() };
    let mut pair = Pair::new(config, link.clone(), link, 3);
    pair.a.finish_when_written = false;
    pair.b.finish_when_written = false;
    pair.run_for(10 * delay + ms(1000));
    let sent = |pair: &mut Pair| pair.a.conn().stats().packets_sent + pair.b.conn().stats().packets_sent;
    let (before, mut slowest) = (sent(&mut pair), Duration::ZERO);
    for round in 1..=ROUNDS {
        pair.a.to_write.extend(pattern(MESSAGE, round as u8));
        let begin = pair.now;
        loop {
            pair.settle();
            if pair.a.received.len() == round * MESSAGE {
                break;
            }
            if pair.b.to_write.len() < pair.b.received.len() {
                pair.b.to_write = pair.b.received.clone();
                pair.settle();
            }
            assert!(pair.step(begin + ms(60_000)), "round {round} hangs");
        }
        slowest = slowest.max(pair.now - begin);
    }
    assert!(pair.a.received == pair.a.to_write);
    (slowest, sent(&mut pair) - before)
}

#[test]
fn a_question_and_its_answer_take_one_round_trip_of_the_path_and_a_datagram_each() {
    for algorithm in [Algorithm::Bbr, Algorithm::Cubic] {
        let config = Config { algorithm, ..Config::default() };
        for delay in [Duration::from_micros(25), ms(10), ms(300)] {
            let (slowest, datagrams) = ping_pong(&config, delay);
            assert_eq!(slowest, 2 * delay, "{algorithm:?}");
            // The first are acknowledged at once: a slow start is not to be slowed. Probes of the path's MTU.
            let most = 2 * ROUNDS as u64 + 100;
            assert!(datagrams <= most, "{algorithm:?}, {delay:?}: {datagrams} datagrams");
        }
    }
}
