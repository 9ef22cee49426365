//! Beginnings and ends under bad conditions, and many clients at once and one after another.

mod sim;

use std::net::SocketAddr;

use rtcp::connection::{Config, End, Error, IntegrityMode};
use rtcp::emulator::{Impairments, Rng, Window};
use rtcp::endpoint::Mux;
use rtcp::endpoint::mux::ConnectOptions;
use rtcp::wire::{Flags, Integrity, Options, Segment, SeqNum};
use sim::app::{Finish, Leave, Plan};
use sim::{CLIENT, FIRST_PORT, Fate, LISTEN_PORT, SERVER, World, addr, clean, dial, ms, mux_config, seconds};

fn lossy(loss: f64) -> Impairments {
    Impairments { loss, ..clean(ms(20)) }
}

fn patient() -> Config {
    Config { connect_timeout: seconds(120), ..Config::default() }
}

#[test]
fn fifty_handshakes_and_short_transfers_complete_at_thirty_percent_loss_both_ways() {
    for seed in 0..20 {
        let mut world = World::simple(&patient(), [lossy(0.3), lossy(0.3)], seed);
        for number in 0..50 {
            let plan = Plan::eager(1_000, 1_000, u64::from(number));
            world.begin(&patient(), number, plan.clone(), plan.mirrored());
        }
        // SYNs come to be 15 s apart: the last of a thousand may need most of its time.
        let took = world.run_until(seconds(130), World::is_over);
        assert!(took.is_some(), "seed {seed}: {}", world.describe());
        world.assert_exact();
    }
}

/// Dials from the other side, at the same ports.
fn cross_dial(config: &Config) -> ConnectOptions {
    ConnectOptions { local_tcp_port: LISTEN_PORT, remote_tcp_port: FIRST_PORT, ..dial(config, 0) }
}

/// RFC 9293 section 3.5, MUST-10.
#[test]
fn both_sides_may_dial_at_once_whatever_is_lost() {
    for loss in [0.0, 0.3, 0.5] {
        for seed in 0..40 {
            let mut world = World::simple(&patient(), [lossy(loss), lossy(loss)], seed);
            let plan = Plan::eager(5_000, 5_000, seed);
            world.dial(CLIENT, dial(&patient(), 0), plan.clone());
            world.run_for(ms(seed % 20)); // within one way: the SYNs cross
            world.dial(SERVER, cross_dial(&patient()), plan.mirrored());
            let took = world.run_until(seconds(90), World::is_over);
            assert!(took.is_some(), "loss {loss}, seed {seed}: {}", world.describe());
            world.assert_exact();
            assert_eq!(world.hosts.each_ref().map(|host| host.apps.len()), [1, 1], "one connection");
        }
    }
}

#[test]
fn a_blackout_of_thirty_seconds_is_survived_wherever_it_begins() {
    for step in 0..40 {
        let from = rtcp::time::Time::ZERO + ms(step * 50);
        let blackout = Window { from, until: from + seconds(30) };
        let link =
            Impairments { rate_bit_per_s: Some(1_000_000), blackouts: vec![blackout], ..clean(ms(20)) };
        let mut world = World::simple(&patient(), [link.clone(), link], step);
        let plan = Plan::eager(100_000, 100_000, step);
        world.begin(&patient(), 0, plan.clone(), plan.mirrored());
        let took = world.run_until(seconds(90), World::is_over);
        // A second of transfer, and at most the largest pause of the sender (SYNs: 15 s) behind the blackout.
        assert!(took.is_some_and(|took| took < seconds(48)), "{took:?}, {step}: {}", world.describe());
        world.assert_exact();
    }
}

