//! The link goes away and comes back: how soon data flows again, and what asks for it meanwhile.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::pair::{Pair, ms, pattern};
use super::solo::{Peer, Sent, Solo};
use crate::connection::{Algorithm, Config, End, Error, State};
use crate::emulator::{Impairments, Outage, RateStep, Window};
use crate::time::Time;
use crate::wire::{Extension, Flags, Segment, ext_flags};

/// Which way is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dead {
    Both,
    Forward,
    Backward,
}

/// `rate` in Mbit/s, a queue of 64 KB or of a quarter of the bandwidth-delay product.
fn link(one_way: Duration, rate: u64) -> Impairments {
    let bytes_per_ms = rate * 125;
    Impairments {
        delay: one_way,
        rate_bit_per_s: Some(rate * 1_000_000),
        queue_bytes: Some(64_000.max(one_way.as_millis() as usize * bytes_per_ms as usize / 2)),
        ..Impairments::default()
    }
}

/// How long after the return of the link data arrives again, and how long until the stream goes on.
fn resumes_after(rtt: Duration, outage: Duration, phase: Duration, dead: Dead) -> (Duration, Duration) {
    let link = || link(rtt / 2, if rtt < ms(100) { 10 } else { 3 });
    let mut pair = Pair::new(&Config::default(), link(), link(), 3);
    let from = pair.now + ms(1000) + 10 * rtt + phase; // start-up is over
    let back = from + outage;
    let blackouts = vec![Window { from, until: back }];
    if dead != Dead::Backward {
        pair.ab.set_impairments(Impairments { blackouts: blackouts.clone(), ..link() });
    }
    if dead != Dead::Forward {
        pair.ba.set_impairments(Impairments { blackouts, ..link() });
    }
    pair.a.to_write = pattern(8 << 20, 1);
    while pair.step(back) {}
    let before = pair.b.received.len();
    assert!(before > 100_000, "it flowed");
    let mut sent = None;
    while pair.b.received.len() == before {
        assert!(pair.step(back + ms(60_000)), "{rtt:?} {outage:?} {phase:?} {dead:?}: never");
        sent = sent.or(Some(pair.a.conn().snd.last_sent).filter(|at| *at >= back));
    }
    (sent.map_or(Duration::ZERO, |at| at - back) + rtt / 2, pair.now - back)
}

/// The slowest of many moments at which the link may go, for outages of `outage` and a little more, but not more
/// than the 10 s after which questions grow rare.
fn slowest(rtt: Duration, outage: Duration, dead: Dead) -> (Duration, Duration) {
    let after = |i| resumes_after(rtt, (outage + i * ms(47)).min(ms(10_000).max(outage)), i * ms(61), dead);
    let all: Vec<_> = (0..6).map(after).collect();
    (all.iter().map(|a| a.0).max().unwrap(), all.iter().map(|a| a.1).max().unwrap())
}

#[test]
fn data_flows_again_within_300_ms_and_two_round_trips_of_the_links_return() {
    for rtt in [3, 40, 600] {
        for outage in [500, 1000, 2000, 5000, 10_000] {
            for dead in [Dead::Both, Dead::Forward, Dead::Backward] {
                let after = slowest(ms(rtt), ms(outage), dead);
                // 5 ms: what is sent first after an outage has segments ahead of it in the link's queue.
                assert!(after.0 <= ms(305 + 2 * rtt), "{rtt} ms, {outage} ms, {dead:?}: {after:?}");
                // After a short outage of a long path the stream waits for a repair that needs no timeout.
                let is_repair = ms(outage) < 4 * ms(rtt);
                assert!(
                    after.1 <= ms(300 + if is_repair { 4 } else { 2 } * rtt),
                    "{rtt} {outage} {dead:?}: {after:?}"
                );
            }
        }
    }
}

/// After 10 s the gap between two questions doubles, to 5 s.
#[test]
fn after_half_a_minute_it_takes_at_most_five_seconds() {
    for rtt in [3, 40, 600] {
        let after = slowest(ms(rtt), ms(30_000), Dead::Both);
        assert!(after.1 <= ms(5000 + 2 * rtt), "{rtt} ms: {after:?}");
    }
}

/// Six times 250 ms with 5 ms between them, from `from` on.
fn suspensions(from: Time) -> Vec<Window> {
    let window = |i| Window { from: from + i * ms(255), until: from + i * ms(255) + ms(250) };
    (0..6).map(window).collect()
}

