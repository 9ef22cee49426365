//! C programs against the C API: misuse of every function, calls that meet in one handle, and the programs
//! of `tests/api-programs`, which users would write, compiled unchanged.
#![cfg(feature = "capi")]

#[path = "common/cc.rs"]
mod cc_tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cc_tools::{
    Ended, LIMIT, Link, Running, build, compiler, free_port, is_there, run_to_end, scratch,
    shared_library_dir, source_tree, spawn, wait_until_bound,
};

fn own(name: &str) -> PathBuf {
    source_tree().join("tests/c").join(name)
}

fn api_program(name: &str) -> PathBuf {
    source_tree().join("tests/api-programs").join(name)
}

fn start(program: &Path, args: &[&dyn ToString]) -> Running {
    spawn(Command::new(program).args(args.iter().map(|arg| arg.to_string())))
}

/// Starts a program that listens on `port`, and waits until it does.
fn start_server(program: &Path, port: u16) -> Running {
    let server = start(program, &[&port]);
    wait_until_bound(port);
    server
}

#[track_caller]
fn assert_success(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn every_wrong_use_has_its_code_linked_statically_and_dynamically() {
    for (link, name) in [(Link::Static, "misuse-static"), (Link::Shared, "misuse-shared")] {
        let program = build(&own("misuse.c"), &scratch(name), link);
        assert_success(&start(&program, &[]).finish());
    }
}

#[test]
fn what_a_call_was_to_write_is_defined_however_it_fails() {
    let program = build(&own("outs.c"), &scratch("outs"), Link::Static);
    assert_success(&start(&program, &[]).finish());
}

#[test]
fn a_socket_that_its_owner_shuts_down_ends_every_connection_and_nobody_spins() {
    let program = build(&own("shutdown.c"), &scratch("shutdown"), Link::Static);
    assert_success(&start(&program, &[]).finish());
}

#[test]
fn wrong_use_touches_no_foreign_memory_and_leaks_none() {
    if !is_there("valgrind") {
        eprintln!("valgrind is not there: not tested");
        return;
    }
    for (source, option) in [("misuse.c", "--no-fork"), ("shards.c", "--quick")] {
        let program = build(&own(source), &scratch(&format!("{source}-valgrind")), Link::Static);
        let mut command = Command::new("valgrind");
        command.args(["-q", "--error-exitcode=9", "--leak-check=full"]);
        // Endpoints in the background still live at exit: what a thread holds is not lost.
        command.args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
        command.arg(program).arg(option);
        assert_success(&spawn(&mut command).finish());
    }
}

#[test]
fn bytes_sent_and_received_in_place_arrive_once_and_stay_as_they_are() {
    let program = build(&own("loans.c"), &scratch("loans"), Link::Static);
    assert_success(&start(&program, &[]).finish());
    if is_there("valgrind") {
        let mut command = Command::new("valgrind");
        command.args(["-q", "--error-exitcode=9", "--leak-check=full"]);
        command.args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]);
        assert_success(&spawn(command.arg(program)).finish());
    }
}

#[test]
fn calls_that_meet_in_one_handle_end_as_the_header_says() {
    let program = build(&own("threads.c"), &scratch("threads"), Link::Shared);
    assert_success(&start(&program, &[]).finish());
}

#[test]
fn no_call_hangs_whatever_threads_call_wake_and_close_at_random() {
    let program = build(&own("waits.c"), &scratch("waits"), Link::Static);
    let both = [start(&program, &[&2]), start(&program, &[&"--no-thread", &2])];
    both.into_iter().for_each(|running| assert_success(&running.finish()));
}

#[test]
fn several_shards_behind_one_handle_serve_as_one() {
    let program = build(&own("shards.c"), &scratch("shards"), Link::Static);
    assert_success(&start(&program, &[]).finish());
}

#[test]
fn the_zero_copy_program_compiles_and_links() {
    let dir = scratch("j_zero");
    let main = dir.join("main.c");
    fs::write(&main, "#include \"rtcp.h\"\nint send_file(rtcp_handle h, int fd);\nint recv_file(rtcp_handle h, int fd);\nint main(void) { return send_file(0, 0) != RTCP_ENOCONN || recv_file(0, 0) != RTCP_ENOCONN; }\n")
        .expect("scratch");
    let program = dir.join("j_zero");
    let mut command = compiler("c");
    command.args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]);
    command.arg(api_program("j_zero.c")).arg(&main).arg("-o").arg(&program);
    command.arg("-L").arg(shared_library_dir()).arg("-lrtcp");
    run_to_end(command.arg(format!("-Wl,-rpath,{}", shared_library_dir().display())));
    assert_success(&start(&program, &[]).finish());
}

