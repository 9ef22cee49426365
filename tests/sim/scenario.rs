//! A random scenario: everything about it follows from its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use rtcp::connection::{Algorithm, Config, IntegrityMode, PathMtu};
use rtcp::emulator::{BurstLoss, Codel, Impairments, LinkStats, Outage, Policer, RateStep, Rng, Window};
use rtcp::endpoint::Mux;
use rtcp::endpoint::mux::MuxConfig;
use rtcp::time::Time;
use rtcp::wire::{Segment, SeqNum};

use super::app::{Finish, Leave, Plan};
use super::{CLIENT, SERVER, World, addr, dial, ms, mux_config, mux_seed, seconds};

/// Once all faults are off, slow readers and queues apart: twice the largest RTO (RFC 6298 section 2.5) of a plain peer.
const LIVENESS_LIMIT_PLAIN: Duration = Duration::from_secs(120);
/// And with the extension, where the RTO's back-off ends at 5 s or four times the round trip.
const LIVENESS_LIMIT: Duration = Duration::from_secs(30);
/// Slow readers are drawn such that they take about this on average.
const SLOW_READER: Duration = Duration::from_secs(20);
/// Two of them, one after the other, and the longest queue of the slowest link.
const SLOWNESS_LIMIT: Duration = Duration::from_secs(80);

/// Twice the smallest RTO of a peer with the extension: timers in a row are no closer, for the first has doubled them.
const TIMER_GAP: Duration = Duration::from_millis(100);

/// How often each kind of fault or variation was seen to have happened, over all scenarios.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// Every key that a complete [`Tally`] has.
pub(crate) const KINDS: [&str; 38] = [
    "abrupt close",
    "after-peer finish",
    "any source",
    "bbr",
    "bit error",
    "blackout",
    "burst loss",
    "change of weather",
    "codel drop",
    "codel mark",
    "cubic",
    "delay",
    "duplicate",
    "empty direction",
    "fixed window",
    "four clients",
    "isn wrap of the client",
    "isn wrap of the server",
    "jitter",
    "jitter with reordering",
    "late",
    "late finish",
    "loss",
    "mtu hole",
    "nagle",
    "one plain peer",
    "only queues and policers",
    "outage",
    "policer",
    "queue overflow",
    "rate",
    "rate step",
    "release",
    "reorder",
    "retransmission timeout",
    "slow reader",
    "tiny buffers",
    "two plain peers",
];

/// What one scenario came to.
pub(crate) struct Outcome {
    pub(crate) log_hash: u64,
    pub(crate) tally: Tally,
}

/// Numbers for the choices of one scenario.
struct Dice(Rng);

impl Dice {
    fn one_in(&mut self, n: u64) -> bool {
        self.0.below(n) == 0
    }
    fn among<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len() as u64) as usize]
    }
    /// Between both, small ones as likely as large ones.
    fn scale(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.0.unit())
    }
    fn duration(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_secs_f64(self.scale(least.as_secs_f64(), most.as_secs_f64()))
    }
    /// 0, or up to `most`, small ones somewhat more likely.
    fn bytes(&mut self, most: u64) -> u64 {
        match self.0.below(6) {
            0 => 0,
            1 | 2 => self.scale(1.0, most as f64) as u64,
            _ => self.0.below(most + 1),
        }
    }
}

/// The faults of one direction. Bit errors need the CRC.
fn faults(dice: &mut Dice, has_crc: bool, datagram: usize) -> Impairments {
    let mut link = Impairments { delay: dice.duration(ms(1), ms(400)), ..Impairments::default() };
    if dice.one_in(3) {
        link.loss = dice.scale(0.01, 0.5);
    }
    if dice.one_in(5) {
        link.burst_loss = Some(BurstLoss {
            mean_good: dice.duration(ms(50), seconds(5)),
            mean_bad: dice.duration(ms(5), ms(500)),
            loss_good: 0.0,
            loss_bad: dice.scale(0.3, 1.0),
        });
    }
    if dice.one_in(3) {
        link.reorder = dice.scale(0.01, 0.6);
        link.reorder_hold = dice.duration(ms(1), ms(300));
    }
    if dice.one_in(5) {
        link.late = dice.scale(0.01, 0.3);
        link.late_by = dice.duration(ms(1), seconds(3));
    }
    if dice.one_in(4) {
        link.duplicate = dice.scale(0.01, 0.5);
        link.duplicate_delay = dice.duration(ms(1), seconds(2));
    }
    if has_crc && dice.one_in(2) {
        link.bit_error_rate = dice.scale(1e-6, 2e-4);
    }
    if dice.one_in(4) {
        link.jitter = dice.duration(ms(1), ms(300));
        link.jitter_reorder = dice.one_in(2);
    }
    if dice.one_in(4) {
        rate_faults(dice, &mut link);
    }
    if dice.one_in(8) {
        policer(dice, &mut link);
    }
    if dice.one_in(8) {
        let from = Time::ZERO + dice.duration(ms(10), seconds(10));
        link.blackouts.push(Window { from, until: from + dice.duration(ms(100), seconds(15)) });
    }
    if dice.one_in(8) {
        let every = dice.duration(ms(300), seconds(10));
        link.outage = Some(Outage { every, length: every.mul_f64(dice.scale(0.02, 0.4)) });
    }
    if dice.one_in(6) {
        // Large enough, or data has to wait until the fault is off.
        link.mtu = Some(if dice.one_in(2) { datagram } else { datagram / 2 });
    }
    link
}

