//! Links the unwinder into the tools, where the C compiler has one to link.
//!
//! By default it is the shared library libgcc_s. A tool that asks one question and ends spends a
//! tenth of its life on loading that, and needs it only to print the backtrace of a panic.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_here = env::var_os("HOST") == env::var_os("TARGET");
    let is_gnu_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if !is_here || !is_gnu_linux {
        return;
    }
    let Some(directory) = env::var_os("OUT_DIR") else { return };
    // A compiler that has no such file echoes the name.
    let found = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    if !found.is_ok_and(|found| found.stdout.starts_with(b"/")) {
        return;
    }
    // The linker takes this script for libgcc_s, and the static unwinder in its place.
    let script = Path::new(&directory).join("libgcc_s.so");
    if fs::write(script, "GROUP ( -l:libgcc_eh.a -l:libgcc.a )\n").is_ok() {
        println!("cargo::rustc-link-search=native={}", Path::new(&directory).display());
    }
}
