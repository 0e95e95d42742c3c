//! What `-h` and `--help` print.

use std::fs;

use crate::harness::{Printed, TOOLS, Tool};

#[test]
fn the_summary_has_the_usual_options_and_an_example_on_a_screen_of_24_lines() {
    for name in TOOLS {
        let summary = Tool::new(name).arg("-h").assert().success().out();
        let lines: Vec<_> = summary.lines().collect();
        assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80), "{summary}");
        let options = lines.iter().filter(|line| line.trim_start().starts_with('-'));
        assert!((10..=12).contains(&options.count()), "{summary}");
        assert!(lines.last().unwrap().starts_with("Example: "), "{summary}");
    }
}

/// The files are made by `udp-send --help > tests/it/help/udp-send.txt`.
#[test]
fn the_full_help_is_the_recorded_one() {
    for name in TOOLS {
        let file = format!("{}/tests/it/help/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let help = Tool::new(name).arg("--help").assert().success().out();
        assert!(help == fs::read_to_string(&file).unwrap(), "{name} --help differs from {file}:\n{help}");
    }
}

#[test]
fn help_is_printed_beside_any_other_arguments() {
    let print = |arguments: &[&str]| Tool::new("udp-send").args(arguments).assert().success().out();
    let (summary, full) = (print(&["-h"]), print(&["--help"]));
    assert_ne!(summary, full);
    assert_eq!(print(&["127.0.0.1:9", "-q", "-h", "hi"]), summary);
    assert_eq!(print(&["-h", "127.0.0.1:9", "--", "--help"]), summary);
    assert_eq!(print(&["127.0.0.1:9", "-q", "--help", "hi"]), full);
    assert_eq!(print(&["-h", "--help"]), full);
}