/// picoquic's "bad hour": 3 ms one way, 20 Mbit/s, 3 MB. The station sleeps: what comes meanwhile waits, or is lost.
#[test]
fn six_suspensions_in_a_row_cost_little_more_than_they_last() {
    for is_lost in [true, false] {
        for start in [100, 400, 700, 1000] {
            let mut impaired = link(ms(3), 20);
            let windows = suspensions(Time::from_nanos(1_000_000_000) + ms(start));
            if is_lost {
                impaired.blackouts = windows;
            } else {
                let stands = |at, rate| RateStep { at, rate_bit_per_s: Some(rate) };
                impaired.rate_steps =
                    windows.iter().flat_map(|w| [stands(w.from, 0), stands(w.until, 20_000_000)]).collect();
            }
            let mut pair = Pair::new(&Config::default(), impaired.clone(), impaired, 1);
            pair.a.to_write = pattern(3_000_000, 1);
            let took = pair.run_to_end(ms(20_000));
            pair.assert_exact();
            assert!(took <= ms(4500), "lost {is_lost}, from {start} ms: {took:?}");
        }
    }
}

#[test]
fn a_handshake_over_five_seconds_each_way_completes() {
    let far = Impairments { delay: ms(5000), ..Impairments::default() };
    let mut pair = Pair::new(&Config::default(), far.clone(), far, 1);
    pair.a.to_write = pattern(10_000, 1);
    let took = pair.run_to_end(ms(120_000));
    pair.assert_exact();
    // SYN, SYN-ACK, data, FIN both ways, and their ACKs: three round trips.
    assert!(took <= ms(31_000), "{took:?}");
    assert_eq!(pair.a.conn().stats().rto_count, 0, "a timeout that knows the path");
}

/// 10 MB at 10 Mbit/s over 40 ms, dead for every other two seconds. Of each two good seconds, 380 ms may pass
/// until data flows and 7 round trips until slow start has the window back: 1.3 s are left, 7 periods are needed.
#[test]
fn two_seconds_on_and_two_seconds_off_halve_the_speed_and_little_more() {
    let half = Impairments { outage: Some(Outage { every: ms(4000), length: ms(2000) }), ..link(ms(20), 10) };
    let mut pair = Pair::new(&Config::default(), half.clone(), half, 1);
    pair.a.to_write = pattern(10_000_000, 1);
    let took = pair.run_to_end(ms(120_000));
    pair.assert_exact();
    assert!(took <= ms(28_000), "{took:?}");
}

fn with(algorithm: Algorithm) -> Config {
    Config { algorithm, ..Config::default() }
}

fn is_probe(segment: &Segment<'_>) -> bool {
    segment.is_probe_or_echo() && segment.options.ext.is_some_and(|ext| ext.flags & ext_flags::PROBE != 0)
}

fn is_question(sent: &Sent) -> bool {
    is_probe(&sent.segment()) && sent.bytes().len() <= 48
}

/// A connection that has measured a path of 20 ms, with `config`.
fn settled(config: &Config, peer: Peer) -> Solo {
    let mut solo = Solo::client(config, peer);
    for _ in 0..64 {
        solo.conn.write(solo.now, b"a path without loss").unwrap();
        solo.output();
        solo.now += ms(20);
        solo.gets_ack();
    }
    solo
}

fn gaps_ms(sent: &[(Time, Sent)]) -> Vec<u64> {
    sent.windows(2).map(|w| (w[1].0 - w[0].0).as_millis() as u64).collect()
}

#[test]
fn questions_replace_the_timeouts_after_two_and_grow_rare_after_ten_seconds() {
    let mut solo = settled(&Config::default(), Peer::Extension);
    solo.conn.write(solo.now, b"x").unwrap();
    let began = solo.now;
    let sent = solo.run(ms(90_000));
    let first = sent.iter().position(|(_, s)| is_question(s)).expect("questions");
    // The segment, its tail loss probe, two timeouts; the second of them is not backed off far, as the peer was
    // heard a moment ago.
    assert_eq!(first, 4);
    assert!(sent[first..].iter().all(|(_, s)| is_question(s)), "and nothing else any more");
    assert_eq!(solo.conn.stats().rto_count, 2);
    let gaps = gaps_ms(&sent[first..]);
    assert_eq!(gaps[..3], [200, 250, 250], "as the timeout would have grown");
    let slowing = gaps.iter().position(|gap| *gap > 250).expect("it grows rare");
    let steady = (sent[first + slowing].0 - began).as_millis();
    assert!((10_000..11_000).contains(&steady), "{steady}");
    assert_eq!(gaps[slowing..][..5], [500, 1000, 2000, 4000, 5000]);
    assert!(gaps[slowing + 4..].iter().all(|gap| *gap == 5000));
}

