//! SECURITY.md names the tests that prove its statements.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};

use crate::harness::{Cable, Directory, Display, Peer, Seat, Tool, children, ctrl};

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

/// Has strace(1) write these system calls of `tool` and what it starts to `file`.
fn traced(tool: Tool, calls: &str, file: &Path) -> Tool {
    let calls = format!("trace={calls}");
    tool.under("strace", ["-f", "-qq", "-yy", "-o", file.to_str().unwrap(), "-e", &calls])
}

/// Returns the files in a trace that were opened for writing, created, changed or removed. What is written to the
/// standard streams is not among them, although they are opened again.
fn written(trace: &Path) -> Vec<String> {
    let calls = fs::read_to_string(trace).unwrap();
    assert!(calls.contains("execve("), "{calls}");
    let reads = ["O_RDONLY", "execve(", "access(", "faccessat", "stat", "readlink", "getcwd(", "AF_INET"];
    let writes = calls.lines().filter(|call| {
        call.contains('(')
            && !call.contains("<... ")
            && (call.contains("O_CREAT") || !reads.iter().any(|word| call.contains(word)))
            && !call.contains("\"/proc/self/fd/")
    });
    let mut files: Vec<_> = writes.map(|call| call.split('"').nth(1).unwrap_or(call).to_owned()).collect();
    files.sort();
    files.dedup();
    files
}

#[test]
#[ignore = "needs strace"]
fn no_file_is_written_but_those_that_are_named() {
    let directory = Directory::new("written");
    let trace = directory.file("trace");
    let [ready, history, socket] =
        ["ready", "history", "socket"].map(|name| directory.file(name).display().to_string());
    let [unix, server] = [format!("unix:{socket}"), Peer::echoing()];
    let run = |tool: &str, arguments: &[&str]| {
        traced(Tool::new(tool).args(arguments), "%file,bind", &trace).current_dir(directory.path())
    };
    for arguments in [
        &["udp-listen", "127.0.0.1:0", "-f", "pcap", "--stats", "-v"][..],
        &["udp-listen", "127.0.0.1:0", "--exec", "cat", "-p", "-t", "-e", "gbk"],
        &["udp-listen", "127.0.0.1:0", "--coprocess", "cat", "--stats-interval", "1s"],
        &["udp-recv", "--bind", "127.0.0.1:0", "-f", "json"],
        &["udp-chat", "--bind", "127.0.0.1:0"],
        &["udp-relay", "127.0.0.1:0", &server, "-f", "json"],
        &["udp-relay", "127.0.0.1:0", &server, "--ready-file", &ready],
        &["udp-listen", "127.0.0.1:0", "--ready-file", &ready],
    ] {
        let (running, address) = run(arguments[0], &arguments[1..]).spawn_listening();
        Tool::new("udp-send").args([&address.to_string(), "hi"]).assert().success();
        for tool in children(running.pid()) {
            let _ = kill(tool, Signal::SIGTERM);
        }
        running.ended();
        // The ready file is written under another name beside it, and renamed.
        let (files, is_named) = (written(&trace), arguments.contains(&&*ready));
        assert!(files.iter().all(|file| is_named && file.starts_with(&ready)), "{arguments:?}: {files:?}");
        assert_eq!(files.contains(&ready), is_named, "{arguments:?}: {files:?}");
    }
    for arguments in [
        &["udp-send", &server, "hi", "--stats"][..],
        &["udp-send", &server, "-f", "hex", "cafe", "--stamp"],
        &["udp-recv", &server, "hi", "--stats=json", "-p"],
        &["udp-chat", "--bind", "127.0.0.1:0", "-w", "10ms", &server],
    ] {
        assert!(run(arguments[0], &arguments[1..]).run().status.success(), "{arguments:?}");
        assert_eq!(written(&trace), [""; 0], "{arguments:?}");
    }
    let mut listen = run("udp-listen", &[&unix, "-n", "1"]).spawn();
    listen.err_line_with("listening on");
    Tool::new("udp-send").args([&unix, "hi"]).assert().success();
    listen.ended();
    assert_eq!(written(&trace), [socket]);

    let mut seat = Seat::with(Display::new(24, 80), |chat| {
        traced(chat.args(["--history", &history]), "%file,bind", &trace)
    });
    seat.type_keys("hi\r");
    assert_eq!(seat.received(), "hi");
    seat.type_keys(&ctrl('d'));
    assert!(seat.display.ended().success());
    assert_eq!(written(&trace), [history]);
}

#[test]
#[ignore = "needs root, ip, python3 and strace"]
fn a_listener_sends_nothing_unless_it_is_asked_to() {
    let (cable, directory) = (Cable::new("unasked"), Directory::new("unasked"));
    let trace = directory.file("trace");
    let calls = "sendto,sendmsg,sendmmsg,write,writev,splice,io_uring_setup";
    for (options, is_asked_to) in [
        (&[][..], false),
        (&["-f", "json", "--deny", "2001:db8::9"], false),
        (&["--until", "^end", "-e", "ascii", "--errors", "strict"], false),
        (&["--echo"], true),
    ] {
        let listen = Tool::new("udp-listen").args([":7788", "-n", "4"]).args(options);
        let mut listen = cable.far.host(traced(listen, calls, &trace)).spawn();
        listen.err_line_with("listening on");
        let send = |payload| {
            let send = cable.near.tool("udp-send").args(["[fe80::2%cable0]:7788", payload]);
            send.assert().success();
        };
        ["hi", "", "a"].into_iter().for_each(send);
        // An ICMP error about a datagram that it has not sent.
        cable.forge("icmp", &["fe80::1", "fe80::2", "fe80::2", "fe80::1", "7788", "5000"]);
        send("end");
        assert_eq!(listen.ended().code(), Some(0), "{options:?}");
        let calls = fs::read_to_string(&trace).unwrap();
        let answers: Vec<_> = calls.lines().filter(|call| call.contains("<UDP")).collect();
        assert_eq!(!answers.is_empty(), is_asked_to, "{options:?}: {answers:#?}");
    }
}
