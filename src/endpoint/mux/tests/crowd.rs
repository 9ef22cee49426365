//! Thousands of connections: what each costs, and what is left of it for each.

use super::*;

#[test]
fn what_an_idle_connection_costs_is_what_the_docs_say() {
    // With the allocator's 16, 21 in the slab, 54 in the table of keys, 37 in timers and queues: 1.5 KiB at most.
    assert!(size_of::<Slot>() <= 640, "at rest: {}", size_of::<Slot>());
    let controller = size_of_val(&*crate::connection::Algorithm::default().build(1200));
    let all = size_of::<Connection>() + controller;
    assert!(all <= 3776, "awake: {} and {controller}", size_of::<Connection>());
}

/// Each lost the path in the same moment. Nobody's PROBEs wait for others to have had two, and the link is not
/// flooded with them; all go on once it is back.
#[test]
fn thousands_that_lose_their_path_at_once_share_a_thousand_questions_a_second() {
    const CONNECTIONS: usize = 1500;
    let mut net =
        Net::new(mux_with(1000, 0, Config::default()), mux_with(2000, CONNECTIONS, Config::default()));
    let ids: Vec<ConnId> =
        (0..CONNECTIONS).map(|_| net.ends[0].connect(net.now, addr(B), options(0)).unwrap().0).collect();
    let is_acked = |ends: &[Mux; 2]| {
        ids.iter().all(|id| ends[0].connection(*id).is_some_and(|connection| connection.is_acked()))
    };
    assert!(net.run_until(|ends| is_acked(ends)));
    let write = |net: &mut Net, data: &[u8]| {
        ids.iter().for_each(|id| assert_eq!(net.ends[0].write(net.now, *id, data), Ok(data.len())));
    };
    write(&mut net, &[1; 24_000]);
    assert!(net.run_until(|ends| is_acked(ends)));
    write(&mut net, b"question");
    let (cut, mut asked, mut last) = (net.now, HashMap::<u16, usize>::new(), net.now);
    let mut in_second = 0;
    while net.now < cut + Duration::from_secs(12) {
        net.ends[0].handle_timeout(net.now);
        let mut out = Vec::new();
        while let Some(transmit) = net.ends[0].poll_transmit(net.now, 1, &mut out) {
            let segment = Segment::parse(&out[..transmit.size]).unwrap();
            if segment.is_probe_or_echo() {
                *asked.entry(segment.src_port).or_default() += 1;
                in_second += 1;
            }
            out.clear();
        }
        if net.now >= last + Duration::from_secs(1) {
            assert!(in_second <= 1256, "{in_second} in a second");
            (last, in_second) = (net.now, 0);
        }
        net.now = net.ends[0].poll_timeout().expect("there is always something").max(net.now);
    }
    let (least, most) = (asked.values().min().unwrap(), asked.values().max().unwrap());
    assert!(asked.len() == CONNECTIONS && most - least <= 1, "{} asked, {least} to {most}", asked.len());
    assert!(asked.values().sum::<usize>() > 10_000, "the budget is used");
    let back = net.now;
    assert!(net.run_until(|ends| is_acked(ends)));
    let bound = Duration::from_millis(1000 * CONNECTIONS as u64 / 1000 + 600);
    assert!(net.now - back <= bound, "{:?}", net.now - back);
}

#[test]
fn ten_thousand_that_send_at_once_all_get_their_share() {
    const CONNECTIONS: usize = 10_000;
    const MESSAGE: [u8; 1000] = [1; 1000];
    let mut net =
        Net::new(mux_with(1000, 0, Config::default()), mux_with(2000, CONNECTIONS, Config::default()));
    let mut ids = Vec::new();
    for n in 0..CONNECTIONS {
        let options = ConnectOptions { local_tcp_port: 1024 + n as u16, ..options(n) };
        ids.push(net.ends[0].connect(net.now, addr(B), options).unwrap().0);
        if n % 100 == 99 {
            assert!(net.run_until(|ends| ends[1].connections() == n + 1));
        }
    }
    // A socket that takes 12 MB/s, a little more than what they write each second with headers.
    let (mut out, mut received, mut room) = (Vec::new(), vec![0; CONNECTIONS], [0; 2000]);
    let mut numbers = HashMap::new();
    for tick in 0..3000 {
        net.now += Duration::from_millis(1);
        if tick % 1000 == 0 {
            for id in &ids {
                net.ends[0].write(net.now, *id, &MESSAGE).unwrap();
            }
        }
        net.ends.iter_mut().for_each(|mux| mux.handle_timeout(net.now));
        for side in [0, 1] {
            let mut budget = 12_000usize;
            while budget > 0 {
                out.clear();
                let Some(sent) = net.ends[side].poll_transmit(net.now, 4, &mut out) else { break };
                budget = budget.saturating_sub(sent.size);
                for datagram in out.chunks(sent.segment_size.unwrap_or(sent.size)) {
                    net.ends[1 - side].handle_datagram(net.now, addr([A, B][side]), None, false, datagram);
                }
            }
        }
        let mut events = Vec::new();
        net.ends[1].poll_events(net.now, usize::MAX, &mut events);
        for event in events {
            let count = numbers.len();
            let number: usize = *numbers.entry(event.conn).or_insert(count);
            if let Ok(count) = net.ends[1].read(net.now, event.conn, &mut room) {
                received[number] += count;
            }
        }
    }
    let mean = received.iter().sum::<usize>() / CONNECTIONS;
    let least = *received.iter().min().unwrap();
    assert!(mean >= 2000, "{mean}");
    assert!(2 * least >= mean, "the slowest got {least}, the mean is {mean}");
}
