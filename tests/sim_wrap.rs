//! Numbers that come round: sequence numbers, timestamps, and more bytes than 32 bits count.

mod sim;

use std::time::Duration;

use rtcp::connection::{Algorithm, Config, IntegrityMode, PathMtu};
use rtcp::emulator::Impairments;
use sim::app::Plan;
use sim::scenario::clocks_near_wrap;
use sim::{CLIENT, SERVER, World, clean, ms, mux_config, seconds};

fn bad() -> Impairments {
    Impairments { loss: 0.1, reorder: 0.2, duplicate: 0.1, ..clean(ms(10)) }
}

/// Both hosts' clocks are set such that their ISNs lie so far before the wrap.
fn world_near_wrap(config: &Config, links: [Impairments; 2], distance: [u32; 2]) -> World {
    let configs = [mux_config(CLIENT, config.clone(), 0), mux_config(SERVER, config.clone(), 10)];
    let clocks = clocks_near_wrap(&configs, 9, distance);
    let mut world = World::new(configs, links, 9);
    for (host, clock) in world.hosts.iter_mut().zip(clocks) {
        host.clock = clock;
    }
    world
}

/// The SYN's ISS is exactly as far from the wrap as asked; the SYN-ACK's has ticked on for the link's delay.
#[test]
fn streams_cross_the_wrap_at_every_distance_near_it() {
    for integrity in [IntegrityMode::Offer, IntegrityMode::Off] {
        let config = Config { integrity, ..Config::default() };
        for distance in [0, 1, 2, 3, 1_000, 1_160, 1_161, 20_000, 70_000] {
            let mut world = world_near_wrap(&config, [clean(ms(0)), clean(ms(0))], [distance; 2]);
            let plan = Plan::eager(100_000, 100_000, u64::from(distance));
            world.begin(&config, 0, plan.clone(), plan.mirrored());
            assert!(world.run_until(seconds(5), World::is_over).is_some(), "{}", world.describe());
            world.assert_exact();
            for app in world.apps() {
                let iss = app.iss.expect("it was connected").get();
                assert_eq!(0_u32.wrapping_sub(iss), distance, "the clock was set right");
            }
        }
    }
}

#[test]
fn loss_reordering_and_duplicates_around_the_wrap_are_harmless() {
    for step in 0..60 {
        let config = Config::default();
        let mut world = world_near_wrap(&config, [bad(), bad()], [step * 700, 2_500 + step * 700]);
        let plan = Plan::eager(60_000, 60_000, u64::from(step));
        world.begin(&config, 0, plan.clone(), plan.mirrored());
        assert!(world.run_until(seconds(60), World::is_over).is_some(), "{}", world.describe());
        world.assert_exact();
    }
}

/// RFC 7323 section 5: the timestamp clocks of both ends come round in mid-transfer, and PAWS drops nothing
/// for it.
#[test]
fn timestamps_wrap_in_mid_transfer() {
    let config = Config::default();
    let slow = Impairments { rate_bit_per_s: Some(1_000_000), ..bad() };
    for host in [CLIENT, SERVER] {
        let mut world = World::simple(&config, [slow.clone(), slow.clone()], 3);
        let offset = timestamp_offset(host);
        // Its clock starts two seconds before the wrap.
        world.hosts[host].clock = ms(u64::from(0_u32.wrapping_sub(offset).wrapping_sub(2_000)));
        let plan = Plan::eager(500_000, 500_000, 4);
        world.begin(&config, 0, plan.clone(), plan.mirrored());
        let took = world.run_until(seconds(60), World::is_over);
        assert!(took.is_some_and(|took| took > seconds(4)), "{took:?}: it spans the wrap");
        world.assert_exact();
    }
}

/// The offset that `host` adds to its clock on the first connection of the world of that test.
fn timestamp_offset(host: usize) -> u32 {
    let config = Config::default();
    let mut world = World::simple(&config, [clean(ms(1)), clean(ms(1))], 3);
    let plan = Plan::eager(1, 1, 4);
    world.begin(&config, 0, plan.clone(), plan.mirrored());
    world.run_for(ms(3));
    let id = world.hosts[host].apps[0].id;
    world.hosts[host].mux.connection(id).expect("it is open").identity().ts_offset
}

/// The sequence space is used more than once, with PAWS to tell its rounds apart.
#[test]
fn more_than_four_gibibytes_cross_exactly() {
    const BYTES: u64 = (4 << 30) + (64 << 20);
    let config = Config {
        mtu: PathMtu::Fixed(16_000),
        max_receive_datagram: 16_000,
        send_buffer: 8 << 20,
        recv_buffer: 8 << 20,
        algorithm: Algorithm::Fixed { window: 4 << 20 },
        ..Config::default()
    };
    let mut world = World::simple(&config, [clean(ms(1)), clean(ms(1))], 12);
    for host in &mut world.hosts {
        host.batch = 64;
    }
    let plan = Plan::eager(BYTES, 10, 5);
    world.begin(&config, 0, plan.clone(), plan.mirrored());
    let took = world.run_until(Duration::from_secs(3600), World::is_over);
    assert!(took.is_some(), "{}", world.describe());
    world.assert_exact();
    let stats = world.hosts[CLIENT].mux.stats();
    assert_eq!((stats.packets_retransmitted, stats.bytes_acked), (0, BYTES));
}