/// A link that drops what is too much for it, and nothing else.
fn queues(dice: &mut Dice) -> Impairments {
    let mut link = Impairments { delay: dice.duration(ms(1), ms(200)), ..Impairments::default() };
    rate_faults(dice, &mut link);
    link.rate_steps.clear();
    if dice.one_in(2) {
        policer(dice, &mut link);
    }
    link
}

fn policer(dice: &mut Dice, link: &mut Impairments) {
    let (rate_bit_per_s, bucket_bytes) = (dice.scale(100e3, 50e6) as u64, dice.scale(3e3, 100e3) as usize);
    link.policer = Some(Policer { rate_bit_per_s, bucket_bytes });
}

fn rate_faults(dice: &mut Dice, link: &mut Impairments) {
    link.rate_bit_per_s = Some(dice.scale(100e3, 50e6) as u64);
    // Bounded, as what is queued when the faults are turned off still leaves at the old rate.
    link.queue_bytes = Some(dice.scale(3e3, 100e3) as usize);
    if dice.one_in(3) {
        let (target, interval) = (dice.duration(ms(1), ms(20)), dice.duration(ms(20), ms(200)));
        link.codel = Some(Codel { target, interval, ecn: dice.one_in(2) });
    }
    if dice.one_in(2) {
        let mut at = Time::ZERO;
        for _ in 0..3 {
            at += dice.duration(ms(50), seconds(4));
            let rate = if dice.one_in(4) { 0 } else { dice.scale(50e3, 50e6) as u64 };
            link.rate_steps.push(RateStep { at, rate_bit_per_s: Some(rate) });
        }
        at += dice.duration(ms(50), seconds(4));
        link.rate_steps.push(RateStep { at, rate_bit_per_s: Some(1_000_000) });
    }
}

fn connection_config(dice: &mut Dice, datagram: usize, integrity: IntegrityMode) -> Config {
    let buffer = |dice: &mut Dice| if dice.one_in(3) { dice.scale(4e3, 64e3) as usize } else { 1 << 20 };
    Config {
        // 1,200 is where discovery begins: it goes on from there, into the holes.
        mtu: if datagram == 1200 { PathMtu::Discover } else { PathMtu::Fixed(datagram) },
        send_buffer: buffer(dice),
        recv_buffer: buffer(dice),
        connect_timeout: seconds(900),
        user_timeout: seconds(3600),
        nodelay: dice.one_in(2),
        algorithm: match dice.0.below(5) {
            0 => Algorithm::Fixed { window: dice.scale(2e3, 200e3) as u64 },
            1 | 2 => Algorithm::Cubic,
            _ => Algorithm::Bbr,
        },
        integrity,
        ..Config::default()
    }
}

