//! The README and the guide show only what was run: this runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Directory, Peer, Tool, unused_address};

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

/// Returns the commands of the `console` blocks, each with what is printed below it: those that need `program`, as in
/// `console needs jq`, or, where it is empty, those that need none.
pub(crate) fn examples(text: &str, program: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    for (needs, block) in blocks(text) {
        if needs != program {
            continue;
        }
        for line in block.lines() {
            match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => examples.push((command.to_owned(), String::new())),
                (None, Some((_, printed))) => printed.extend([line, "\n"]),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
    }
    examples
}

/// Returns the `console` blocks, each with the program that it needs.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("```console").skip(1).map(|block| {
        let (needs, block) = block.split_once('\n').unwrap();
        (needs.trim_start_matches(" needs "), block.split("```").next().unwrap())
    })
}

/// Runs the examples that need `program`.
fn run(program: &str) {
    let directory = Directory::new("readme");
    let examples = examples(&documents(), program);
    assert!(!examples.is_empty(), "no block needs {program:?}");
    for (command, shown) in examples {
        let script = format!("exec 2>&1; {command}");
        let printed = Tool::shell(&script).current_dir(directory.path()).run();
        assert_eq!(without_ports(printed.text()), without_ports(&shown), "{command}");
    }
}

fn readme() -> String {
    document("README.md")
}

pub(crate) fn document(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Returns all texts with examples.
fn documents() -> String {
    ["README.md", "docs/guide.md"].map(document).concat()
}

#[test]
fn every_example_prints_what_the_readme_shows() {
    run("");
}

#[test]
#[ignore = "needs jq and tshark"]
fn every_example_with_other_programs_prints_what_the_readme_shows() {
    for program in ["jq", "tshark"] {
        run(program);
    }
}

/// Returns the steps of the workflow, in their order.
fn steps() -> [String; 5] {
    let readme = readme();
    let (_, workflow) = readme.split_once("```yaml\n").unwrap();
    let lines = workflow.split("```").next().unwrap().lines();
    let steps: Vec<_> = lines.filter_map(|line| line.strip_prefix("- run: ")).map(str::to_owned).collect();
    steps.try_into().unwrap()
}

/// Returns the status of a step, as a runner of workflows runs it: in `directory`, with `port` as `$PORT`.
fn status(step: &str, directory: &Path, port: &str) -> Option<i32> {
    let shell = Tool::other("sh").args(["-e", "-c", step]).current_dir(directory);
    shell.env("PORT", port).env("OLD_PORT", port).run().code()
}

/// Puts a program of one line into `directory`.
pub(crate) fn program(directory: &Path, name: &str, script: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_steps_with_a_service_and_with_a_client_distinguish_success_from_failure() {
    let directory = Directory::new("workflow");
    let [metric, .., mock] = steps();
    for (script, expected) in [
        ("udp-send $2 starting:1\\|c deploys:1\\|c; exec tail -f /dev/null", 0),
        ("udp-send $2 deploys:1\\|c", 0),
        ("udp-send $2 deploys:10\\|c", 3),
        ("exit 9", 9),
    ] {
        program(directory.path(), "service", script);
        assert_eq!(status(&metric, directory.path(), ""), Some(expected), "{script}");
    }
    for (script, expected) in [
        ("test \"$(udp-recv $1 ping)\" = pong", 0),
        ("test \"$(udp-recv $1 ping)\" = something", 1),
        ("udp-recv -w 200ms 127.0.0.1:9 ping", 4),
    ] {
        program(directory.path(), "client", script);
        assert_eq!(status(&mock, directory.path(), ""), Some(expected), "{script}");
    }
}

#[test]
fn the_steps_with_a_server_distinguish_a_reply_silence_and_a_closed_port() {
    let directory = Directory::new("steps");
    let [_, answers, is_silent, is_closed, _] = steps();
    let arguments = ["127.0.0.1:0", "--exec", "case $(cat) in ping) printf pong;; esac"];
    let (_server, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    let (silent, closed) = (Peer::new(), unused_address());
    let port = |address: &str| address.rsplit(':').next().unwrap().to_owned();
    let [server, silent, closed] = [port(&address.to_string()), port(&silent.to_string()), port(&closed)];
    let statuses = |step: &str| [&server, &silent, &closed].map(|port| status(step, directory.path(), port));
    assert_eq!(statuses(&answers.replace("-w 1s", "-w 100ms")), [0, 1, 1].map(Some));
    assert_eq!(status(&answers, directory.path(), &server), Some(0));
    assert_eq!(statuses(&is_silent), [0, 0, 1].map(Some));
    assert_eq!(statuses(&is_silent.replace("nonsense", "ping")), [1, 0, 1].map(Some));
    assert_eq!(statuses(&is_closed.replace("udp-recv ", "udp-recv -w 100ms ")), [1, 1, 0].map(Some));
    assert_eq!(status(&is_closed, directory.path(), &closed), Some(0));
}

#[test]
fn every_block_is_run_by_a_test() {
    for (needs, block) in blocks(&documents()) {
        assert!(["", "jq", "tshark"].contains(&needs), "{needs}: {block}");
    }
}

#[test]
fn ports_are_the_only_thing_that_may_differ() {
    assert_eq!(without_ports("a 127.0.0.1:40123 b:9 [::1]:5000\tx"), "a 127.0.0.1:PORT b:9 [::1]:PORT\tx");
}

#[test]
fn the_step_with_a_service_gives_up_on_a_silent_service() {
    let directory = Directory::new("workflow-silent");
    let [metric, ..] = steps();
    program(directory.path(), "service", "exec tail -f /dev/null");
    assert_eq!(status(&metric.replace("-w 10s", "-w 100ms"), directory.path(), ""), Some(3));
}

#[test]
fn the_step_with_a_server_asks_it_again() {
    let directory = Directory::new("steps-again");
    let [_, answers, ..] = steps();
    let seen = directory.file("seen");
    // The first request is lost.
    let handler = format!("if test -e {0}; then printf pong; else : > {0}; fi", seen.display());
    let (_server, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "--exec", &handler]).spawn_listening();
    assert_eq!(status(&answers, directory.path(), &address.port().to_string()), Some(0));
    assert!(seen.exists());
}
