//! What a C user finds after `install.sh`: the installed tree alone builds and runs programs.
#![cfg(all(target_os = "linux", feature = "capi"))]

#[path = "common/cc.rs"]
mod cc_tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cc_tools::{compiler, is_there, library, run_to_end, scratch, source_tree};

/// Installs the library under test into a directory of its own.
fn installed(test: &str) -> PathBuf {
    let dir = scratch(test);
    let (built, prefix) = (dir.join("built"), dir.join("prefix"));
    fs::create_dir(&built).expect("target/tmp is writable");
    for name in ["librtcp.a", "librtcp.so"] {
        fs::copy(library(name), built.join(name)).expect("cargo test builds the libraries");
    }
    fs::copy(env!("CARGO_BIN_EXE_udpl"), built.join("udpl")).expect("cargo test builds udpl");
    check(
        Command::new(source_tree().join("install.sh")).arg("--from").arg(&built).arg("--prefix").arg(&prefix),
    );
    prefix
}

fn copy_project(name: &str, to: &Path) {
    fs::create_dir_all(to).expect("target/tmp is writable");
    for entry in fs::read_dir(source_tree().join("c-examples").join(name)).expect("the project is there") {
        let path = entry.expect("readable").path();
        fs::copy(&path, to.join(path.file_name().expect("it has one"))).expect("target/tmp is writable");
    }
}

fn greeting() -> String {
    format!("rtcp {}: hello over rtcp\n", env!("CARGO_PKG_VERSION"))
}

/// Runs a command that must succeed and gives what it printed.
fn check(command: &mut Command) -> String {
    String::from_utf8(run_to_end(command).stdout).expect("text")
}

fn there(program: &str) -> bool {
    let found = is_there(program);
    if !found {
        println!("skipped: no {program} here");
    }
    found
}

#[test]
fn a_project_builds_with_pkg_config() {
    if !there("pkg-config") || !there("make") {
        return;
    }
    let prefix = installed("install_pkgconfig");
    let project = prefix.join("project");
    copy_project("use-pkgconfig", &project);
    for program in ["hello", "hello-static"] {
        let pkg_config_path = prefix.join("lib/pkgconfig");
        check(
            Command::new("make").arg("-C").arg(&project).arg(program).env("PKG_CONFIG_PATH", pkg_config_path),
        );
        assert_eq!(check(&mut Command::new(project.join(program))), greeting(), "{program}");
    }
    let needed = check(Command::new("readelf").arg("-d").arg(project.join("hello")));
    assert!(needed.contains("[librtcp.so.0]"), "programs ask for the soname: {needed}");
    let needed = check(Command::new("readelf").arg("-d").arg(project.join("hello-static")));
    assert!(!needed.contains("librtcp"), "the library is inside: {needed}");
}

#[test]
fn a_project_builds_with_cmake() {
    if !there("cmake") {
        return;
    }
    let prefix = installed("install_cmake");
    let (project, out) = (prefix.join("project"), prefix.join("project/build"));
    copy_project("use-cmake", &project);
    let prefix_path = format!("-DCMAKE_PREFIX_PATH={}", prefix.display());
    check(Command::new("cmake").arg("-S").arg(&project).arg("-B").arg(&out).arg(prefix_path));
    check(Command::new("cmake").arg("--build").arg(&out));
    for program in ["hello", "hello-static"] {
        assert_eq!(check(&mut Command::new(out.join(program))), greeting(), "{program}");
    }
}

#[test]
fn the_readme_s_program_works_when_pasted() {
    let prefix = installed("install_readme");
    let readme = fs::read_to_string(source_tree().join("README.md")).expect("README.md is there");
    let (_, rest) = readme.split_once("```c\n").expect("README.md has a C program");
    let (source, _) = rest.split_once("```").expect("the C program ends");
    let (file, program) = (prefix.join("hello.c"), prefix.join("hello"));
    fs::write(&file, source).expect("target/tmp is writable");
    let lib = prefix.join("lib");
    let mut cc = compiler("c");
    cc.args(["-Wall", "-Wextra", "-Werror"])
        .arg("-I")
        .arg(prefix.join("include"))
        .arg(&file)
        .arg("-o")
        .arg(&program);
    cc.arg("-L").arg(&lib).arg("-lrtcp").arg(format!("-Wl,-rpath,{}", lib.display()));
    check(&mut cc);
    assert_eq!(check(&mut Command::new(&program)), "hello\n");
}