/// The link dies under the last FIN, for longer than the passive closer needs for five timeouts.
#[test]
fn a_peer_in_fin_wait_2_gets_its_fin_after_an_outage() {
    for outage in [seconds(3), seconds(10), seconds(40)] {
        let config = Config::default();
        let mut world = World::simple(&config, [clean(ms(20)), clean(ms(20))], 2);
        let client = Plan::eager(1_000, 1_000, 2);
        let server = Plan { finish: Finish::Later(seconds(1)), ..client.mirrored() };
        world.begin(&config, 0, client, server);
        world.run_for(ms(500));
        let dead = Impairments { loss: 1.0, ..clean(ms(20)) };
        world.links[SERVER].set_impairments(dead);
        world.run_for(ms(600) + outage);
        world.heal();
        assert!(world.run_until(seconds(10), World::is_over).is_some(), "{outage:?}: {}", world.describe());
        world.assert_exact();
    }
}

/// All of the opener's data is lost behind the handshake, for longer than half-open entries are protected.
#[test]
fn an_opener_is_not_forgotten_in_an_outage_right_behind_the_handshake() {
    let config = Config::default();
    let mut world = World::simple(&config, [clean(ms(20)), clean(ms(20))], 2);
    let plan = Plan::eager(10_000, 1_000, 2);
    world.begin(&config, 0, plan.clone(), plan.mirrored());
    world.run_for(ms(30));
    world.links[CLIENT].set_impairments(Impairments { loss: 1.0, ..clean(ms(20)) });
    world.run_for(seconds(80));
    assert!(world.hosts[CLIENT].apps[0].began && world.hosts[SERVER].apps.is_empty());
    world.heal();
    assert!(world.run_until(seconds(10), World::is_over).is_some(), "{}", world.describe());
    world.assert_exact();
}

/// Lost SYN-ACKs must not make the path look slow: every later timer would wait for it.
#[test]
fn the_opener_measures_the_path_and_not_its_own_repetitions() {
    for integrity in [IntegrityMode::Offer, IntegrityMode::Off] {
        let config = Config { integrity, ..Config::default() };
        let mut world = World::simple(&config, [clean(ms(20)), clean(ms(20))], 1);
        let mut lost = 0;
        world.tap = Some(Box::new(move |from, _, _| {
            lost += usize::from(from == SERVER);
            if from == SERVER && lost <= 2 { Fate::Drop } else { Fate::Pass }
        }));
        let plan = Plan { finish: Finish::Never, ..Plan::eager(0, 0, 1) };
        world.begin(&config, 0, plan.clone(), plan);
        world.run_until(seconds(5), |world| world.hosts[CLIENT].apps[0].began).expect("it connects");
        let srtt = world.hosts[CLIENT].mux.connection(world.hosts[CLIENT].apps[0].id).map(|c| c.stats().srtt);
        assert_eq!(srtt, Some(ms(40)), "{integrity:?}");
    }
}

/// RFC 9293 section 3.8.3, R2: data goes out, nothing comes back.
#[test]
fn a_peer_that_dies_is_reported_within_the_user_timeout() {
    for limit in [seconds(3), seconds(10), seconds(100)] {
        let config = Config { user_timeout: limit, ..Config::default() };
        let slow = Impairments { rate_bit_per_s: Some(1_000_000), ..clean(ms(20)) };
        let mut world = World::simple(&config, [slow, clean(ms(20))], 1);
        let plan = Plan::eager(1_000_000, 0, 1);
        world.begin(&config, 0, plan.clone(), plan.mirrored());
        world.run_for(seconds(2));
        world.hosts[SERVER].is_alive = false;
        let took = world.run_until(2 * limit, |world| world.hosts[CLIENT].apps[0].end.is_some());
        assert_eq!(world.hosts[CLIENT].apps[0].end, Some(End::Failed(Error::UserTimeout)));
        let took = took.expect("it ended");
        assert!(limit - ms(100) <= took && took <= limit + ms(500), "{took:?} for {limit:?}");
    }
}

