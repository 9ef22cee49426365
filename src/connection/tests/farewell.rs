//! The last ACK of a connection: nothing repeats it unasked, and the process may be gone when asked.

use super::pair::{Pair, ms, pattern};
use crate::connection::{Config, State};
use crate::emulator::Impairments;
use crate::wire::{Flags, Segment};
use std::cell::Cell;
use std::rc::Rc;

/// ACKs that the side that closes first sends after the peer's FIN has come.
fn last_acks(loss: f64) -> u32 {
    let bad = Impairments { delay: ms(10), loss, ..Impairments::default() };
    let mut pair =
        Pair::new(&Config::default(), bad, Impairments { delay: ms(10), ..Impairments::default() }, 3);
    pair.a.to_write = pattern(100_000, 1);
    pair.b.finish_when_written = false;
    while !pair.b.eof {
        assert!(pair.step(pair.now + ms(60_000)), "it arrives");
    }
    pair.b.finish_when_written = true;
    let acks = Rc::new(Cell::new(0));
    let (seen, mut peer_finished) = (Rc::clone(&acks), false);
    pair.filter = Box::new(move |from_a, _, bytes| {
        let segment = Segment::parse(bytes).expect("our own segments parse");
        peer_finished |= !from_a && segment.flags.contains(Flags::FIN);
        if from_a && peer_finished && segment.payload.is_empty() && !segment.flags.contains(Flags::FIN) {
            seen.set(seen.get() + 1);
        }
        true
    });
    while pair.a.conn().state() != State::TimeWait {
        assert!(pair.step(pair.now + ms(60_000)), "it ends");
    }
    pair.settle();
    acks.get()
}

#[test]
fn on_a_lossy_path_it_leaves_as_often_as_its_loss_is_worth() {
    assert_eq!(last_acks(0.0), 1);
    assert!((3..=8).contains(&last_acks(0.5)), "{}", last_acks(0.5));
}