#[test]
fn a_file_arrives_as_it_was() {
    let dir = scratch("file");
    let send = build(&api_program("a_send.c"), &dir, Link::Static);
    let recv = build(&api_program("b_recv.c"), &dir, Link::Shared);
    let port = free_port();
    let source = dir.join("source");
    let bytes: Vec<u8> =
        (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(3_000_001).collect();
    fs::write(&source, &bytes).expect("scratch");
    let receiver = spawn(Command::new(&recv).arg(port.to_string()).current_dir(&dir));
    wait_until_bound(port);
    assert_success(&start(&send, &[&source.display(), &"127.0.0.1", &port]).finish());
    let received = wait_for_file(&dir, bytes.len());
    assert!(received == bytes, "{} of {} bytes, or other ones", received.len(), bytes.len());
    drop(receiver);
}

/// The content of the one `in-<handle>` file in `dir` once it has `len` bytes.
fn wait_for_file(dir: &Path, len: usize) -> Vec<u8> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let entries = fs::read_dir(dir).expect("scratch").filter_map(Result::ok);
        let found = entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("in-")));
        let content = found.map(|path| fs::read(path).expect("our own file")).unwrap_or_default();
        if content.len() >= len || Instant::now() > deadline {
            return content;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_echo_server_serves_an_event_loop_way_and_a_thread_per_client_way() {
    let dir = scratch("echo");
    let client = build(&api_program("d_reqresp.c"), &dir, Link::Static);
    for server in ["b2_echo.c", "k_threads.c"] {
        let server = build(&api_program(server), &dir, Link::Shared);
        let port = free_port();
        let running = start_server(&server, port);
        let clients: Vec<_> = (0..5).map(|_| start(&client, &[&port])).collect();
        for client in clients {
            let ended = client.finish();
            assert_success(&ended);
            assert_eq!(ended.stdout, "success GET x\n");
        }
        drop(running);
    }
}

const SIGINT: u32 = 2;

/// Waits until process `id` has a handler for `signal`.
fn wait_until_caught(id: u32, signal: u32) {
    let deadline = Instant::now() + LIMIT;
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let set = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    };
    while caught().is_none_or(|set| set >> (signal - 1) & 1 == 0) {
        assert!(Instant::now() < deadline, "no handler for signal {signal}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn control_c_ends_a_wait_and_the_program_goes_on() {
    let client = build(&api_program("d_reqresp.c"), &scratch("interrupt"), Link::Static);
    let silent = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("a free port"); // answers nothing
    let running = start(&client, &[&silent.local_addr().expect("bound").port()]);
    wait_until_caught(running.id(), SIGINT);
    run_to_end(Command::new("kill").args(["-INT", &running.id().to_string()]));
    let ended = running.finish();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("rtcp_wake"), "{ended:?}");
}

#[test]
fn python_uses_the_library_through_ctypes() {
    if !is_there("python3") {
        eprintln!("python3 is not there: not tested");
        return;
    }
    let dir = scratch("python");
    let server = build(&api_program("b2_echo.c"), &dir, Link::Static);
    let port = free_port();
    let running = start_server(&server, port);
    let script = api_program("f.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(port.to_string()).current_dir(shared_library_dir());
    let ended = spawn(&mut command).finish();
    assert_success(&ended);
    assert!(ended.stdout.starts_with(&format!("127.0.0.1:{port} b'hello'")), "{ended:?}");
    assert!(ended.stdout.contains("stale:"), "{ended:?}");
    drop(running);
}

#[test]
fn one_epoll_loop_without_a_library_thread_forwards_to_two_upstreams() {
    let dir = scratch("epoll");
    let forward = build(&api_program("c_epoll.c"), &dir, Link::Shared);
    let echo = build(&api_program("b2_echo.c"), &dir, Link::Static);
    let send = build(&api_program("h_exit.c"), &dir, Link::Static);
    let (upstream_a, upstream_b, port) = (free_port(), free_port(), free_port());
    let servers = [start_server(&echo, upstream_a), start_server(&echo, upstream_b)];
    let forwarder = start(&forward, &[&port, &upstream_a, &upstream_b]);
    wait_until_bound(port);
    assert_success(&start(&send, &[&port]).finish());
    let ended = forwarder.finish();
    assert_eq!(ended.stdout, "success success\n", "{ended:?}");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    drop(servers);
}

#[test]
fn a_move_only_cpp_wrapper_gets_the_refusal_of_a_port_where_nobody_listens() {
    let program = build(&api_program("e.cc"), &scratch("cpp"), Link::Shared);
    let ended = start(&program, &[]).finish();
    assert_eq!(ended.code, Some(1), "port 1 is closed: {ended:?}");
}

#[test]
fn peers_that_dial_each_other_at_once_talk_both_ways() {
    let peer = build(&api_program("g_p2p.c"), &scratch("p2p"), Link::Static);
    let ports = [free_port(), free_port(), free_port()];
    let [a, b, c] = ports;
    let running = [start(&peer, &[&a, &b, &c]), start(&peer, &[&b, &a, &c]), start(&peer, &[&c, &a, &b])];
    for (port, peer) in ports.into_iter().zip(running) {
        let ended = peer.finish();
        for other in ports.into_iter().filter(|&other| other != port) {
            let line = format!("{port} got: hello from {other}\n");
            assert_eq!(ended.stdout.matches(&line).count(), 1, "{ended:?}");
        }
    }
}

#[test]
fn a_program_that_flushes_before_it_exits_has_delivered() {
    let dir = scratch("exit");
    let client = build(&api_program("h_exit.c"), &dir, Link::Shared);
    let server = build(&api_program("b2_echo.c"), &dir, Link::Static);
    let port = free_port();
    let running = start_server(&server, port);
    let ended = start(&client, &[&port]).finish();
    assert_success(&ended);
    assert_eq!(ended.stdout, "");
    drop(running);
}

#[test]
fn two_hundred_connections_share_one_socket() {
    let dir = scratch("many");
    let clients = build(&api_program("i_many.c"), &dir, Link::Static);
    let server = build(&api_program("b2_echo.c"), &dir, Link::Shared);
    let port = free_port();
    let running = start_server(&server, port);
    let ended = start(&clients, &[&port, &200]).finish();
    assert_eq!(ended.stdout, "200 of 200 delivered\n", "{ended:?}");
    assert_success(&ended);
    drop(running);
}