#[test]
fn a_reader_learns_of_its_peers_death_by_keep_alive_or_by_the_idle_limit() {
    let quiet = Plan { finish: Finish::Never, ..Plan::eager(0, 0, 1) };
    let cases = [
        (Config { keepalive: Some(seconds(20)), ..Config::default() }, Error::KeepAliveTimeout, seconds(300)),
        (Config { idle_timeout: Some(seconds(20)), ..Config::default() }, Error::IdleTimeout, seconds(21)),
    ];
    for (config, error, limit) in cases {
        let mut world = World::simple(&config, [clean(ms(20)), clean(ms(20))], 1);
        world.begin(&config, 0, quiet.clone(), quiet.clone());
        world.run_for(seconds(1));
        world.hosts[CLIENT].is_alive = false;
        let took = world.run_until(limit, |world| world.hosts[SERVER].apps[0].end.is_some());
        assert_eq!(world.hosts[SERVER].apps[0].end, Some(End::Failed(error)), "{took:?}");
    }
}

#[test]
fn a_host_that_listens_to_nobody_refuses_within_one_round_trip() {
    let configs = [CLIENT, SERVER].map(|host| mux_config(host, Config::default(), 0));
    let mut world = World::new(configs, [clean(ms(20)), clean(ms(20))], 1);
    world.dial(CLIENT, dial(&Config::default(), 0), Plan::eager(10, 10, 1));
    let took = world.run_until(seconds(30), |world| world.hosts[CLIENT].apps[0].end.is_some());
    assert_eq!(world.hosts[CLIENT].apps[0].end, Some(End::Failed(Error::Refused)));
    assert_eq!(took, Some(ms(40)));
}

#[test]
fn a_dead_host_is_reported_at_the_connect_limit_and_icmp_at_once() {
    let config = Config { connect_timeout: seconds(7), ..Config::default() };
    let mut world = World::simple(&config, [clean(ms(20)), clean(ms(20))], 1);
    world.hosts[SERVER].is_alive = false;
    world.dial(CLIENT, dial(&config, 0), Plan::eager(10, 10, 1));
    world.dial(CLIENT, dial(&config, 1), Plan::eager(10, 10, 1));
    world.settle();
    let [a, b] = (FIRST_PORT + 1).to_be_bytes();
    let [c, d] = LISTEN_PORT.to_be_bytes();
    let now = world.now;
    world.hosts[CLIENT].mux.handle_refused(now, addr(SERVER), &[a, b, c, d, 0, 0, 0, 0]);
    world.settle();
    let ends = |world: &World| [0, 1].map(|i| world.hosts[CLIENT].apps[i].end);
    assert_eq!(ends(&world), [None, Some(End::Failed(Error::Refused))]);
    let took = world.run_until(seconds(30), World::is_over_at_the_client);
    assert_eq!(took, Some(seconds(7)));
    assert_eq!(ends(&world)[0], Some(End::Failed(Error::ConnectTimeout)));
}

/// One SYN from a stranger.
fn stranger(rng: &mut Rng) -> (SocketAddr, Vec<u8>) {
    let from = ([198, 51, 100, rng.below(250) as u8 + 1], 1024 + rng.below(60_000) as u16).into();
    let syn = Segment {
        src_port: 1 + rng.below(65_000) as u16,
        dst_port: LISTEN_PORT,
        seq: SeqNum::new(rng.next_u64() as u32),
        flags: Flags::SYN,
        window: 1000,
        options: Options { mss: Some(1400), sack_permitted: true, ..Options::default() },
        ..Segment::default()
    };
    let mut bytes = Vec::new();
    syn.emit(&mut bytes, Integrity::Checksum);
    (from, bytes)
}

