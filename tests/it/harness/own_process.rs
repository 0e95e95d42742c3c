//! A process for one test.

use std::process::Command;

/// Set in a process that runs one test alone.
const MARK: &str = "UDP_TOOLS_OWN_PROCESS";

/// Runs the body of the test called `name`, as in `answer::a_test`, in a process of its own, which begins with
/// the line `setup` of a shell. That is for what belongs to a whole process, such as its limits.
pub(crate) fn in_own_process(name: &str, setup: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let script = format!("{setup} && exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
    let output = shell.args(["--include-ignored", "--exact", name]).env(MARK, "1").output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}
