//! SECURITY.md names the tests that prove what it says.

use std::fs;

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
