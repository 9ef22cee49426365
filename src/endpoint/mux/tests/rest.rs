//! Who may wake a connection that rests.

use super::*;
use crate::wire::{Extension, Options};

/// A and B hold a connection that has moved a byte and rests at both ends; also the segment that moved it.
fn rested(config: &Config) -> (Net, [ConnId; 2], Vec<u8>) {
    let mut net = Net::new(mux_with(1000, 10, config.clone()), mux_with(2000, 10, config.clone()));
    let options = ConnectOptions { config: config.clone(), ..options(7) };
    let (a, _) = net.ends[0].connect(net.now, addr(B), options).unwrap();
    assert!(net.run_until(|ends| ends[1].has_events()));
    let b = net.events(1)[0].conn;
    net.ends[0].write(net.now, a, b"x").unwrap();
    net.collect();
    let sent = net.wire.back().unwrap().2.clone();
    assert!(net.run_until(|ends| ends[1].has_events()));
    assert_eq!(net.read_all(1, b).unwrap(), b"x");
    net.run_until(|_| false);
    assert!(is_at_rest(&net, b));
    (net, [a, b], sent)
}

fn is_at_rest(net: &Net, id: ConnId) -> bool {
    matches!(net.ends[1].connection(id).unwrap(), View::Dormant(_))
}

/// A segment as A's connection would send it `offset` bytes from where B expects it, but for the seal.
fn forged(last: &[u8], flags: Flags, offset: u32, payload: &[u8], seal: Integrity) -> Vec<u8> {
    let last = Segment::parse(last).unwrap();
    let ext = (seal != Integrity::Checksum).then(Extension::default);
    let options = Options { timestamps: last.options.timestamps, ext, ..Options::default() };
    let seq = last.seq + last.payload.len() as u32 + offset;
    let mut datagram = Vec::new();
    Segment { flags, seq, payload, options, ..last }.emit(&mut datagram, seal);
    datagram
}

#[test]
fn what_the_key_does_not_fit_wakes_nobody_and_is_counted() {
    let (mut net, [_, b], last) = rested(&Config::default());
    let before = net.ends[1].stats();
    let dropped = |net: &Net| net.ends[1].connection(b).unwrap().stats().packets_dropped;
    assert_eq!(dropped(&net), 0);
    for key in 1..100 {
        let datagram = forged(&last, Flags::ACK, 0, b"forged", Integrity::Crc { key });
        net.ends[1].handle_datagram(net.now, addr(A), None, false, &datagram);
        assert!(is_at_rest(&net, b));
    }
    assert!(answers(&mut net.ends[1], net.now).is_empty());
    let after = net.ends[1].stats();
    assert_eq!(after.packets_corrupt, before.packets_corrupt + 99);
    assert_eq!(after.packets_dropped, before.packets_dropped + 99);
    assert_eq!(dropped(&net), 99, "of this connection, and still once it is awake");
    net.ends[1].slots.get_mut(b).unwrap().life.wake();
    assert_eq!((dropped(&net), net.ends[1].stats().packets_dropped), (99, after.packets_dropped));
}

/// Waking costs memory and thousands of instructions: a flood of what anyone can make pays no more than the check.
#[test]
fn what_nobody_answers_does_not_even_wake_it_for_a_moment() {
    let plain = Config { integrity: IntegrityMode::Off, ..Config::default() };
    let (far, near) = (1 << 30, 9);
    let cases = [
        (Config::default(), Flags::RST, far, Integrity::CrcAndChecksum, 0),
        (Config::default(), Flags::RST, near, Integrity::CrcAndChecksum, 12),
        (Config::default(), Flags::SYN, 0, Integrity::CrcAndChecksum, 12),
        (plain.clone(), Flags::RST, far, Integrity::Checksum, 0),
        (plain.clone(), Flags::RST, near, Integrity::Checksum, 12),
        (plain.clone(), Flags::SYN, 0, Integrity::Checksum, 12),
        (plain, Flags::ACK, far, Integrity::Checksum, 12),
    ];
    for (config, flags, offset, seal, answers_max) in cases {
        let (mut net, [_, b], last) = rested(&config);
        let datagram = forged(&last, flags, offset, b"", seal);
        let segment = Segment::parse(&datagram).unwrap();
        let mut woken = 0;
        for _ in 0..100 {
            let slot = net.ends[1].slots.get_mut(b).unwrap();
            woken += usize::from(!slot.life.absorbs(net.now, &segment, &datagram));
            net.ends[1].handle_datagram(net.now, addr(A), None, false, &datagram);
            answers(&mut net.ends[1], net.now);
        }
        assert!(woken <= answers_max, "{flags:?} {offset}: {woken}");
    }
}

#[test]
fn data_and_the_reset_that_fits_are_the_peers_and_wake_it() {
    let plain = Config { integrity: IntegrityMode::Off, ..Config::default() };
    for (flags, offset, payload) in
        [(Flags::ACK, 0, &b"more"[..]), (Flags::ACK, 1 << 30, b"far"), (Flags::RST, 0, b"")]
    {
        let (mut net, [_, b], last) = rested(&plain);
        let datagram = forged(&last, flags, offset, payload, Integrity::Checksum);
        let segment = Segment::parse(&datagram).unwrap();
        let slot = net.ends[1].slots.get_mut(b).unwrap();
        assert!((0..100).all(|_| !slot.life.absorbs(net.now, &segment, &datagram)), "{flags:?} {offset}");
    }
}

#[test]
fn what_is_only_challenged_is_answered_and_keeps_nobody_awake() {
    let plain = Config { integrity: IntegrityMode::Off, ..Config::default() };
    let cases = [
        (Config::default(), Flags::SYN, 0, Integrity::CrcAndChecksum),
        (Config::default(), Flags::RST, 9, Integrity::CrcAndChecksum),
        (plain.clone(), Flags::SYN, 0, Integrity::Checksum),
        (plain.clone(), Flags::RST, 9, Integrity::Checksum),
        (plain, Flags::ACK, 1 << 30, Integrity::Checksum),
    ];
    for (config, flags, offset, seal) in cases {
        let (mut net, [a, b], last) = rested(&config);
        let mut answered = 0;
        for _ in 0..100 {
            let datagram = forged(&last, flags, offset, b"", seal);
            net.ends[1].handle_datagram(net.now, addr(A), None, false, &datagram);
            answered += answers(&mut net.ends[1], net.now).len();
            assert!(is_at_rest(&net, b), "{flags:?}");
        }
        assert!((1..=12).contains(&answered), "{answered} answers to {flags:?}");
        net.ends[0].write(net.now, a, b"still here").unwrap();
        assert!(net.run_until(|ends| ends[1].has_events()));
        assert!(!is_at_rest(&net, b), "its peer does wake it");
        assert_eq!(net.read_all(1, b).unwrap(), b"still here");
    }
}
