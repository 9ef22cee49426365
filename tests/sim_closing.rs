//! A process that ends as soon as its close returns: how often is the peer left asking, and what does it cost to
//! stay?

mod sim;

use std::time::Duration;

use rtcp::connection::{Config, State};
use rtcp::emulator::Impairments;
use rtcp::time::Time;
use sim::app::{Finish, Plan};
use sim::{CLIENT, SERVER, World, clean, ms, seconds};

const CLOSES: u64 = 1000;
const ROUND_TRIP: Duration = ms(40);

/// When a close returns: its FIN was acknowledged, and the peer's came, at these times.
type Policy = fn(acked: Time, fin: Option<Time>, now: Time) -> bool;

/// True: the peer still asks 5 s later. And how long the close took after its FIN was acknowledged.
fn close(loss: f64, seed: u64, may_leave: Policy) -> (bool, Duration) {
    let link = Impairments { loss, ..clean(ROUND_TRIP / 2) };
    let config = Config { connect_timeout: seconds(120), ..Config::default() };
    let mut world = World::simple(&config, [link.clone(), link], seed);
    let plan = Plan::eager(60_000, 1, seed);
    let answer = Plan { finish: Finish::AfterPeer, ..plan.mirrored() };
    let id = world.begin(&config, 0, plan, answer);
    let end = world.now + seconds(200);
    let (mut acked, mut fin) = (None, None);
    loop {
        world.settle();
        let state = world.hosts[CLIENT].mux.connection(id).map(|connection| connection.state());
        if matches!(state, None | Some(State::FinWait2 | State::TimeWait | State::Closed)) {
            acked.get_or_insert(world.now);
        }
        if matches!(state, None | Some(State::TimeWait | State::Closed)) {
            fin.get_or_insert(world.now);
        }
        if let Some(acked) = acked.filter(|acked| may_leave(*acked, fin, world.now)) {
            world.hosts[CLIENT].is_alive = false;
            let took = world.now - acked;
            world.run_for(seconds(5));
            return (world.hosts[SERVER].mux.size() > 0, took);
        }
        let soon = world.now + ms(1);
        world.now = world.next_event().map_or(soon, |at| at.min(soon));
        assert!(world.now < end, "seed {seed}: {}", world.describe());
    }
}

/// How many of the closes leave the peer asking, and their mean and longest extra time.
fn closes(loss: f64, may_leave: Policy) -> (u64, Duration, Duration) {
    let results: Vec<_> = (0..CLOSES).map(|seed| close(loss, seed, may_leave)).collect();
    let asking = results.iter().filter(|(asks, _)| *asks).count() as u64;
    let sum: Duration = results.iter().map(|(_, took)| *took).sum();
    (asking, sum / CLOSES as u32, results.iter().map(|(_, took)| *took).max().unwrap_or_default())
}

fn at_once(_: Time, _: Option<Time>, _: Time) -> bool {
    true
}

/// As long as a peer's timer takes that has sent its FIN at once.
fn with_the_fin(acked: Time, fin: Option<Time>, now: Time) -> bool {
    fin.is_some() || now >= acked + 3 * ROUND_TRIP + ms(50)
}

/// One in five at 10 % loss and two in five at 30 %, if the last ACK leaves once and nobody stays.
#[test]
fn a_process_that_ends_with_its_close_leaves_few_peers_asking() {
    for (loss, most_at_once, most) in [(0.0, 0, 0), (0.1, 150, 60), (0.3, 350, 150)] {
        for (name, policy, most) in
            [("at once", at_once as Policy, most_at_once), ("with the FIN", with_the_fin, most)]
        {
            let (asking, mean, longest) = closes(loss, policy);
            eprintln!(
                "loss {loss}, {name}: {asking} of {CLOSES} left asking, {mean:?} longer, at most {longest:?}"
            );
            assert!(asking <= most, "{asking} at a loss of {loss}");
        }
    }
}