/// The plans of the two ends of one connection.
fn plans(dice: &mut Dice, most: u64) -> [Plan; 2] {
    let client = Plan::eager(dice.bytes(most), dice.bytes(most), dice.0.next_u64());
    let mut both = [client.mirrored(), client];
    both.reverse();
    let patient = dice.0.below(6); // at most one end waits for the other to finish first
    for (end, plan) in both.iter_mut().enumerate() {
        plan.seed = dice.0.next_u64();
        plan.write_max = dice.scale(1.0, 60e3) as usize * usize::from(!dice.one_in(3));
        plan.read_max = dice.scale(1.0, 60e3) as usize * usize::from(!dice.one_in(3));
        // Byte by byte is for short streams.
        let least = plan.send.max(plan.expect) as usize / 500;
        (plan.write_max, plan.read_max) = (raise(plan.write_max, least), raise(plan.read_max, least));
        if dice.one_in(5) {
            plan.read_max = plan.read_max.max(1 + plan.expect as usize / 50);
            let reads = 2 * plan.expect / plan.read_max as u64 + 2;
            plan.read_pause = Some(dice.duration(ms(1), SLOW_READER / reads as u32));
        }
        if dice.one_in(6) {
            plan.start_after = dice.duration(ms(1), seconds(5));
        }
        if patient == end as u64 {
            plan.finish = Finish::AfterPeer;
        } else if dice.one_in(4) {
            plan.finish = Finish::Later(dice.duration(ms(1), seconds(5)));
        }
        if dice.one_in(5) {
            plan.leave = Leave::Release;
        } else if plan.expect == 0 && plan.finish != Finish::AfterPeer && dice.one_in(2) {
            plan.leave = Leave::Close;
        }
    }
    both
}

/// 0 stands for "as much as there is".
fn raise(max: usize, least: usize) -> usize {
    if max == 0 { 0 } else { max.max(least) }
}

/// Which of the two ends offer the CRC.
fn integrity(dice: &mut Dice) -> [IntegrityMode; 2] {
    use IntegrityMode::{Off, Offer, Require};
    match dice.0.below(8) {
        0 => [Off, Off],
        1 => [Off, Offer],
        2 => [Offer, Off],
        3 => [Require, Offer],
        4 => [Offer, Require],
        _ => [Offer, Offer],
    }
}

/// What the clocks must show for the two ISNs to lie `distance` before the wrap, were both hosts to open now.
pub(crate) fn clocks_near_wrap(configs: &[MuxConfig; 2], seed: u64, distance: [u32; 2]) -> [Duration; 2] {
    let now = Time::ZERO + ms(1);
    let [mut client, mut server] =
        [CLIENT, SERVER].map(|host| Mux::new(configs[host].clone(), mux_seed(host, seed)));
    let mut syn = Vec::new();
    let mut syn_ack = Vec::new();
    client.connect(now, addr(SERVER), dial(&configs[CLIENT].connection, 0)).expect("dialling");
    client.poll_transmit(now, 1, &mut syn).expect("a SYN");
    server.handle_datagram(now, addr(CLIENT), None, false, &syn);
    server.poll_transmit(now, 1, &mut syn_ack).expect("a SYN-ACK");
    let isn = |bytes: &[u8]| Segment::parse(bytes).expect("a segment").seq;
    let wait = |isn: SeqNum, distance: u32| {
        let ticks = 0_u32.wrapping_sub(distance).wrapping_sub(isn.get());
        Duration::from_micros(4) * ticks // RFC 6528: one in 4 us
    };
    [wait(isn(&syn), distance[CLIENT]), wait(isn(&syn_ack), distance[SERVER])]
}

/// Plays the scenario of `seed`. Panics if a promise is broken.
pub(crate) fn play(seed: u64) -> Outcome {
    let mut scenario = Scenario::draw(seed);
    let clients = scenario.begin_clients();
    scenario.keep_safe();
    scenario.come_to_life();
    scenario.leave_nothing_behind();
    let Scenario { mut tally, world, configs, links, weathers, has_only_queues, .. } = scenario;
    for (host, impairments) in links.iter().enumerate().filter(|_| weathers == 1) {
        count_faults(&mut tally, impairments, world.links[host].stats());
    }
    count(&mut tally, "change of weather", u64::from(weathers > 1));
    if has_only_queues {
        count(&mut tally, "only queues and policers", 1);
        assert_no_storm(&world, clients.into());
    }
    count_settings(&mut tally, &configs, clients);
    count_run(&mut tally, &world);
    Outcome { log_hash: world.log_hash, tally }
}

struct Scenario {
    dice: Dice,
    has_crc: bool,
    datagram: usize,
    configs: [MuxConfig; 2],
    /// What is wrong with the links at the beginning.
    links: [Impairments; 2],
    /// How many different sets of faults there are, one after another.
    weathers: u32,
    /// Nothing is lost or late by chance.
    has_only_queues: bool,
    world: World,
    tally: Tally,
}

