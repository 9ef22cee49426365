//! Build script: generates the C header.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
