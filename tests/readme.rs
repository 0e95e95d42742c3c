//! The README shows only what was run: this runs it.

#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod common;

use std::process::Command;

use common::{Running, path_with_tools};

/// Ports differ from run to run.
fn without_ports(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split(':');
    plain.extend(parts.next());
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        plain.push_str(if part.len() - rest.len() >= 4 { ":PORT" } else { ":" });
        plain.push_str(if part.len() - rest.len() >= 4 { rest } else { part });
    }
    plain
}

/// The commands of the `console` blocks, each with what is printed below it: those that need another
/// program, as in `console needs jq`, or those that need none.
fn examples(readme: &str, need_others: bool) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    for block in readme.split("```console").skip(1) {
        let (needs, block) = block.split_once('\n').unwrap();
        if needs.is_empty() == need_others {
            continue;
        }
        for line in block.split("```").next().unwrap().lines() {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => examples.push((command.to_owned(), String::new())),
                (None, Some((_, printed))) => printed.extend([line, "\n"]),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
    }
    examples
}

fn run(examples: Vec<(String, String)>) {
    for (command, shown) in examples {
        let script = format!("exec 2>&1; {command}");
        let printed =
            Running::spawn(Command::new("sh").args(["-c", &script]).env("PATH", path_with_tools())).finish();
        assert_eq!(without_ports(printed.text()), without_ports(&shown), "{command}");
    }
}

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn every_example_prints_what_the_readme_shows() {
    let examples = examples(&readme(), false);
    assert!(examples.len() >= 10, "{}", examples.len());
    run(examples);
}

#[test]
#[ignore = "needs jq and tshark"]
fn every_example_with_other_programs_prints_what_the_readme_shows() {
    let examples = examples(&readme(), true);
    assert!(examples.len() >= 3, "{}", examples.len());
    run(examples);
}

#[test]
fn ports_are_the_only_thing_that_may_differ() {
    assert_eq!(without_ports("a 127.0.0.1:40123 b:9 [::1]:5000\tx"), "a 127.0.0.1:PORT b:9 [::1]:PORT\tx");
}
