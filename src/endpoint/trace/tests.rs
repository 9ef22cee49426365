//! Files on disk, made by transfers on loopback.

use std::fs;

use super::super::{ConnId, Endpoint, EndpointConfig};
use super::*;

/// What a wait for something certain may take where everything is slow.
const LONG: Option<Duration> = Some(Duration::from_secs(60));

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("rtcp-trace-{}-{name}", process::id()));
    fs::remove_file(&path).ok();
    path
}

/// What the file holds once `count` connections have ended in it. A close waits for the disk, but not for long.
fn read_to_the_end(path: &Path, count: usize) -> String {
    let deadline = std::time::Instant::now() + LONG.unwrap();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.matches(",closed,").count() >= count && text.ends_with('\n') {
            return text;
        }
        assert!(std::time::Instant::now() < deadline, "{text:.2000}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends `len` bytes between two endpoints that both trace to `path`, and closes them.
fn transfer(path: Option<&str>, len: usize) {
    let config = EndpointConfig { trace: path.map(str::to_owned), ..EndpointConfig::default() };
    let server = Endpoint::receiver(&config, Some("127.0.0.1"), 0).unwrap();
    let (client, id) = Endpoint::sender(&config, "127.0.0.1", server.local_addr().port()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut events = vec![];
        server.poll_events(&mut events, 1, LONG).unwrap();
        let (conn, mut room, mut got): (ConnId, _, _) = (events[0].conn, vec![0; 1 << 16], 0);
        loop {
            match server.recv_slice(conn, &mut room, LONG).unwrap() {
                0 => break,
                count => got += count,
            }
        }
        server.close_receiver(LONG).unwrap();
        got
    });
    assert_eq!(client.send(id, &vec![7; len], LONG).unwrap(), len);
    client.close_connection(id, LONG).unwrap();
    assert_eq!(reader.join().unwrap(), len);
}

#[test]
fn both_ends_of_a_transfer_share_a_file_and_every_line_has_every_column() {
    let path = scratch("shared-%p");
    transfer(path.to_str(), 3_000_000);
    let path = expand(&path);
    let text = read_to_the_end(&path, 2);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(&*header()));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == COLUMNS.len()));
    let with = |event: &str| rows.iter().filter(|row| row[2] == event).collect::<Vec<_>>();
    let opened = with("open");
    assert_eq!(opened.len(), 2, "{text:.2000}");
    assert_ne!(opened[0][1], opened[1][1], "each end has its own name");
    assert!(opened.iter().any(|row| row[3].starts_with("to 127.0.0.1:")));
    assert!(opened.iter().any(|row| row[3].starts_with("from 127.0.0.1:")));
    assert!(!with("ack").is_empty() && !with("received").is_empty());
    assert!(with("closed").iter().all(|row| row[3] == "orderly") && with("closed").len() == 2);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_full_disk_or_a_missing_folder_disturbs_no_transfer() {
    transfer(Some("/dev/full"), 200_000);
    transfer(Some("/nowhere/at/all.csv"), 200_000);
}

/// Under the lock of the endpoint nothing waits for the file.
#[test]
fn a_disk_that_stands_still_stalls_no_transfer() {
    let (stuck, until) = std::sync::mpsc::channel::<()>();
    let lines = Lines::begin(String::new(), move |_, _| {
        until.recv().ok();
        Ok(())
    });
    let config = EndpointConfig { trace: Some(String::new()), ..EndpointConfig::default() };
    let server = Endpoint::receiver(&config, Some("127.0.0.1"), 0).unwrap();
    let mut core = server.shared.lock().unwrap();
    core.mux.begin_trace();
    core.trace = Some(Trace::to(lines.unwrap()));
    drop(core);
    let (client, id) = Endpoint::sender(&config, "127.0.0.1", server.local_addr().port()).unwrap();
    for message in 0..3u8 {
        assert_eq!(client.send(id, &[message; 50_000], LONG).unwrap(), 50_000);
        let mut events = vec![];
        while events.is_empty() {
            server.poll_events(&mut events, 1, LONG).unwrap();
        }
        let (conn, mut left, mut room) = (events[0].conn, 50_000, vec![0; 50_000]);
        while left > 0 {
            left -= server.recv_slice(conn, &mut room[..left], LONG).unwrap();
        }
        server.shared.lock().unwrap().trace.as_ref().unwrap().hurry();
    }
    client.close_connection(id, LONG).unwrap();
    server.close_receiver(LONG).unwrap();
    drop(stuck);
}

#[test]
fn an_empty_name_means_no_trace_whatever_the_environment_says() {
    assert!(Trace::open(Some("")).is_none());
}

/// A test of its own, because the environment belongs to a whole process: it is run by the next.
#[test]
#[ignore = "run by the_variable_names_the_file_and_without_it_there_is_none"]
fn a_transfer_that_asks_for_nothing() {
    transfer(None, 100_000);
    if let Some(path) = udp::trace_path() {
        read_to_the_end(&path, 2); // a process that ends at once may be quicker than its disk
    }
}

#[test]
fn the_variable_names_the_file_and_without_it_there_is_none() {
    let folder = scratch("folder");
    fs::create_dir(&folder).unwrap();
    let files = || fs::read_dir(&folder).unwrap().count();
    let run = |variable: Option<&str>| {
        let mut child = process::Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "endpoint::trace::tests::a_transfer_that_asks_for_nothing"]);
        child.current_dir(&folder).env_remove("RTCP_TRACE").envs(variable.map(|file| ("RTCP_TRACE", file)));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    };
    run(None);
    run(Some(""));
    assert_eq!(files(), 0);
    run(Some("trace.csv"));
    assert_eq!(files(), 1);
    let text = fs::read_to_string(folder.join("trace.csv")).unwrap();
    assert!(text.starts_with(&header()) && text.matches(",closed,orderly,").count() == 2, "{text:.1000}");
    fs::remove_dir_all(&folder).unwrap();
}

/// The header of the file, the table of the documentation: one list.
#[test]
fn the_documentation_explains_every_column_in_order() {
    let table = include_str!("../../../docs/tracing.md");
    let documented: Vec<&str> = table
        .lines()
        .skip_while(|line| !line.starts_with("| column"))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(documented, COLUMNS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
