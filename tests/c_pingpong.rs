//! Small questions and answers between two C programs, in every way that the library can be driven.
#![cfg(all(target_os = "linux", feature = "capi"))]

#[path = "common/cc.rs"]
mod cc_tools;
#[path = "common/program.rs"]
mod program;

use std::time::{Duration, Instant};

use cc_tools::{Link, scratch};
use program::{Running, build_example};

const LIMIT: Duration = Duration::from_secs(120);
const COUNT: u64 = 2000;

fn figure(line: &str, name: &str) -> u64 {
    let value = line.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name}: {line}"));
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} is no number: {line}"))
}

#[test]
fn each_answer_comes_in_one_packet_whoever_drives_and_however_datagrams_leave() {
    let program = scratch("c_pingpong").join("rtcp_pingpong");
    build_example(&["c-examples/rtcp_pingpong.c", "c-examples/cli.c"], Link::Static, &program);
    for (ask, serve) in [("", ""), ("--no-thread", "--no-thread"), ("--no-thread", ""), ("", "--no-thread")] {
        for io in [("--no-gso", 2), ("", 3)] {
            let words = |words: &[&str]| -> Vec<String> {
                words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()).collect()
            };
            let mut server =
                Running::start(&program, &words(&["serve", "--listen", "127.0.0.1:0", serve, io.0]));
            let (address, count) = (server.address(), COUNT.to_string());
            let begun = Instant::now();
            let client =
                Running::start(&program, &words(&["ask", "--to", &address, "--count", &count, ask, io.0]));
            let (client, server) = (client.wait(LIMIT), server.wait(LIMIT));
            let milliseconds = begun.elapsed().as_millis() as u64;
            assert!(client.status.success() && server.status.success(), "{client:?} {server:?}");
            assert_eq!(figure(&client.stdout, "io"), io.1, "{client:?}");
            // With the warm-up, the handshake, the first ACKs; and what a busy machine makes come late, so that
            // timers expire, of which none is shorter than a millisecond.
            let packets = figure(&client.stdout, "packets_sent");
            assert!(packets < COUNT * 3 / 2 + milliseconds, "{client:?}");
        }
    }
}
