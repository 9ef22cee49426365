//! A run of segments leaves the connection as each of them by itself would.

use super::pair::{ms, pattern};
use super::solo::{Peer, Solo, emit};
use crate::connection::{Algorithm, Config};
use crate::emulator::Rng;
use crate::wire::{Flags, Integrity, Segment};

const LEN: usize = 1432;

/// Two that have lived through the same, one of them in runs.
struct Twins {
    runs: Solo,
    single: Solo,
}

impl Twins {
    fn pass(&mut self, millis: u64) {
        for solo in [&mut self.runs, &mut self.single] {
            solo.now += ms(millis);
            solo.ts += millis as u32;
            solo.conn.handle_timeout(solo.now);
        }
    }

    /// What both have to say, one segment after another; `single` is asked for one at a time.
    fn assert_alike(&mut self, in_all: bool) -> usize {
        let [runs, single] = [(&mut self.runs, 64), (&mut self.single, 1)].map(|(solo, most)| {
            let (mut out, mut sent) = (vec![], vec![]);
            while let Some(transmit) = solo.conn.poll_transmit(solo.now, most, &mut out) {
                sent.extend(out.chunks(transmit.segment_size.unwrap_or(transmit.size)).map(<[u8]>::to_vec));
                out.clear();
            }
            sent
        });
        assert!(runs == single, "{} and {} segments", runs.len(), single.len());
        let count = single.len();
        if in_all {
            let [runs, single] = [&self.runs, &self.single].map(|solo| format!("{:?}", solo.conn));
            let differing = runs.split(", ").zip(single.split(", ")).find(|(run, single)| run != single);
            assert_eq!(differing, None);
        }
        count
    }
}

/// Datagrams of one length in a row, but for the last, with a few that do not belong.
fn row(solo: &Solo, rng: &mut Rng) -> Vec<Vec<u8>> {
    let key = solo.conn.keys.unwrap().1;
    let (count, mut at) = (1 + rng.below(50), 0);
    let payload = pattern(LEN, 3);
    let mut datagrams = vec![];
    for index in 0..count {
        let mut segment = Segment { seq: solo.seq(at), payload: &payload, ..solo.segment() };
        let mut is_odd = |one_in: u64| rng.below(one_in) == 0;
        if is_odd(120) {
            segment.flags |= if is_odd(2) { Flags::PSH } else { Flags::CWR };
        }
        if is_odd(120) {
            segment.window += 1;
        }
        if is_odd(200) {
            segment.options.ext.as_mut().unwrap().flags = 1;
        }
        if is_odd(150) {
            at += LEN as i64; // one is missing
            segment.seq = solo.seq(at);
        }
        if index + 1 == count && is_odd(3) {
            segment.payload = &payload[..700];
            segment.flags |= Flags::PSH;
        }
        let mut datagram = emit(&segment, Integrity::Crc { key });
        if is_odd(150) {
            *datagram.last_mut().unwrap() ^= 1;
        }
        at += segment.payload.len() as i64;
        datagrams.push(datagram);
    }
    datagrams
}

#[test]
fn what_arrives_in_a_row_is_taken_as_if_it_came_one_by_one() {
    let (mut in_runs, mut all, mut rng) = (0, 0, Rng::new(11));
    for round in 0..8 {
        let config = Config { recv_buffer: 40_000 << (round % 4), ..Config::default() };
        let [runs, single] = [(); 2].map(|()| Solo::server(&config, Peer::Extension));
        let mut twins = Twins { runs, single };
        for _ in 0..40 {
            let datagrams = row(&twins.runs, &mut rng);
            let (bytes, ce) = (datagrams.concat(), rng.below(15) == 0);
            let mut at = 0;
            while at < bytes.len() {
                let stride = datagrams[0].len().min(bytes.len() - at);
                let (datagram, rest) = bytes[at..].split_at(stride);
                let segment = Segment::parse(datagram).unwrap();
                let more = twins.runs.conn.handle_row(twins.runs.now, &segment, datagram, rest, ce);
                in_runs += more / stride;
                at += stride + more;
            }
            for datagram in &datagrams {
                let segment = Segment::parse(datagram).unwrap();
                twins.single.conn.handle_segment(twins.single.now, &segment, datagram, ce);
            }
            all += datagrams.len();
            if rng.below(3) > 0 {
                let in_all = rng.below(8) == 0;
                twins.assert_alike(in_all);
            }
            if rng.below(4) > 0 {
                for solo in [&mut twins.runs, &mut twins.single] {
                    let _ = solo.conn.read(solo.now, &mut [0; 200_000]);
                }
            }
            twins.pass(rng.below(4));
        }
        twins.assert_alike(true);
    }
    assert!(in_runs > all / 4, "{in_runs} of {all}");
}

#[test]
fn what_leaves_in_a_run_is_what_would_leave_one_by_one() {
    let (mut sent, mut rng) = (0, Rng::new(12));
    for round in 0..12 {
        let algorithm = match round % 3 {
            0 => Algorithm::Bbr,
            1 => Algorithm::Cubic,
            _ => Algorithm::Fixed { window: 100_000 },
        };
        let config = Config { algorithm, nodelay: round % 2 == 0, ..Config::default() };
        let [runs, single] = [(); 2].map(|()| Solo::server(&config, Peer::Extension));
        let mut twins = Twins { runs, single };
        for step in 0..60 {
            // The end of the stream, too, falls on that of a full segment.
            let mss = twins.runs.conn.snd.mss;
            let whole = step > 50 || rng.below(3) == 0;
            let len = if whole { (1 + rng.below(60) as usize) * mss } else { 1 + rng.below(90_000) as usize };
            let data = pattern(len, 5);
            let lag = rng.below(60_000);
            for solo in [&mut twins.runs, &mut twins.single] {
                let _ = solo.conn.write(solo.now, &data);
                if step == 55 {
                    solo.conn.finish(solo.now);
                }
            }
            sent += twins.assert_alike(step % 20 == 7);
            twins.pass(1 + rng.below(20));
            sent += twins.assert_alike(false);
            let snd = &twins.runs.conn.snd;
            let acked = (snd.nxt - snd.una).saturating_sub(lag) / mss as u64 * mss as u64;
            let ack = snd.space.wrap(snd.una + acked);
            let window = if rng.below(10) == 0 { 200 } else { 60_000 };
            for solo in [&mut twins.runs, &mut twins.single] {
                let segment = Segment { ack, window, ..solo.segment() };
                solo.gets_quietly(&segment);
            }
        }
    }
    assert!(sent > 5_000, "{sent}");
}