impl Scenario {
    fn draw(seed: u64) -> Self {
        let mut dice = Dice(Rng::stream(seed, 1));
        let modes = integrity(&mut dice);
        let has_crc = !modes.contains(&IntegrityMode::Off);
        let datagram = dice.among(&[300, 576, 1200, 1200, 1200, 1472]);
        let has_only_queues = dice.one_in(10);
        let links = [CLIENT, SERVER]
            .map(|_| if has_only_queues { queues(&mut dice) } else { faults(&mut dice, has_crc, datagram) });
        let mut configs = [CLIENT, SERVER].map(|host| {
            let connection = connection_config(&mut dice, datagram, modes[host]);
            mux_config(host, connection, if host == SERVER { 100 } else { 0 })
        });
        configs[SERVER].any_source = dice.one_in(8);
        let mut world = World::new(configs.clone(), links.clone(), seed);
        if dice.one_in(4) {
            let distance = [dice.bytes(50_000) as u32, dice.bytes(100_000) as u32 + 50_000];
            let clocks = clocks_near_wrap(&configs, seed, distance);
            for (host, clock) in world.hosts.iter_mut().zip(clocks) {
                host.clock = clock;
            }
        }
        for host in &mut world.hosts {
            host.batch = dice.among(&[1, 2, 16, 64]);
        }
        let weathers = if dice.one_in(3) && !has_only_queues { 1 + dice.0.below(6) as u32 } else { 1 };
        Self {
            dice,
            has_crc,
            datagram,
            configs,
            links,
            weathers,
            has_only_queues,
            world,
            tally: Tally::new(),
        }
    }

    fn begin_clients(&mut self) -> u16 {
        let dice = &mut self.dice;
        let clients = if dice.one_in(3) { 1 + dice.0.below(4) as u16 } else { 1 };
        let most = dice.among(&[2_000, 20_000, 200_000, 200_000]) / u64::from(clients);
        for number in 0..clients {
            let [client, server] = plans(dice, most);
            count_plans(&mut self.tally, [&client, &server]);
            self.world.begin(&self.configs[CLIENT].connection, number, client, server);
            if dice.one_in(2) {
                self.world.run_for(dice.duration(ms(1), seconds(1)));
            }
        }
        clients
    }

    /// Safety: whatever the faults do, there is no wrong byte.
    fn keep_safe(&mut self) {
        // A plain listener repeats its SYN-ACK for 31 s; if all answers to it are lost, it has no client.
        let longest = if self.has_crc { seconds(40) } else { seconds(25) };
        let safety = self.dice.duration(ms(500), longest);
        for weather in 0..self.weathers {
            if weather > 0 {
                for link in &mut self.world.links {
                    link.set_impairments(faults(&mut self.dice, self.has_crc, self.datagram));
                }
            }
            self.world.run_until(safety / self.weathers, World::is_over);
        }
        let world = &self.world;
        assert!(world.apps().all(|app| app.wrong.is_none()), "wrong bytes: {}", world.describe());
    }

    /// Liveness: without faults everything finishes.
    fn come_to_life(&mut self) {
        let world = &mut self.world;
        world.heal();
        let limit = if self.has_crc { LIVENESS_LIMIT } else { LIVENESS_LIMIT_PLAIN };
        let finished = world.run_until(limit + SLOWNESS_LIMIT, World::is_over).is_some();
        assert!(finished, "it hangs: {}", world.describe());
        world.assert_exact();
    }

    /// A while later nothing must have come of late duplicates.
    fn leave_nothing_behind(&mut self) {
        self.world.run_for(seconds(150));
        for host in &self.world.hosts {
            assert_eq!(host.mux.connections(), 0, "{:?}", host.mux);
            assert!(host.mux.is_quiet(), "{:?}", host.mux);
        }
    }
}

/// Where nothing is lost by chance, what is sent again has its reason in what was dropped; a few times on each
/// connection a queue grew so fast that a timer did not know it. While an answer then stands in a queue, behind the
/// peer's own data, the timer of a peer that is heard goes on firing, once in [`TIMER_GAP`] at most: so many more.
fn assert_no_storm(world: &World, clients: u64) {
    let dropped = |link: &LinkStats| link.queue_dropped + link.aqm_dropped + link.policed;
    let dropped: u64 = world.links.iter().map(|link| dropped(link.stats())).sum();
    let stats = world.hosts.iter().map(|host| host.mux.stats());
    let (timeouts, again) =
        stats.fold((0, 0), |sum, s| (sum.0 + s.rto_count, sum.1 + s.packets_retransmitted));
    let queued: Duration = world.links.iter().map(|link| link.stats().queue_delay_max).sum();
    let while_queued = (queued.as_millis() / TIMER_GAP.as_millis()) as u64;
    assert!(
        timeouts <= dropped + (6 + while_queued) * clients,
        "{timeouts} timeouts, {dropped} datagrams dropped, {queued:?} in the queues"
    );
    assert!(
        again <= 12 * dropped + 100 * clients,
        "{again} segments sent again, {dropped} datagrams dropped"
    );
}

