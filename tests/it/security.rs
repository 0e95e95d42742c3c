//! SECURITY.md names the tests that prove its statements.

use std::fs;

use crate::harness::Tool;

#[test]
fn every_test_that_the_security_policy_names_is_there() {
    let read = |name: &str| fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let policy = read("SECURITY.md");
    let quoted = policy.split('`').skip(1).step_by(2);
    let tests: Vec<_> = quoted.filter_map(|text| text.split_once("::")).collect();
    assert!(tests.len() > 10, "{tests:?}");
    for (module, test) in tests {
        let source = read(&format!("tests/it/{module}.rs"));
        assert!(source.contains(&format!("\nfn {test}() {{")), "{module}::{test}");
    }
}

#[test]
fn unsafe_code_is_only_where_the_security_policy_allows_it() {
    let found = Tool::shell("grep -rl 'unsafe {' src | sort").run();
    let rooms = ["src/net/batched.rs", "src/net/cmsg.rs", "src/net/sys.rs", "src/net/sys/"];
    for file in found.text().lines() {
        assert!(rooms.iter().any(|room| file.starts_with(room)), "{file}");
    }
    assert!(found.text().lines().count() >= rooms.len());
}
