//! Build script: the C header and the link settings of the C library.
//!
//! The header is made from `src/ffi` into `OUT_DIR`; `include/rtcp.h` is the copy that is committed, and
//! `tests/header.rs` fails when the two differ. `RTCP_BLESS_HEADER=1 cargo build` renews the copy: a build
//! otherwise writes nothing into the source tree (cargo forbids it while packaging).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = env("TARGET");
    println!("cargo::rustc-env=RTCP_TEST_TARGET={target}");
    if target.contains("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,librtcp.so.{}", env("CARGO_PKG_VERSION_MAJOR"));
        // Threads and thread-local memory outlive any dlclose().
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    #[cfg(feature = "capi")]
    header::generate();
}

/// A variable that cargo always sets.
fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[cfg(feature = "capi")]
mod header {
    use std::path::Path;
    use std::{env, fs};

    use cbindgen::{
        Builder, Config, DocumentationStyle, EnumConfig, ExportConfig, FunctionConfig, Language, Style,
    };

    /// In the order of the header. Named one by one: cbindgen then starts no cargo of its own.
    const SOURCES: [&str; 11] = [
        "types.rs",
        "version.rs",
        "error.rs",
        "log.rs",
        "config.rs",
        "sender.rs",
        "receiver.rs",
        "connection.rs",
        "waiting.rs",
        "inspect.rs",
        "stats.rs",
    ];
    const RESERVED: &str = "loan.rs";

    /// Enums that no signature mentions: functions take and return plain `int`.
    const ENUMS: [&str; 8] = [
        "rtcp_error",
        "rtcp_option",
        "rtcp_event_bits",
        "rtcp_state",
        "rtcp_log_level",
        "rtcp_cc",
        "rtcp_cc_phase",
        "rtcp_io",
    ];

    const OPENING: &str = include_str!("src/ffi/opening.h");

    const PREAMBLE: &str = r#"
#if defined(__GNUC__) || defined(__clang__)
#define RTCP_NODISCARD __attribute__((warn_unused_result))
#define RTCP_DEPRECATED(msg) __attribute__((deprecated(msg)))
#else
#define RTCP_NODISCARD
#define RTCP_DEPRECATED(msg)
#endif

#define RTCP_VERSION_MAJOR @MAJOR@
#define RTCP_VERSION_MINOR @MINOR@
#define RTCP_VERSION_PATCH @PATCH@
#define RTCP_VERSION_NUMBER \
  ((RTCP_VERSION_MAJOR << 16) | (RTCP_VERSION_MINOR << 8) | RTCP_VERSION_PATCH)"#;

    pub(super) fn generate() {
        println!("cargo::rerun-if-changed=src/ffi");
        println!("cargo::rerun-if-env-changed=RTCP_BLESS_HEADER");
        let source = Path::new(&super::env("CARGO_MANIFEST_DIR")).join("src/ffi");
        let mut builder = Builder::new().with_config(config());
        for file in SOURCES.into_iter().chain([RESERVED]) {
            builder = builder.with_src(source.join(file));
        }
        let bindings = builder.generate().unwrap_or_else(|error| panic!("rtcp.h: {error}"));
        let made = Path::new(&super::env("OUT_DIR")).join("rtcp.h");
        let mut text = Vec::new();
        bindings.write(&mut text);
        // Rust's heading for what a caller of an unsafe function must see to is no word of C's.
        let text = String::from_utf8_lossy(&text).replace(" * # Safety\n", " * Pointers:\n");
        fs::write(&made, text).unwrap_or_else(|error| panic!("{}: {error}", made.display()));
        println!("cargo::rustc-env=RTCP_GENERATED_HEADER={}", made.display());
        if env::var_os("RTCP_BLESS_HEADER").is_some_and(|value| value == "1") {
            let include = source.join("../../include");
            fs::create_dir_all(&include)
                .and_then(|()| fs::copy(&made, include.join("rtcp.h")))
                .unwrap_or_else(|error| panic!("include/rtcp.h: {error}"));
        }
    }

    fn config() -> Config {
        let version = |part: &str| super::env(&format!("CARGO_PKG_VERSION_{part}"));
        let preamble = ["MAJOR", "MINOR", "PATCH"]
            .iter()
            .fold(PREAMBLE.to_owned(), |text, part| text.replace(&format!("@{part}@"), &version(part)));
        Config {
            language: Language::C,
            cpp_compat: true,
            header: Some(OPENING.trim_end().to_owned()),
            include_guard: Some("RTCP_H".to_owned()),
            no_includes: true,
            sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
            after_includes: Some(preamble),
            style: Style::Both,
            usize_is_size_t: true,
            documentation_style: DocumentationStyle::Doxy,
            export: ExportConfig { include: ENUMS.map(str::to_owned).to_vec(), ..ExportConfig::default() },
            function: FunctionConfig {
                must_use: Some("RTCP_NODISCARD".to_owned()),
                ..FunctionConfig::default()
            },
            enumeration: EnumConfig::default(),
            ..Config::default()
        }
    }
}