fn count(tally: &mut Tally, kind: &'static str, how_often: u64) {
    assert!(KINDS.contains(&kind), "{kind} is missing from the list");
    *tally.entry(kind).or_default() += how_often;
}

fn count_plans(tally: &mut Tally, plans: [&Plan; 2]) {
    for plan in plans {
        count(tally, "slow reader", u64::from(plan.read_pause.is_some()));
        count(tally, "late finish", u64::from(matches!(plan.finish, Finish::Later(_))));
        count(tally, "after-peer finish", u64::from(plan.finish == Finish::AfterPeer));
        count(tally, "release", u64::from(plan.leave == Leave::Release));
        count(tally, "abrupt close", u64::from(plan.leave == Leave::Close));
        count(tally, "empty direction", u64::from(plan.send == 0));
    }
}

fn count_faults(tally: &mut Tally, link: &Impairments, stats: &LinkStats) {
    let mut fired = |kind, happened: bool, how_often| {
        if happened {
            count(tally, kind, how_often);
        }
    };
    fired("loss", true, stats.lost);
    fired("burst loss", true, stats.burst_lost);
    fired("mtu hole", true, stats.mtu_dropped);
    fired("duplicate", true, stats.duplicated);
    fired("bit error", true, stats.corrupted);
    fired("late", true, stats.late);
    fired("queue overflow", true, stats.queue_dropped);
    fired("codel drop", true, stats.aqm_dropped);
    fired("codel mark", true, stats.ce_marked);
    fired("policer", true, stats.policed);
    fired("delay", link.delay > Duration::ZERO, stats.packets_in);
    fired("jitter", link.jitter > Duration::ZERO && !link.jitter_reorder, stats.packets_in);
    fired("rate", stats.queue_delay_sum > Duration::ZERO, 1);
    fired("rate step", stats.queue_delay_sum > Duration::ZERO && !link.rate_steps.is_empty(), 1);
    // Where several faults could be the cause, only those links count that have just one of them.
    let late = link.late > 0.0;
    let jitters = link.jitter_reorder && link.jitter > Duration::ZERO;
    fired("reorder", link.reorder > 0.0 && !late && !jitters, stats.reordered);
    fired("jitter with reordering", jitters && !late && link.reorder == 0.0, stats.reordered);
    let stops = link.rate_steps.iter().any(|step| step.rate_bit_per_s == Some(0));
    fired("blackout", link.outage.is_none() && !stops, stats.blackout_dropped);
    fired("outage", link.blackouts.is_empty() && !stops, stats.blackout_dropped);
}

fn count_settings(tally: &mut Tally, configs: &[MuxConfig; 2], clients: u16) {
    let plain = configs.iter().filter(|c| c.connection.integrity == IntegrityMode::Off).count();
    count(tally, "one plain peer", u64::from(plain == 1));
    count(tally, "two plain peers", u64::from(plain == 2));
    count(tally, "any source", u64::from(configs[SERVER].any_source));
    count(tally, "four clients", u64::from(clients == 4));
    for config in configs {
        let connection = &config.connection;
        count(tally, "nagle", u64::from(!connection.nodelay));
        count(tally, "cubic", u64::from(connection.algorithm == Algorithm::Cubic));
        count(tally, "bbr", u64::from(connection.algorithm == Algorithm::Bbr));
        count(tally, "fixed window", u64::from(matches!(connection.algorithm, Algorithm::Fixed { .. })));
        count(tally, "tiny buffers", u64::from(connection.recv_buffer < 1 << 20));
    }
}

fn count_run(tally: &mut Tally, world: &World) {
    for (host, kind) in world.hosts.iter().zip(["isn wrap of the client", "isn wrap of the server"]) {
        count(tally, "retransmission timeout", host.mux.stats().rto_count);
        let wraps = |app: &&super::app::App| {
            app.iss.is_some_and(|iss| u64::from(iss.get()) + app.written + 2 > 1 << 32)
        };
        count(tally, kind, host.apps.iter().filter(wraps).count() as u64);
    }
}
