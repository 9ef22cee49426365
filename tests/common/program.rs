//! Builds the example programs and talks with them while they run.
#![allow(dead_code)] // each test binary uses its part

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::cc_tools::{Link, compiler, library, run_to_end, shared_library_dir, source_tree};

/// Compiles `sources` (paths from the top of the source tree) as the examples' Makefile does.
pub(crate) fn build_example(sources: &[&str], link: Link, out: &Path) {
    let mut command = compiler("c");
    command.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    command.arg("-Ic-examples").args(sources).arg("-o").arg(out).current_dir(source_tree());
    match link {
        Link::Static => command.arg(library("librtcp.a")),
        Link::Shared => {
            let dir = shared_library_dir();
            command.arg("-L").arg(dir).arg("-lrtcp").arg(format!("-Wl,-rpath,{}", dir.display()))
        }
    };
    // What Rust's standard library needs; a Makefile for the shared library names none of it.
    if link == Link::Static {
        command.args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"]);
    }
    run_to_end(&mut command);
}

/// How much longer than usual everything may take: `RTCP_C_RUNNER` is a command put before every C program, such as
/// `valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite`.
pub(crate) fn patience() -> u32 {
    if runner().is_empty() { 1 } else { 20 }
}

fn runner() -> Vec<String> {
    let text = std::env::var("RTCP_C_RUNNER").unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A running program; killed when dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

/// How a program ended and what it printed (without what [`Running::line`] took).
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts `program` with `args`, under `RTCP_C_RUNNER` if that is set.
    pub(crate) fn start<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> Self {
        let mut words = runner();
        words.push(program.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let stderr = child.stderr.take().expect("stderr is piped");
        Self { child, name: format!("{command:?}"), stdout, stderr }
    }

    /// The next line on its standard output; empty at the end of it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout is text");
        line.trim_end().to_owned()
    }

    /// The address in the `listening ADDR:PORT` line that servers begin with.
    pub(crate) fn address(&mut self) -> String {
        let line = self.line();
        let address = line.strip_prefix("listening ").map(str::to_owned);
        address.unwrap_or_else(|| panic!("{}: said {line:?} instead of where it listens", self.name))
    }

    /// Sends it a signal by name, such as `INT`.
    pub(crate) fn signal(&self, name: &str) {
        run_to_end(Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()));
    }

    /// A line of its `/proc` status, of one task: what stands behind `name`.
    fn status(path: &Path, name: &str) -> u64 {
        let text = std::fs::read_to_string(path.join("status")).expect("it is running");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says it");
        let digits = line.trim_start_matches(':').trim().split(' ').next().unwrap_or_default();
        digits.parse().expect("a number")
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        Self::status(&self.proc(), "VmRSS")
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc().join("fd")).expect("it is our child").count()
    }

    /// How often its threads have gone to sleep so far.
    pub(crate) fn times_asleep(&self) -> u64 {
        let tasks = std::fs::read_dir(self.proc().join("task")).expect("it is our child");
        tasks.map(|task| Self::status(&task.expect("it is running").path(), "voluntary_ctxt_switches")).sum()
    }

    /// Waits until it ends; one that does not end within the limit fails the test.
    pub(crate) fn wait(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit * patience();
        let status = loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                None => {
                    self.child.kill().expect("it is our child");
                    let Ended { stdout, stderr, .. } = self.output();
                    panic!("{} did not end within {limit:?}\n{stdout}{stderr}", self.name);
                }
            }
        };
        Ended { status, ..self.output() }
    }

    fn output(&mut self) -> Ended {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        self.stdout.read_to_end(&mut out).expect("the pipe is ours");
        self.stderr.read_to_end(&mut err).expect("the pipe is ours");
        let status = self.child.wait().expect("it is our child");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { status, stdout: text(out), stderr: without_remarks(&text(err)) }
    }
}

/// Leaves out what valgrind remarks about itself (`--1234-- ...`); what it finds (`==1234== ...`) stays.
fn without_remarks(stderr: &str) -> String {
    let is_remark = |line: &&str| !runner().is_empty() && line.starts_with("--");
    stderr.split_inclusive('\n').filter(|line| !is_remark(line)).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Its exit code; a death by signal fails the test.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Asserts its exit code and hands it back.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }
}
