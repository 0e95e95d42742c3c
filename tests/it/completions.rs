//! What --completions prints makes each shell complete our arguments.

use std::io::pipe;

use crate::harness::{Printed, TOOLS, Tool};

/// The tools that have charsets.
const WITH_CHARSETS: [&str; 4] = ["udp-send", "udp-recv", "udp-listen", "udp-chat"];
/// The tools that join groups.
const WITH_GROUPS: [&str; 4] = ["udp-recv", "udp-listen", "udp-chat", "udp-relay"];

/// Returns the line of the README that makes `shell` complete our arguments.
fn lesson(shell: &str) -> &'static str {
    let words = format!("--completions {shell}");
    include_str!("../../README.md").lines().find(|line| line.contains(&words)).unwrap().trim()
}

/// Returns what a shell prints that is started with `arguments`, of which the last is a script. It must not complain.
fn printed(shell: &str, arguments: &[&str]) -> String {
    let finished = Tool::other(shell).args(arguments).run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{shell} {arguments:?}");
    finished.text().to_owned()
}

/// Has `shell` read every script with `option`, which keeps it from running them.
fn check(shell: &str, option: &str) {
    for name in TOOLS {
        let script = Tool::new(name).args(["--completions", shell]).assert().success().stderr("");
        let script = script.out();
        assert!(!script.is_empty());
        Tool::other(shell).arg(option).input(script).assert().success().stderr("");
    }
}

/// Returns what bash offers for the last word of `line`, which may be empty, and before it how it is to treat that.
fn offered_by_bash(line: &str) -> String {
    // bash has compopt only where a line is edited.
    const ASK: &str = "\
compopt() { echo \"$*\"; }
read -r _ function _ < <(complete -p \"$1\" | grep -o -- '-F .*')
COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))
\"$function\" \"$1\" \"${@: -1}\" \"${@: -2:1}\"
printf '%s\\n' \"${COMPREPLY[@]}\"";
    let script = [lesson("bash"), ASK].join("\n");
    let words: Vec<&str> = line.split(' ').collect();
    printed("bash", &[&["-c", &script, "bash"][..], &words].concat())
}

/// Returns what fish offers for the last word of `line`, without their descriptions.
fn offered_by_fish(line: &str) -> String {
    let script = format!("{}; complete -C '{line}' | cut -f 1", lesson("fish"));
    printed("fish", &["--no-config", "-c", &script])
}

/// Types `line` into zsh with a Tab at its end, and waits until `whole` is there.
fn await_zsh(line: &str, whole: &str) {
    let script = format!(
        "zmodload zsh/zpty; zpty shell zsh -f -i
         zpty -w shell 'autoload -U compinit; compinit -D -u; {}; PS1=; echo rea\"\"dy'
         zpty -r shell seen '*ready*'
         zpty -w -n shell $'{line}\\t'; zpty -r shell seen '*{whole}*'",
        lesson("zsh")
    );
    assert_eq!(printed("zsh", &["-f", "-c", &script]), "");
}

#[test]
fn bash_understands_every_script() {
    check("bash", "-n");
}

#[test]
#[ignore = "needs zsh"]
fn zsh_understands_every_script() {
    check("zsh", "-n");
}

#[test]
#[ignore = "needs fish"]
fn fish_understands_every_script() {
    check("fish", "--no-execute");
}

#[test]
fn bash_completes_options_and_the_names_of_values() {
    for name in WITH_CHARSETS {
        assert_eq!(offered_by_bash(&format!("{name} --enc")), "--encoding\n");
        assert_eq!(offered_by_bash(&format!("{name} -e gbk --errors st")), "strict\n");
        for option in ["-e", "--encoding", "--encoding ="] {
            assert_eq!(offered_by_bash(&format!("{name} {option} gb")), "gbk\ngb18030\n");
        }
    }
    for name in TOOLS {
        assert_eq!(offered_by_bash(&format!("{name} --format js")), "json\n");
        assert_eq!(offered_by_bash(&format!("{name} --dscp af4")), "af41\naf42\naf43\n");
        // The sign is a word of its own.
        assert_eq!(offered_by_bash(&format!("{name} --format = js")), "json\n");
        assert_eq!(offered_by_bash(&format!("{name} --completions ")), "bash\nzsh\nfish\n");
    }
    assert_eq!(offered_by_bash("udp-send --eol l"), "lf\n");
    for option in ["--interface", "-I"] {
        assert!(offered_by_bash(&format!("udp-send {option} l")).contains("lo\n"));
    }
    for name in WITH_GROUPS {
        assert_eq!(offered_by_bash(&format!("{name} --join 2")), "224.0.0.251\n239.255.255.250\n");
        assert_eq!(offered_by_bash(&format!("{name} --join = f")), "ff02::fb\n");
    }
    // Behind -- is a program, or what is sent.
    for name in ["udp-listen", "udp-send"] {
        assert_eq!(offered_by_bash(&format!("{name} :9 -- -")), "\n");
    }
}

