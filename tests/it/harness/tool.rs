//! A builder for the programs that tests run: our tools, shells that find them, and programs of others.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use assert_cmd::assert::{Assert, OutputAssertExt};

use super::{Finished, Running};

/// A program with its arguments and surroundings. It finds our tools in its `PATH`, and is the first of a process
/// group of its own. Its standard streams are pipes unless something else is given.
pub(crate) struct Tool {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    user: Option<u32>,
    input: Option<Vec<u8>>,
    streams: [Option<Stdio>; 3],
    has_terminal: bool,
}

impl Tool {
    /// Returns one of our tools.
    pub(crate) fn new(name: &str) -> Self {
        Self::other(path(name))
    }

    /// Returns a shell that runs `script`.
    pub(crate) fn shell(script: &str) -> Self {
        Self::other("sh").args(["-c", script])
    }

    /// Returns a program of other authors.
    pub(crate) fn other(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: vec![("PATH".to_owned(), path_with_tools())],
            directory: None,
            user: None,
            input: None,
            streams: [None, None, None],
            has_terminal: false,
        }
    }

    pub(crate) fn arg(self, argument: impl Display) -> Self {
        self.args([argument])
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl Display>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.to_string()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Display) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn envs<'n>(self, variables: impl IntoIterator<Item = (&'n str, impl Display)>) -> Self {
        variables.into_iter().fold(self, |tool, (name, value)| tool.env(name, value))
    }

    pub(crate) fn current_dir(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Runs it as the user of this number.
    pub(crate) fn user(mut self, number: u32) -> Self {
        self.user = Some(number);
        self
    }

    /// Has `wrapper` run it: a program whose last arguments are a command line, such as strace(1).
    pub(crate) fn under(mut self, wrapper: &str, arguments: impl IntoIterator<Item = impl Display>) -> Self {
        let mut words: Vec<_> = arguments.into_iter().map(|argument| argument.to_string()).collect();
        words.push(std::mem::replace(&mut self.program, wrapper.to_owned()));
        self.arguments.splice(..0, words);
        self
    }

    /// Has a shell run it after the commands `setup`.
    pub(crate) fn after(self, setup: &str) -> Self {
        self.under("sh", ["-c", &format!("{setup}; exec \"$@\""), "sh"])
    }

    /// Has strace(1) make system calls fail: `fault` is what follows `inject=`.
    pub(crate) fn with_fault(self, fault: &str) -> Self {
        self.under("strace", ["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={fault}")])
    }

    /// Runs it as the first process of a container (pid_namespaces(7)). It dies with unshare(1).
    pub(crate) fn in_container(self) -> Self {
        self.under("unshare", ["--pid", "--fork", "--kill-child"])
    }

    /// Makes `terminal` its three standard streams and the terminal of its session, which is a new one, whatever
    /// terminal the tests run at. It may show colours.
    pub(super) fn at_terminal(self, terminal: &File) -> Self {
        let [input, output, errors] = [(); 3].map(|()| terminal.try_clone().unwrap());
        // What the test sets is in place of this.
        let mut tool = self.under("setsid", ["--ctty"]).stdin(input).stdout(output).stderr(errors);
        tool.environment.insert(0, ("TERM".to_owned(), "xterm-256color".to_owned()));
        Self { has_terminal: true, ..tool }
    }

    /// Opens `file` as its descriptor 3.
    pub(crate) fn descriptor_3(self, file: &impl AsFd) -> Self {
        self.after("exec 3<&0 < /dev/null").stdin(file.as_fd().try_clone_to_owned().unwrap())
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.streams[0] = Some(stdin.into());
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.streams[1] = Some(stdout.into());
        self
    }

    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.streams[2] = Some(stderr.into());
        self
    }

    /// Writes `input` to its stdin and closes that. It may exit without having read all.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Starts it beside the test.
    pub(crate) fn spawn(self) -> Running {
        let mut command = Command::new(&self.program);
        if self.has_terminal {
            // setsid(1) makes it the first of a process group, and would start it in a process of its own if it
            // were one already.
            command.env_remove("NO_COLOR");
        } else {
            command.process_group(0);
        }
        command.args(&self.arguments).envs(self.environment);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if let Some(user) = self.user {
            command.uid(user);
        }
        let [stdin, stdout, stderr] = self.streams.map(|stream| stream.unwrap_or_else(Stdio::piped));
        let mut running = Running::spawn(command.stdin(stdin).stdout(stdout).stderr(stderr));
        if let Some(input) = self.input {
            let mut stdin = running.take_stdin().expect("a pipe as stdin");
            thread::spawn(move || stdin.write_all(&input));
        }
        running
    }

    /// Starts a tool that listens and waits until it does. Returns the address to reach it.
    pub(crate) fn spawn_listening(self) -> (Running, SocketAddr) {
        let mut running = self.spawn();
        let address = running.listening_on();
        (running, address)
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Finished {
        self.spawn().finish()
    }

    /// Runs it to its end, and asserts in the manner of `assert_cmd`.
    pub(crate) fn assert(self) -> Assert {
        let words = format!("{} {:.500?}", self.program, self.arguments);
        self.run().into_output().assert().append_context("command", words)
    }
}

/// What a program that has ended has printed.
pub(crate) trait Printed {
    fn out(&self) -> String;
    fn err(&self) -> String;
}

impl Printed for Assert {
    fn out(&self) -> String {
        String::from_utf8(self.get_output().stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.get_output().stderr.clone()).unwrap()
    }
}

/// Returns what a tool prints on stderr. It must print nothing on stdout and exit with `status`.
pub(crate) fn complaint(name: &str, arguments: &[&str], status: i32) -> String {
    Tool::new(name).args(arguments).input("hi\n").assert().code(status).stdout("").err()
}

/// Returns the path of one of our tools.
pub(crate) fn path(name: &str) -> &'static str {
    match name {
        "udp-send" => env!("CARGO_BIN_EXE_udp-send"),
        "udp-recv" => env!("CARGO_BIN_EXE_udp-recv"),
        "udp-listen" => env!("CARGO_BIN_EXE_udp-listen"),
        "udp-chat" => env!("CARGO_BIN_EXE_udp-chat"),
        "udp-relay" => env!("CARGO_BIN_EXE_udp-relay"),
        other => panic!("there is no tool {other}"),
    }
}

/// Returns the `PATH` with our tools in front.
pub(crate) fn path_with_tools() -> String {
    let tools = Path::new(path("udp-send")).parent().unwrap();
    format!("{}:{}", tools.display(), std::env::var("PATH").unwrap())
}
