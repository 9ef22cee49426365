//! The `udpl` program between real sockets on loopback.

use rtcp::emulator::{Impairments, Link};
use rtcp::time::Time;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A running `udpl`; killed if a test panics before it has ended.
struct Udpl {
    child: Child,
    stdout: BufReader<ChildStdout>,
    listen: SocketAddr,
}

/// What it left behind.
struct End {
    code: Option<i32>,
    json: String,
    stderr: String,
}

impl Udpl {
    fn start(to: &UdpSocket, arguments: &str) -> Self {
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--to", &to.local_addr().unwrap().to_string()])
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let listen = first.strip_prefix("listening ").expect("the first line tells the address");
        let listen = listen.trim_end().parse().unwrap();
        Self { child, stdout, listen }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(mut self) -> End {
        let code = self.child.wait().unwrap().code();
        let (mut json, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut json).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        End { code, json, stderr }
    }
}

impl Drop for Udpl {
    fn drop(&mut self) {
        _ = self.child.kill(); // an error means that it has ended
        _ = self.child.wait();
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_udpl"))
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

/// The count `name` in object `direction` of a line of JSON.
fn count(json: &str, direction: &str, name: &str) -> u64 {
    let object = json.split_once(&format!("\"{direction}\":{{")).expect(direction).1;
    let value = object.split_once(&format!("\"{name}\":")).expect(name).1;
    value.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn half_is_lost_as_the_model_foretells_and_each_client_has_a_source_of_its_own() {
    let (server, clients) = (socket(), [socket(), socket()]);
    let udpl = Udpl::start(&server, "--loss 50 --seed 7 --json");
    let mut model = Link::new(Impairments { loss: 0.5, ..Impairments::default() }, 7);
    let mut sources: [Option<SocketAddr>; 2] = [None, None];
    for k in 0..400_u32 {
        let which = k as usize % 2;
        clients[which].send_to(&k.to_be_bytes(), udpl.listen).unwrap();
        model.push(Time::ZERO, (), b"");
        if model.poll_delivery(Time::ZERO).is_some() {
            let mut bytes = [0; 100];
            let (length, from) = server.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..length], k.to_be_bytes());
            assert_eq!(*sources[which].get_or_insert(from), from);
        }
    }
    assert_ne!(sources[0], sources[1]);
    udpl.signal("TERM");
    let end = udpl.wait();

    let fates = model.stats();
    assert!((150..250).contains(&fates.lost));
    let of = |name| count(&end.json, "forward", name);
    // The last datagrams may be lost ones that the program has not read when the signal comes.
    assert!(of("in") > 380 && of("lost") <= fates.lost, "{}", end.json);
    assert_eq!((of("delivered"), of("in_flight"), of("unsent")), (fates.delivered, 0, 0));
    assert!(end.json.contains("\"clients\":2,") && end.json.ends_with("\"back\":null}\n"), "{}", end.json);
    assert!(end.stderr.contains("udpl: forward: ") && end.stderr.contains(" lost"), "{}", end.stderr);
    assert_eq!(end.code, Some(0));
}

#[test]
fn answers_find_their_client_and_both_ways_take_their_delay() {
    let (server, clients) = (socket(), [socket(), socket()]);
    let udpl = Udpl::start(&server, "--delay-ms 30 --back-delay-ms 20 --json");
    let start = Instant::now();
    for (number, client) in clients.iter().enumerate() {
        client.send_to(&[number as u8], udpl.listen).unwrap();
    }
    let mut byte = [0];
    for _ in &clients {
        let (_, from) = server.recv_from(&mut byte).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(30));
        server.send_to(&[byte[0] + 100], from).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        let (_, from) = client.recv_from(&mut byte).unwrap();
        assert_eq!((byte[0], from), (number as u8 + 100, udpl.listen));
    }
    assert!(start.elapsed() >= Duration::from_millis(50));
    udpl.signal("INT");
    let end = udpl.wait();
    assert_eq!((count(&end.json, "forward", "delivered"), count(&end.json, "back", "delivered")), (2, 2));
    assert_eq!(end.code, Some(0));
}

#[test]
fn one_way_relays_no_answer() {
    let (server, client) = (socket(), socket());
    let udpl = Udpl::start(&server, "--json");
    client.send_to(b"first", udpl.listen).unwrap();
    let (_, from) = server.recv_from(&mut [0; 10]).unwrap();
    server.send_to(b"answer", from).unwrap();
    // The second datagram comes after the answer; when it has passed, the answer has been left lying.
    client.send_to(b"second", udpl.listen).unwrap();
    server.recv_from(&mut [0; 10]).unwrap();
    client.set_nonblocking(true).unwrap();
    assert!(client.recv_from(&mut [0; 10]).is_err());
    udpl.signal("TERM");
    assert_eq!(count(&udpl.wait().json, "forward", "delivered"), 2);
}

#[test]
fn the_rate_holds_in_real_time() {
    let (server, client) = (socket(), socket());
    let udpl = Udpl::start(&server, "--rate-kbit 1000 --queue 100000 --json");
    let start = Instant::now();
    for _ in 0..20 {
        client.send_to(&[0; 1_250], udpl.listen).unwrap(); // 10 ms each
    }
    for _ in 0..20 {
        server.recv_from(&mut [0; 1_500]).unwrap();
    }
    let took = start.elapsed();
    // Never faster than the rate; the upper end leaves room for a busy machine.
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(20), "{took:?}");
    udpl.signal("TERM");
    let end = udpl.wait();
    let max = count(&end.json, "forward", "queue_delay_max_us");
    assert!((10_000..=190_000).contains(&max), "{}", end.json);
}

#[test]
fn it_ends_by_itself_after_its_duration() {
    let server = socket();
    let start = Instant::now();
    let end = Udpl::start(&server, "--duration-s 0.2").wait();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!((end.code, end.json.as_str()), (Some(0), ""));
    assert!(end.stderr.starts_with("udpl: forward: 0 in, 0 delivered"), "{}", end.stderr);
}

#[test]
fn bad_arguments_and_a_taken_port_are_refused_with_advice() {
    let run = |arguments: &[&str]| -> Output { command().args(arguments).output().unwrap() };
    let output = run(&["--listen", "127.0.0.1:0", "--to", "127.0.0.1:9", "--loss", "150"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "udpl: --loss 150: out of range; give a percentage from 0 to 100\n");

    let taken = socket();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address, "--to", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(&address) && stderr.contains("free port"), "{stderr}");
}
