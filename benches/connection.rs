//! Two connections in memory, no sockets: what one byte of a bulk transfer costs in `wire` and `connection`.
//!
//! `cargo bench --bench connection` prints the median of several runs.

use std::time::{Duration, Instant};

use rtcp::connection::{Config, Connection, Identity, Offer, PathMtu, emit_syn_ack};
use rtcp::time::Time;
use rtcp::wire::{Segment, SeqNum};

const TOTAL: usize = 1 << 30;
const BLOCK: usize = 128 << 10;

fn identity(local_port: u16, peer_port: u16, iss: u32) -> Identity {
    Identity { local_port, peer_port, iss: SeqNum::new(iss), ts_offset: iss }
}

/// Moves everything `from` has to send to `to`; says whether anything moved.
fn carry(now: Time, from: &mut Connection, to: &mut Connection, batch: &mut Vec<u8>) -> bool {
    let mut moved = false;
    loop {
        batch.clear();
        let Some(transmit) = from.poll_transmit(now, 44, batch) else { return moved };
        moved = true;
        for datagram in batch.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
            let segment = Segment::parse(datagram).expect("our own segments parse");
            to.handle_segment(now, &segment, datagram, false);
        }
    }
}

fn connected(now: Time, config: &Config) -> (Connection, Connection) {
    let mut out = Vec::with_capacity(1 << 16);
    let mut a = Connection::connect(now, config, identity(1, 2, 100));
    a.poll_transmit(now, 1, &mut out);
    let syn = Segment::parse(&out).expect("a SYN");
    let offer = Offer::from_segment(&syn, &out);
    let mut answer = vec![];
    let terms =
        emit_syn_ack(config, 2, 1, SeqNum::new(200), 0, &offer, out.len(), &mut answer).expect("agreed");
    let mut b = Connection::accept(now, config, identity(2, 1, 200), &offer, terms, Some(now));
    a.handle_segment(now, &Segment::parse(&answer).expect("a SYN-ACK"), &answer, false);
    carry(now, &mut a, &mut b, &mut out);
    (a, b)
}

fn run(max_datagram: usize) -> f64 {
    let config = Config { mtu: PathMtu::Fixed(max_datagram), ..Config::default() };
    let mut now = Time::from_nanos(1_000_000_000);
    let (mut a, mut b) = connected(now, &config);
    let (block, mut sink, mut batch) = (vec![7u8; BLOCK], vec![0u8; BLOCK], Vec::with_capacity(1 << 16));
    let (mut written, mut read) = (0, 0);
    let begin = Instant::now();
    while read < TOTAL {
        now += Duration::from_micros(20);
        while written < TOTAL
            && let Ok(n) = a.write(now, &block[..BLOCK.min(TOTAL - written)])
        {
            written += n;
        }
        carry(now, &mut a, &mut b, &mut batch);
        while let Ok(n) = b.read(now, &mut sink) {
            read += n;
        }
        if !carry(now, &mut b, &mut a, &mut batch) {
            now += Duration::from_millis(1);
            a.handle_timeout(now);
            b.handle_timeout(now);
        }
    }
    TOTAL as f64 * 8.0 / begin.elapsed().as_secs_f64() / 1e9
}

fn main() {
    println!("| UDP payload | Gbit/s, both ends on one core |\n|---:|---:|");
    for max_datagram in [1200, 1472] {
        let mut runs: Vec<f64> = (0..5).map(|_| run(max_datagram)).collect();
        runs.sort_by(f64::total_cmp);
        println!("| {max_datagram} | {:.1} ({:.1}..{:.1}) |", runs[2], runs[0], runs[4]);
    }
}
