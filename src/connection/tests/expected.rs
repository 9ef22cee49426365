//! Header prediction is a shorter way to the same place.

use super::pair::{ms, pattern};
use super::solo::{Peer, Solo, emit};
use crate::connection::expected::Unexpected;
use crate::connection::{Config, ReadError};
use crate::emulator::Rng;
use crate::wire::{Extension, Flags, Integrity, Segment, Timestamps};

/// Two that have lived through the same, one of which takes every segment step by step.
struct Twins {
    short: Solo,
    long: Solo,
    predicted: u32,
}

impl Twins {
    fn new(config: &Config) -> Self {
        let [short, long] = [(); 2].map(|()| Solo::server(config, Peer::Extension));
        Self { short, long, predicted: 0 }
    }

    fn pass(&mut self, millis: u64) {
        for solo in [&mut self.short, &mut self.long] {
            solo.now += ms(millis);
            solo.conn.handle_timeout(solo.now);
        }
    }

    fn get(&mut self, segment: &Segment<'_>, ce: bool, is_damaged: bool) {
        let key = self.short.conn.keys.unwrap().1;
        let mut datagram = emit(segment, Integrity::Crc { key });
        if is_damaged {
            *datagram.last_mut().unwrap() ^= 1;
        }
        let (now, segment) = (self.short.now, Segment::parse(&datagram).unwrap());
        let (short, long) = (&mut self.short.conn, &mut self.long.conn);
        let outcome = short.take_expected(now, &segment, &datagram, ce);
        self.predicted += u32::from(outcome.is_ok());
        let outcome =
            outcome.or_else(|Unexpected| short.handle_in_other_states(now, &segment, &datagram, ce));
        let by_steps = long.handle_in_other_states(now, &segment, &datagram, ce);
        assert_eq!(outcome.is_err(), by_steps.is_err(), "{segment}");
        for (conn, outcome) in [(short, outcome), (long, by_steps)] {
            conn.packets.dropped += u64::from(outcome.is_err());
            conn.note_activity(now);
            conn.after(now);
        }
    }

    fn assert_alike(&mut self, what: &str) {
        let [short, long] = [&mut self.short, &mut self.long].map(Solo::output);
        assert_eq!(short.len(), long.len(), "{what}");
        for (short, long) in short.iter().zip(&long) {
            assert_eq!(short.segment(), long.segment(), "{what}");
        }
        let [short, long] = [&self.short, &self.long].map(|solo| format!("{:#?}", solo.conn));
        let differing = short.lines().zip(long.lines()).find(|(short, long)| short != long);
        assert_eq!(differing, None, "{what}");
    }
}

#[test]
fn a_predicted_segment_leaves_the_connection_as_the_steps_of_the_rfc_do() {
    let (mut predicted, mut rng) = (0, Rng::new(7));
    for _ in 0..20 {
        let config = Config { recv_buffer: 60_000, send_buffer: 20_000, ..Config::default() };
        let mut twins = Twins::new(&config);
        let payload = pattern(1432, 5);
        let mut is_odd = |one_in: u64| rng.below(one_in) == 0;
        for step in 0..150 {
            let mut segment = twins.short.segment();
            let len = if is_odd(4) { 700 } else { 1432 };
            segment.payload = if is_odd(12) { &[] } else { &payload[..len] };
            if is_odd(3) {
                segment.flags |= Flags::PSH;
            }
            let extras = [Flags::FIN, Flags::ECE, Flags::CWR, Flags::URG, Flags::RST];
            if let Some(flag) = extras.into_iter().find(|_| is_odd(400)) {
                segment.flags |= flag;
            }
            if is_odd(12) {
                segment.seq = twins.short.seq(if is_odd(2) { 1432 } else { -700 });
            }
            if is_odd(20) {
                segment.ack = twins.short.una(if is_odd(2) { 1 } else { -1 });
            }
            if is_odd(20) {
                segment.window = if is_odd(2) { 0 } else { 200 };
            }
            if is_odd(30) {
                segment.options.ext = Some(Extension { flags: 3, tail: &[0, 0, 0, 9] });
            }
            if is_odd(30) {
                segment.options.ext = Some(Extension { flags: step as u8, tail: &[] });
            }
            if is_odd(40) {
                let stamp = segment.options.timestamps.unwrap();
                segment.options.timestamps = Some(Timestamps { val: stamp.val.wrapping_sub(9), ..stamp });
            }
            // The FIN comes first, then what it follows.
            if step == 140 {
                segment = twins.short.segment();
                segment.flags |= Flags::FIN;
                segment.seq = twins.short.seq(1432);
            } else if step > 140 {
                segment = Segment { payload: &payload, ..twins.short.segment() };
            }
            twins.get(&segment, is_odd(30), is_odd(50));
            for solo in [&mut twins.short, &mut twins.long] {
                solo.ts += 1;
            }
            if is_odd(8) {
                twins.assert_alike(&segment.to_string());
            }
            if is_odd(5) {
                twins.pass(3);
            }
            if is_odd(25) {
                for solo in [&mut twins.short, &mut twins.long] {
                    solo.conn.write(solo.now, b"answer").ok();
                }
            }
            if !is_odd(4) {
                let read = [&mut twins.short, &mut twins.long].map(|solo| {
                    let mut buffer = [0; 3000];
                    solo.conn.read(solo.now, &mut buffer).map_err(|error: ReadError| format!("{error:?}"))
                });
                assert_eq!(read[0], read[1]);
            }
        }
        predicted += twins.predicted;
    }
    assert!(predicted > 300, "{predicted} of 3,000 were predicted");
}