/// RFC 4987: nothing is kept per SYN, nothing is amplified, and clients get through.
#[test]
fn a_flood_of_syns_costs_nothing_and_clients_connect_in_its_midst() {
    let config = patient();
    let mut world = World::simple(&config, [clean(ms(5)), clean(ms(5))], 1);
    let mut rng = Rng::new(1);
    let (mut bytes_in, mut bytes_out) = (0, 0);
    let mut out = Vec::new();
    for step in 0..2_000_u64 {
        if step % 200 == 100 {
            let plan = Plan::eager(3_000, 3_000, step);
            world.begin(&config, step as u16, plan.clone(), plan.mirrored());
        }
        let now = world.now;
        let server = &mut world.hosts[SERVER].mux;
        for _ in 0..50 {
            let (from, syn) = stranger(&mut rng);
            bytes_in += syn.len();
            server.handle_datagram(now, from, None, false, &syn);
        }
        // What is for strangers is taken out here; what is for the client goes on by itself.
        while let Some(transmit) = server.poll_transmit(now, 1, &mut out) {
            if transmit.to == addr(CLIENT) {
                world.links[SERVER].push(now, (), &out);
            } else {
                bytes_out += out.len();
            }
            out.clear();
        }
        world.run_for(ms(1));
    }
    assert!(world.run_until(seconds(5), World::is_over).is_some(), "{}", world.describe());
    world.assert_exact();
    assert!(bytes_out <= bytes_in, "{bytes_out} bytes out for {bytes_in} in");
    assert_eq!(world.hosts[SERVER].mux.connections(), 0);
    assert_eq!(slots(&world.hosts[SERVER].mux), 0);
}

#[test]
fn five_hundred_clients_at_once_each_get_their_own_bytes() {
    let mut world = World::simple(&patient(), [lossy(0.02), lossy(0.02)], 4);
    for number in 0..500 {
        let plan = Plan::eager(10_000, 10_000, u64::from(number));
        world.begin(&patient(), number, plan.clone(), plan.mirrored());
    }
    assert!(world.run_until(seconds(60), World::is_over).is_some(), "{}", world.describe());
    world.assert_exact();
    world.run_for(seconds(130));
    for host in &world.hosts {
        assert_eq!((slots(&host.mux), host.mux.connections()), (0, 0));
    }
}

/// Slots in use, idle ones included, as the mux's `Debug` tells.
fn slots(mux: &Mux) -> usize {
    let text = format!("{mux:?}");
    let number = text.split("slots: ").nth(1).and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).expect("Debug names the slots")
}

/// The same four tuples over and over, with either side in TIME-WAIT, as an impatient program would.
#[test]
fn a_thousand_clients_one_after_another_leave_nothing_behind() {
    let mut world = World::simple(&patient(), [lossy(0.05), lossy(0.05)], 5);
    for number in 0..1_000_u64 {
        let client = Plan::eager(1_000, 1_000, number);
        let mut server = client.mirrored();
        let finish = [Finish::WhenWritten, Finish::AfterPeer][number as usize % 2];
        server.finish = finish;
        let client = Plan { leave: [Leave::Wait, Leave::Release][number as usize / 2 % 2], ..client };
        world.begin(&patient(), number as u16 % 4, client, server);
        assert!(world.run_until(seconds(60), World::is_over).is_some(), "{number}: {}", world.describe());
        world.assert_exact();
        world.run_for(seconds(1)); // the last ACKs
        world.forget_ended();
        for host in &world.hosts {
            assert!(slots(&host.mux) <= 4, "{number}: {:?}", host.mux);
        }
    }
    world.run_for(seconds(200));
    for host in &world.hosts {
        assert_eq!((slots(&host.mux), host.mux.connections()), (0, 0), "{:?}", host.mux);
    }
}

/// A tap that never lets a handshake's last ACK through: data alone must open the connection.
#[test]
fn data_opens_a_connection_whose_ack_was_lost() {
    let config = Config::default();
    let mut world = World::simple(&config, [clean(ms(20)), clean(ms(20))], 1);
    world.tap = Some(Box::new(|from, _, bytes| {
        let segment = Segment::parse(bytes).expect("a segment of ours");
        let pure = segment.payload.is_empty() && segment.flags == Flags::ACK;
        if from == CLIENT && pure { Fate::Drop } else { Fate::Pass }
    }));
    let plan = Plan::eager(500, 0, 1);
    world.begin(&config, 0, plan.clone(), plan.mirrored());
    assert!(world.run_until(seconds(5), |world| world.hosts[SERVER].apps.len() == 1).is_some());
    world.tap = None;
    assert!(world.run_until(seconds(5), World::is_over).is_some(), "{}", world.describe());
    world.assert_exact();
}