#[test]
fn a_plain_peer_is_asked_by_retransmissions_as_ever() {
    for peer in [Peer::Plain, Peer::Bare] {
        let mut solo = settled(&Config::default(), peer);
        solo.conn.write(solo.now, b"x").unwrap();
        let sent = solo.run(ms(90_000));
        assert!(sent.iter().all(|(_, s)| s.segment().payload == b"x"));
        assert!(solo.conn.stats().rto_count > 4);
    }
}

#[test]
fn a_dead_peer_is_given_up_at_the_user_timeout() {
    let config = Config { user_timeout: ms(30_000), ..Config::default() };
    let mut solo = settled(&config, Peer::Extension);
    solo.conn.write(solo.now, b"x").unwrap();
    let start = solo.now;
    let sent = solo.run(ms(60_000));
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::UserTimeout)));
    let (at, last) = sent.last().expect("an RST");
    assert!(last.segment().flags.contains(Flags::RST) && *at - start == ms(30_000));
}

/// The peer's connection lives, the data does not pass: answers to questions are no progress.
#[test]
fn echoes_alone_do_not_keep_a_connection() {
    let config = Config { user_timeout: ms(30_000), ..Config::default() };
    let mut solo = settled(&config, Peer::Extension);
    solo.conn.write(solo.now, b"x").unwrap();
    let una = solo.una(0);
    for _ in 0..400 {
        for (_, sent) in solo.run(ms(100)) {
            if is_question(&sent) {
                let like = Segment { ack: una, ..solo.segment() };
                gets_echo(&mut solo, &like, &sent);
            }
        }
    }
    assert_eq!(solo.conn.end(), Some(End::Failed(Error::UserTimeout)));
}

/// The peer's ECHO of `question`, with the fields of `like`.
fn gets_echo(solo: &mut Solo, like: &Segment<'static>, question: &Sent) -> Vec<Sent> {
    let nonce = question.segment().options.ext.and_then(|ext| ext.nonce()).expect("a nonce");
    let mut echo = Segment { ..*like };
    echo.options.ext = Some(Extension { flags: ext_flags::ECHO, tail: &nonce });
    solo.gets(&echo)
}

/// Ten segments in flight when the path goes, and its first question. With CUBIC, which does not pace them.
fn silenced() -> (Solo, Sent) {
    let mut solo = settled(&with(Algorithm::Cubic), Peer::Extension);
    solo.conn.write(solo.now, &pattern(11_000, 1)).unwrap();
    assert_eq!(solo.output().len(), 10);
    let sent = solo.run(ms(600));
    solo.ts += 600;
    let question = sent.into_iter().map(|(_, s)| s).rfind(is_question).expect("a question");
    (solo, question)
}

#[test]
fn an_echo_brings_the_initial_window_back_at_once_and_confirms_no_mtu() {
    let (mut solo, question) = silenced();
    let like = Segment { ack: solo.una(0), ..solo.segment() };
    let size = solo.conn.stats().max_datagram;
    let sent = gets_echo(&mut solo, &like, &question);
    assert!(sent.len() >= 6, "{} segments: the window is what the timeout left of ten", sent.len());
    assert!(sent.iter().all(|s| !s.segment().payload.is_empty()));
    assert_eq!(sent[0].segment().seq, solo.una(0), "what is missing first");
    assert_eq!((solo.conn.stats().max_datagram, solo.conn.snd.backoff), (size, 0));
    assert!(solo.conn.snd.rto() < ms(100), "the outage was no round trip");
}

#[test]
fn an_echo_of_what_nobody_asked_is_only_a_sign_of_life() {
    let (mut solo, _) = silenced();
    let mut forged = Segment { ack: solo.una(0), ..solo.segment() };
    forged.options.ext = Some(Extension { flags: ext_flags::ECHO, tail: &[7; 8] });
    assert_eq!(solo.gets(&forged).len(), 1, "one segment asks");
    assert!((0..10).all(|_| solo.gets(&forged).is_empty()), "and one only");
}