#[test]
#[ignore = "needs fish"]
fn fish_completes_options_and_the_names_of_values() {
    for name in TOOLS {
        assert_eq!(offered_by_fish(&format!("{name} --fo")), "--format\n");
        assert_eq!(offered_by_fish(&format!("{name} --format js")), "json\n");
        assert!(offered_by_fish(&format!("{name} --interface l")).contains("lo\n"));
    }
    for name in WITH_CHARSETS {
        assert_eq!(offered_by_fish(&format!("{name} --encoding koi8-r")), "koi8-r\nkoi8-ru\n");
    }
    for name in WITH_GROUPS {
        assert_eq!(offered_by_fish(&format!("{name} --join 2")), "224.0.0.251\n239.255.255.250\n");
        assert_eq!(offered_by_fish(&format!("{name} --join f")), "ff02::fb\n");
    }
    // A value that may be missing is not in the next argument.
    for option in ["--repeat", "--replay"] {
        assert_eq!(offered_by_fish(&format!("udp-send {option} --fo")), "--format\n");
    }
}

#[test]
#[ignore = "needs zsh"]
fn zsh_completes_options_names_of_values_hosts_and_commands() {
    for name in TOOLS {
        await_zsh(&format!("{name} --comp"), "--completions");
        await_zsh(&format!("{name} --format js"), "json");
        await_zsh(&format!("{name} --interface l"), "lo");
    }
    for name in WITH_CHARSETS {
        await_zsh(&format!("{name} --encoding shift"), "shift_jis");
    }
    for name in WITH_GROUPS {
        await_zsh(&format!("{name} --join 239"), "239.255.255.250");
        await_zsh(&format!("{name} --join f"), "ff02::fb");
    }
    for asking in ["udp-send", "udp-recv", "udp-chat", "udp-relay :5000"] {
        await_zsh(&format!("{asking} localh"), "localhost");
    }
    await_zsh("udp-listen :0 -- udp-rec", "udp-recv");
    await_zsh("udp-listen :0 :0 -q -- env udp-rec", "udp-recv");
    await_zsh("udp-listen :0 --enc", "--encoding");
}

#[test]
fn the_names_of_probes_are_completed() {
    assert_eq!(offered_by_bash("udp-recv --probe bitt"), "bittorrent-dht\nbittorrent-tracker\n");
    assert_eq!(offered_by_bash("udp-recv --probe li"), "list\n");
}

#[test]
fn files_are_offered_only_where_one_is_meant() {
    // Tests run where this file is.
    assert_eq!(offered_by_bash("udp-listen --ready-file Cargo.t"), "Cargo.toml\n");
    for (name, option) in [("udp-send", "--rate"), ("udp-listen", "--until"), ("udp-recv", "--bind")] {
        assert_eq!(offered_by_bash(&format!("{name} {option} Cargo.t")), "-o nospace\nCargo.t\n");
    }
}

#[test]
fn an_unknown_shell_is_a_usage_error_that_names_those_we_know() {
    for name in TOOLS {
        let stderr = Tool::new(name).args(["--completions", "elvish"]).assert().code(2).stdout("").err();
        assert!(stderr.contains("not one of bash, zsh, fish\n"), "{stderr}");
    }
}

#[test]
fn a_script_is_asked_for_alone() {
    for name in TOOLS {
        for other in ["--quiet", "127.0.0.1:9"] {
            let stderr =
                Tool::new(name).args(["--completions", "bash", other]).assert().code(2).stdout("").err();
            assert!(stderr.contains("'--completions <SHELL>' cannot be used with"), "{stderr}");
        }
    }
}

#[test]
fn a_script_that_cannot_be_printed_is_trouble() {
    for name in TOOLS {
        for (to, why) in [("/dev/full", "no space left on device"), ("&-", "it is closed")] {
            let script = format!("{name} --completions zsh >{to}");
            let finished = Tool::shell(&script).run();
            let expected = format!("{name}: cannot write to stdout: {why}\n");
            assert_eq!((finished.code(), finished.err), (Some(1), expected));
        }
    }
}

#[test]
fn a_reader_of_a_script_that_is_gone_is_a_quiet_end() {
    for name in TOOLS {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let finished = Tool::new(name).args(["--completions", "fish"]).stdout(writer).run();
        assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{name}");
    }
}
