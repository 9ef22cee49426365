//! `include/rtcp.h` is what the library says it is, and every compiler takes it without a warning.
#![cfg(feature = "capi")]

#[path = "common/cc.rs"]
mod cc_tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use cc_tools::{compiler, is_there, library, run_to_end, scratch, source_tree};

const C_STANDARDS: [&str; 3] = ["c99", "c11", "c17"];
const CPP_STANDARDS: [&str; 4] = ["c++11", "c++14", "c++17", "c++20"];
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

fn header() -> String {
    fs::read_to_string(source_tree().join("include/rtcp.h")).expect("include/rtcp.h")
}

/// Each function's name and the comment before it.
fn functions(header: &str) -> Vec<(String, String)> {
    let mut functions = Vec::new();
    let body = header.split("extern \"C\" {").nth(1).expect("a C++ wrapper");
    for block in body.split("/**").skip(1) {
        let (comment, declaration) = block.split_once("*/").expect("comments end");
        let before = declaration.split_once('(').expect("only functions are in the wrapper").0;
        let name = before.rsplit([' ', '*', '\n']).next().expect("a name");
        functions.push((name.to_owned(), comment.to_owned()));
    }
    functions
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let generated = fs::read_to_string(env!("RTCP_GENERATED_HEADER")).expect("build.rs wrote it");
    assert!(header() == generated, "include/rtcp.h is out of date: RTCP_BLESS_HEADER=1 cargo build");
}

#[test]
fn the_header_and_the_shared_library_name_the_same_functions() {
    let declared: BTreeSet<String> = functions(&header()).into_iter().map(|(name, _)| name).collect();
    let output = run_to_end(Command::new("nm").args(["-D", "--defined-only"]).arg(library("librtcp.so")));
    let symbols = String::from_utf8(output.stdout).expect("names are ASCII");
    let exported = symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned);
    assert_eq!(declared, exported.collect::<BTreeSet<_>>());
    assert!(declared.contains("rtcp_send") && declared.len() == 39, "{declared:?}");
}

#[test]
fn every_function_says_its_errors_threads_and_blocking() {
    let functions = functions(&header());
    for (name, comment) in &functions {
        for line in [" * Errors", " * Thread-safety: ", " * Blocks: "] {
            assert!(comment.contains(line), "{name}() has no line \"{line}\"");
        }
        assert!(!comment.contains("[`"), "{name}(): a link that only rustdoc understands");
    }
}

#[test]
fn the_shared_library_asks_to_stay_and_to_be_found_by_its_major_version() {
    let output = run_to_end(Command::new("readelf").arg("-d").arg(library("librtcp.so")));
    let dynamic = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(dynamic.contains("soname: [librtcp.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

fn compile_only(mut command: Command, standard: &str, source: &Path) {
    command.arg(format!("-std={standard}")).args(STRICT).arg("-fsyntax-only").arg(source);
    run_to_end(&mut command);
}

#[test]
fn every_standard_takes_the_header_without_a_warning() {
    let dir = scratch("header-matrix");
    let (c, cpp) = (dir.join("header.c"), dir.join("header.cc"));
    let twice =
        "#include \"rtcp.h\"\n#include \"rtcp.h\"\nint main(void) { return rtcp_version_number() == 0; }\n";
    fs::write(&c, twice).expect("scratch");
    fs::write(&cpp, twice.replace("(void)", "()")).expect("scratch");
    let with = |name: &str| {
        let mut command = Command::new(name);
        command.arg("-I").arg(source_tree().join("include"));
        command
    };
    for standard in C_STANDARDS {
        compile_only(compiler("c"), standard, &c);
        for name in ["gcc", "clang"].into_iter().filter(|name| is_there(name)) {
            compile_only(with(name), standard, &c);
        }
    }
    for standard in CPP_STANDARDS {
        compile_only(compiler("c++"), standard, &cpp);
        for name in ["g++", "clang++"].into_iter().filter(|name| is_there(name)) {
            compile_only(with(name), standard, &cpp);
        }
    }
}

#[test]
fn numbers_sizes_and_offsets_are_those_that_were_released() {
    let source = source_tree().join("tests/c/abi_values.c");
    compile_only(compiler("c"), "c11", &source);
    let checked = fs::read_to_string(source).expect("tests/c/abi_values.c");
    let is_comment = |line: &&str| line.trim().starts_with('*');
    for line in header().lines().filter(|line| !is_comment(line)) {
        let Some((name, _)) = line.trim().strip_suffix(',').and_then(|line| line.split_once(" = ")) else {
            continue;
        };
        assert!(checked.contains(&format!("IS({name}, ")), "abi_values.c does not hold {name}");
    }
}
