//! Non-functional properties of the code itself: imports point one way, the core has no clock, `unsafe`
//! stays behind its fence, files and functions stay short.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("wire", &[]),
    ("connection", &["time", "wire"]),
    ("emulator", &["time"]),
    ("udp", &["time"]),
    ("endpoint", &["time", "wire", "connection", "udp"]),
    ("ffi", &["time", "connection", "endpoint", "udp"]),
];
/// In the endpoint only the driver's files know the udp room; the mux and its tables are sans-IO.
const SANS_IO: &[&str] = &[
    "src/time.rs",
    "src/wire/",
    "src/connection/",
    "src/emulator/",
    "src/endpoint/budget.rs",
    "src/endpoint/cookies.rs",
    "src/endpoint/half_open.rs",
    "src/endpoint/key.rs",
    "src/endpoint/mux",
    "src/endpoint/secrets.rs",
    "src/endpoint/slab.rs",
    "src/endpoint/stateless.rs",
    "src/endpoint/time_wait_table.rs",
    "src/endpoint/timers.rs",
];
/// Outside udp and ffi; docs/design.md says why, "The core's one unsafe file".
const UNSAFE_IN_THE_CORE: &[&str] = &["src/wire/crc32c.rs"];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: String,
    /// Without the unit tests at its end.
    code: String,
}

fn sources(dir: &str) -> Vec<Source> {
    let mut files = vec![];
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut files);
    files.sort();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable source file");
            let path = path.to_string_lossy().strip_prefix(root).expect("below the root").to_owned();
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            Source { path, code }
        })
        .filter(|s| !s.path.contains("/tests/") && !s.path.ends_with("/tests.rs"))
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder") {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn without_comments(code: &str) -> String {
    code.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn room(path: &str) -> &str {
    let inside = path.strip_prefix("src/").expect("a path below src");
    inside.split(['/', '.']).next().expect("a first component")
}

#[test]
fn imports_point_from_ffi_down_to_wire_and_never_up() {
    let mut wrong = vec![];
    for source in sources("src") {
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room(&source.path)) else { continue };
        let code = without_comments(&source.code);
        for (other, _) in ROOMS {
            let is_used = code.contains(&format!("crate::{other}"));
            if is_used && *other != room(&source.path) && !allowed.contains(other) {
                wrong.push(format!("{} uses crate::{other}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_has_no_clock_no_socket_no_thread_and_no_lock() {
    let banned = [
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::net::UdpSocket",
        "Mutex",
        "RwLock",
        "OnceLock",
        "thread_local",
        "static mut",
        "crate::udp",
        "std::fs",
        "std::env",
    ];
    let mut wrong = vec![];
    for source in sources("src").iter().filter(|s| SANS_IO.iter().any(|p| s.path.starts_with(p))) {
        let code = without_comments(&source.code);
        wrong.extend(banned.iter().filter(|b| code.contains(**b)).map(|b| format!("{}: {b}", source.path)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_lives_in_udp_and_ffi_and_one_file_of_the_core() {
    let wrong: Vec<String> = sources("src")
        .into_iter()
        .filter(|s| !matches!(room(&s.path), "udp" | "ffi") && !UNSAFE_IN_THE_CORE.contains(&s.path.as_str()))
        .filter(|s| without_comments(&s.code).contains("unsafe") || s.code.contains("allow(unsafe_code)"))
        .map(|s| s.path)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_and_functions_stay_within_their_budget() {
    let mut wrong = vec![];
    for source in sources("src") {
        let lines = source.code.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in source.code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if open.is_none()
                && (line.trim_start().starts_with("fn ") || line.contains(" fn "))
                && !line.contains("//")
            {
                open = Some((indent, number, line.trim().to_owned()));
            }
            if let Some((at, begin, name)) = &open
                && (line.trim_end().ends_with(';') || line.trim() == "}" || line.trim_end().ends_with('}'))
                && indent == *at
            {
                let length = number - begin + 1;
                if length > FUNCTION_LINES_MAX {
                    wrong.push(format!("{}:{}: {length} lines: {name}", source.path, begin + 1));
                }
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_profile_aborts_on_panic() {
    let manifest =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("the manifest");
    let set = manifest
        .lines()
        .any(|l| !l.trim_start().starts_with('#') && l.contains("panic") && l.contains("abort"));
    assert!(!set, "catch_unwind at the C boundary depends on unwinding");
}

/// README and its like, and all of docs/: path and text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder of documents"));
    let paths = entries.map(|entry| entry.expect("a folder entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable document");
            (path, text)
        })
        .collect()
}

/// As GitHub names a heading: lower case, words joined by hyphens, no other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(path: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| line.starts_with('#') && anchor(line) == wanted)
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let (mut wrong, mut count) = (vec![], 0);
    for (path, text) in documents() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            count += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            if !file.exists() || !(heading.is_empty() || has_anchor(&file, heading)) {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 20, "{count} links were found: is the search broken?");
}

/// `connection/rope` stands for src/connection/rope.rs, `mux/mod` for nothing: a place begins with its room.
#[test]
fn places_in_the_code_that_documents_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tops = ["src", "tests", "benches", "docs", "c-examples", "include"];
    let (mut wrong, mut count) = (vec![], 0);
    for (path, text) in documents() {
        for name in text.split('`').skip(1).step_by(2).filter(|name| name.contains('/')) {
            let name = name.split_whitespace().next().unwrap_or_default();
            let first = name.split('/').next().unwrap_or_default();
            let is_room = ROOMS.iter().any(|(room, _)| *room == first);
            if !is_room && !tops.contains(&first) {
                continue;
            }
            count += 1;
            let place = if is_room { root.join("src").join(name) } else { root.join(name) };
            if !place.exists() && !place.with_extension("rs").exists() {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 60, "{count} places were found: is the search broken?");
}

#[test]
fn the_readme_lists_every_option_of_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path| fs::read_to_string(root.join(path)).expect("a readable file");
    let (readme, header) = (read("README.md"), read("include/rtcp.h"));
    let table = readme.split("## Options").nth(1).and_then(|rest| rest.split("\n## ").next());
    let table: Vec<&str> = table.expect("a table of options").split('`').skip(1).step_by(2).collect();
    let lines = header.lines().map(str::trim_start).filter(|line| line.starts_with("RTCP_OPT_"));
    let options: Vec<&str> = lines.filter_map(|line| line.split_once(" =")).map(|(name, _)| name).collect();
    let missing: Vec<_> = options.iter().filter(|name| !table.contains(name)).collect();
    assert!(missing.is_empty() && options.len() > 20, "{missing:?}");
}