#[test]
fn a_word_of_the_peer_after_the_silence_lets_one_segment_out() {
    let (mut solo, _) = silenced();
    let word = Segment { ack: solo.una(0), payload: b"hello", ..solo.segment() };
    let sent = solo.gets(&word);
    let data: Vec<_> = sent.iter().filter(|s| !s.segment().payload.is_empty()).collect();
    assert_eq!(data.len(), 1);
    assert_eq!(data[0].segment().seq, solo.una(0));
    // Its own way is dead: it goes on talking, and we do not answer each word with a segment.
    let mut out = 0;
    for i in 0..50u8 {
        let word = Segment { ack: solo.una(0), payload: &[i], ..solo.segment() };
        let after = solo.gets(&word);
        out += after.iter().filter(|s| !s.segment().payload.is_empty()).count();
        let later = solo.run(ms(20));
        out += later.iter().filter(|(_, s)| !s.segment().payload.is_empty()).count();
    }
    assert!(out <= 4, "{out} segments in a second");
}

/// Both ways are dead from now on. Of what each side sends: is it a PROBE?
fn cut(pair: &mut Pair) -> Rc<RefCell<[Vec<bool>; 2]>> {
    let seen = Rc::new(RefCell::new([vec![], vec![]]));
    let log = Rc::clone(&seen);
    pair.filter = Box::new(move |from_a, _, datagram| {
        let segment = Segment::parse(datagram).expect("what we send parses");
        log.borrow_mut()[usize::from(!from_a)].push(is_probe(&segment));
        false
    });
    seen
}

#[test]
fn who_only_receives_asks_nothing_and_an_idle_pair_is_silent() {
    let mut pair = Pair::connected(&Config::default());
    pair.a.to_write = pattern(8 << 20, 1);
    pair.run_for(ms(200));
    let seen = cut(&mut pair);
    pair.run_for(ms(10_000));
    let seen = seen.borrow();
    assert!(seen[0].iter().filter(|is_probe| **is_probe).count() >= 30, "the sender asks");
    assert!(!seen[1].contains(&true), "the receiver waits");
}

#[test]
fn an_outage_during_the_farewell_holds_it_up_and_no_more() {
    for delay in [0, 5, 11, 15, 21, 25, 31, 35] {
        let mut pair = Pair::connected(&Config::default());
        (pair.a.to_write, pair.b.to_write) = (pattern(60_000, 1), pattern(60_000, 2));
        pair.run_for(ms(1000));
        (pair.a.to_write, pair.b.to_write) = (pattern(63_000, 1), pattern(62_000, 2));
        pair.a.finish_when_written = true;
        pair.b.finish_when_written = true;
        pair.run_for(ms(delay));
        cut(&mut pair);
        pair.run_for(ms(8000));
        pair.filter = Box::new(|_, _, _| true);
        let took = pair.run_to_end(ms(10_000));
        pair.assert_exact();
        assert!(took <= ms(600), "{delay}: {took:?}");
        assert!(pair.a.conn().state() != State::Established);
    }
}

/// Two timeouts in a row are ordinary here: if each pair of them made data wait for an answer that half of the
/// time is lost, these links would crawl. CUBIC, whose window collapses, has many; BBR few or none.
#[test]
fn at_half_loss_both_ways_data_itself_goes_on_asking() {
    let lossy = Impairments { loss: 0.5, ..link(ms(10), 10) };
    for (algorithm, timeouts_min) in [(Algorithm::Cubic, 50), (Algorithm::Bbr, 0)] {
        let (mut asked, mut timeouts) = (0, 0);
        for seed in 0..5 {
            let config = Config { connect_timeout: ms(180_000), ..with(algorithm) };
            let mut pair = Pair::new(&config, lossy.clone(), lossy.clone(), seed);
            pair.a.to_write = pattern(200_000, 1);
            pair.run_to_end(ms(200_000));
            pair.assert_exact();
            asked += pair.a.conn().snd.liveness.probes();
            timeouts += pair.a.conn().stats().rto_count;
        }
        assert!(
            timeouts >= timeouts_min && asked <= 2 + timeouts / 10,
            "{algorithm:?}: {asked} questions, {timeouts} timeouts"
        );
    }
}
