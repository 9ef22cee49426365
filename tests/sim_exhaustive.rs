//! Small worlds, complete: every way to lose, double, delay or damage the segments of a short conversation.

mod sim;

use std::time::Duration;

use rtcp::connection::{Config, IntegrityMode, PathMtu};
use sim::app::{Finish, Plan};
use sim::{Fate, Tap, World, clean, ms, seconds};

/// The first so many segments, both directions counted together, are tampered with.
const SEGMENTS: u64 = 16;
/// RTOs back off to seconds, and SYNs to 15 s apart; two losses cannot take longer.
const LIMIT: Duration = Duration::from_secs(30);

fn config() -> Config {
    Config { mtu: PathMtu::Fixed(600), connect_timeout: seconds(120), ..Config::default() }
}

/// Request and response of several segments each; `finish` is the server's.
fn conversation(config: &Config, tap: Option<Tap>, finish: Finish) -> World {
    let mut world = World::simple(config, [clean(ms(20)), clean(ms(20))], 5);
    world.tap = tap;
    let client = Plan::eager(2_500, 4_000, 1);
    let server = Plan { finish, ..client.mirrored() };
    world.begin(config, 0, client, server);
    world
}

/// Plays it to the end under `tap`; exact, within `limit`.
fn must_complete(what: &str, tap: Tap, finish: Finish, limit: Duration) -> Duration {
    let mut world = conversation(&config(), Some(tap), finish);
    let took = world.run_until(limit, World::is_over);
    let took = took.unwrap_or_else(|| panic!("{what}: it hangs: {}", world.describe()));
    assert!(world.apps().all(sim::app::App::is_exact), "{what}: {}", world.describe());
    world.run_for(seconds(150));
    assert!(world.hosts.iter().all(|host| host.mux.is_quiet()), "{what}");
    took
}

fn tap_on<const N: usize>(chosen: [u64; N], fate: fn() -> Fate) -> Tap {
    Box::new(move |_, number, _| if chosen.contains(&number) { fate() } else { Fate::Pass })
}

/// Every subset of one or two of the first segments, with either side closing first.
fn for_every_pair(mut check: impl FnMut([u64; 2], Finish)) {
    for finish in [Finish::WhenWritten, Finish::AfterPeer] {
        for first in 0..SEGMENTS {
            for second in first..SEGMENTS {
                check([first, second], finish);
            }
        }
    }
}

#[test]
fn the_conversation_has_as_many_segments_as_are_tampered_with() {
    let mut world = conversation(&config(), None, Finish::AfterPeer);
    assert!(world.run_until(LIMIT, World::is_over).is_some());
    world.assert_exact();
    world.run_for(seconds(1));
    assert!(world.sent >= SEGMENTS, "{} segments", world.sent);
}

#[test]
fn every_loss_of_up_to_three_segments_is_made_good() {
    let mut longest = Duration::ZERO;
    for_every_pair(|chosen, finish| {
        for third in chosen[1]..SEGMENTS {
            let chosen = [chosen[0], chosen[1], third];
            let tap = tap_on(chosen, || Fate::Drop);
            longest = longest.max(must_complete(&format!("lost {chosen:?}"), tap, finish, LIMIT));
        }
    });
    // No three cost more than the opener's or the timers' first few back-offs.
    assert!(longest < seconds(3), "{longest:?}");
}

#[test]
fn every_duplication_of_up_to_two_segments_is_harmless() {
    for_every_pair(|chosen, finish| {
        must_complete(&format!("doubled {chosen:?}"), tap_on(chosen, || Fate::Twice), finish, seconds(2));
    });
}

#[test]
fn every_delay_of_up_to_two_segments_is_harmless() {
    for delay in [|| Fate::Late(ms(50)), || Fate::Late(ms(700)), || Fate::Late(seconds(8))] {
        for_every_pair(|chosen, finish| {
            must_complete(&format!("late {chosen:?}"), tap_on(chosen, delay), finish, LIMIT);
        });
    }
}

/// A copy that comes long after: when the connection is closing, in TIME-WAIT, or forgotten.
#[test]
fn an_old_duplicate_of_each_segment_changes_nothing_whenever_it_comes() {
    for finish in [Finish::WhenWritten, Finish::AfterPeer] {
        for chosen in 0..SEGMENTS {
            for after in [ms(30), ms(130), seconds(1), seconds(45), seconds(140)] {
                let mut copy = None;
                let mut world = conversation(&config(), None, finish);
                let (sender, receiver) = std::sync::mpsc::channel();
                world.tap = Some(Box::new(move |from, number, bytes| {
                    if number == chosen {
                        sender.send((from, bytes.clone())).expect("the receiver outlives the world");
                    }
                    Fate::Pass
                }));
                let end = world.now + seconds(200);
                let mut due = None;
                while world.step(due.unwrap_or(end).min(end)) || due.is_some() {
                    if let Ok(seen) = receiver.try_recv() {
                        copy = Some(seen);
                        due = Some(world.now + after);
                    }
                    if due.is_some_and(|due| due <= world.now)
                        && let Some((from, bytes)) = copy.take()
                    {
                        world.links[from].push(world.now, (), &bytes);
                        due = None;
                    }
                }
                assert!(world.is_over(), "copy of {chosen} after {after:?}: {}", world.describe());
                world.assert_exact();
                assert_eq!(world.hosts[0].mux.connections() + world.hosts[1].mux.connections(), 0);
            }
        }
    }
}

/// CRC-32C rejects each of these, as does the 16-bit sum, so to the connection it is a loss.
#[test]
fn every_flip_of_a_header_bit_of_every_segment_leaves_the_stream_exact() {
    for integrity in [IntegrityMode::Require, IntegrityMode::Offer, IntegrityMode::Off] {
        let mut flips = 0;
        for number in 0.. {
            for bit in 0.. {
                let (header_bits, world) = with_flip(integrity, number, bit);
                if bit >= header_bits {
                    break;
                }
                flips += 1;
                let exact = world.apps().all(sim::app::App::is_exact) && world.is_over();
                assert!(exact, "{integrity:?}, segment {number}, bit {bit}: {}", world.describe());
            }
            if with_flip(integrity, number, usize::MAX).0 == 0 {
                assert!(number > SEGMENTS, "every segment had its turn");
                break;
            }
        }
        assert!(flips > SEGMENTS * 32 * 8, "{flips} flips");
    }
}

/// The conversation with one bit of one segment's header inverted, and how many bits that header has.
fn with_flip(integrity: IntegrityMode, chosen: u64, bit: usize) -> (usize, World) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let tap: Tap = Box::new(move |_, number, bytes| {
        if number == chosen {
            let header_bits = usize::from(bytes[12] >> 4) * 32;
            if bit < header_bits {
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
            }
            sender.send(header_bits).expect("the receiver outlives the world");
        }
        Fate::Pass
    });
    let mut world = conversation(&Config { integrity, ..config() }, Some(tap), Finish::AfterPeer);
    world.run_until(LIMIT, World::is_over);
    (receiver.try_recv().unwrap_or(0), world)
}
