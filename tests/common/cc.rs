//! Compiles and runs C and C++ programs against the libraries that cargo has just built.
#![allow(dead_code)] // each test binary uses its part

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// No program of the tests runs longer, not even where everything is slow.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// What the static library needs on Linux (`rustc --print native-static-libs`).
const NATIVE_LIBS: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

pub(crate) fn source_tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `cargo test` puts librtcp.a and librtcp.so: `target/<profile>/deps`, beside the tests. One level
/// up lie only those of an earlier `cargo build`, if any.
pub(crate) fn library(name: &str) -> PathBuf {
    let path = env::current_exe().expect("a test has a path").with_file_name(name);
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// A new directory for one test, below cargo's own place for such things.
pub(crate) fn scratch(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("scratch directory");
    path
}

/// A directory with librtcp.so under the name that programs ask for.
pub(crate) fn shared_library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = scratch("shared");
        for name in ["librtcp.so", "librtcp.so.0"] {
            std::os::unix::fs::symlink(library("librtcp.so"), dir.join(name)).expect("symlink");
        }
        dir
    })
}

/// The compiler for `language` ("c" or "c++") as this machine has it, with include path.
pub(crate) fn compiler(language: &str) -> Command {
    let target = env!("RTCP_TEST_TARGET");
    let mut build = cc::Build::new();
    build.cargo_metadata(false).cargo_warnings(false).target(target).host(target).opt_level(1).debug(true);
    build.out_dir(env!("CARGO_TARGET_TMPDIR")).cpp(language == "c++");
    let mut command = build.get_compiler().to_command();
    command.arg("-I").arg(source_tree().join("include"));
    command
}

pub(crate) fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Static,
    Shared,
}

/// Builds `source` with warnings as errors; gives the program's path.
pub(crate) fn build(source: &Path, dir: &Path, link: Link) -> PathBuf {
    let is_cpp = source.extension().is_some_and(|extension| extension == "cc");
    let program = dir.join(source.file_stem().expect("a source has a name"));
    let mut command = compiler(if is_cpp { "c++" } else { "c" });
    command.arg(if is_cpp { "-std=c++17" } else { "-std=c11" });
    command.args(["-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]).arg(source).arg("-o").arg(&program);
    match link {
        Link::Static => command.arg(library("librtcp.a")),
        Link::Shared => {
            let dir = shared_library_dir();
            command.arg("-L").arg(dir).arg("-lrtcp").arg(format!("-Wl,-rpath,{}", dir.display()))
        }
    };
    run_to_end(command.args(NATIVE_LIBS));
    program
}

/// Runs a command that must succeed.
pub(crate) fn run_to_end(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A program in the background: killed when dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn spawn(command: &mut Command) -> Running {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Running { child, name: format!("{command:?}") }
}

impl Running {
    /// Waits for the program's own end.
    pub(crate) fn finish(mut self) -> Ended {
        let deadline = Instant::now() + LIMIT;
        while self.child.try_wait().expect("our own child").is_none() {
            assert!(Instant::now() < deadline, "{} did not end within {LIMIT:?}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
        self.collect()
    }

    /// Ends the program and gives what it said so far.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("our own child");
        self.collect()
    }

    fn collect(&mut self) -> Ended {
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut bytes = Vec::new();
            pipe.expect("piped").read_to_end(&mut bytes).expect("a pipe");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let stdout = read(self.child.stdout.as_mut().map(|pipe| pipe as _));
        let stderr = read(self.child.stderr.as_mut().map(|pipe| pipe as _));
        let code = self.child.wait().expect("our own child").code();
        Ended { code, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free UDP port that nobody gets by chance before its program binds it: none of those that the system deals out
/// (from 32768 on), and each is given once.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    (0..20_000)
        .map(|_| 10_000 + ((std::process::id() * 64 + GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16)
        .find(|&port| std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok())
        .expect("a free port")
}

/// Waits until somebody on this machine has bound UDP port `port`.
pub(crate) fn wait_until_bound(port: u16) {
    let entry = format!(":{port:04X} ");
    let deadline = Instant::now() + LIMIT;
    let is_bound = |table: &str| fs::read_to_string(table).is_ok_and(|text| text.contains(&entry));
    while !is_bound("/proc/net/udp") && !is_bound("/proc/net/udp6") {
        assert!(Instant::now() < deadline, "nobody bound port {port}");
        thread::sleep(Duration::from_millis(5));
    }
}
