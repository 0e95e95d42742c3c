//! The manual pages describe what the tools do.

use std::collections::BTreeSet;

use crate::harness::{Printed, TOOLS, Tool};

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/man/{name}.1", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn help(name: &str) -> String {
    let assert = Tool::new(name).arg("--help").assert().success();
    assert.out()
}

/// Returns the options of a help text by their headings, as in `-b --bind ADDR`.
fn options_in_help(help: &str) -> Vec<(String, Vec<String>)> {
    let mut groups = Vec::<(String, Vec<String>)>::new();
    for line in help.lines() {
        let option = line.trim_start();
        if let Some(heading) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            groups.push((heading.to_owned(), Vec::new()));
        } else if option.starts_with('-') {
            let option = option.split("  ").next().unwrap().replace([',', '<', '>'], "");
            groups.last_mut().unwrap().1.push(option);
        }
    }
    groups.retain(|(_, options)| !options.is_empty());
    groups
}

/// Returns the options of a page, written in the same way. `.It Fl b Ar ADDR , Fl -bind Ar ADDR` is one.
fn options_in_page(page: &str) -> Vec<(String, Vec<String>)> {
    let section = page.split("\n.Sh OPTIONS\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let groups = section.split(".Ss ").skip(1).map(|group| group.split_once('\n').unwrap());
    groups
        .map(|(heading, items)| {
            let items = items.lines().filter_map(|line| line.strip_prefix(".It Fl "));
            (heading.to_owned(), items.map(option_of_item).collect())
        })
        .collect()
}

fn option_of_item(item: &str) -> String {
    let names = item.split(" , ").map(|name| name.trim_start_matches("Fl "));
    let (mut flags, mut value) = (Vec::new(), "");
    for name in names {
        // `.It Fl -replay Ns Op = Ns Ar SPEED`: the value may be left out.
        if let Some((flag, argument)) = name.split_once(" Ns Op = Ns Ar ") {
            flags.push(format!("-{flag}[={argument}]"));
            continue;
        }
        // `.It Fl -repeat Op Ar N`: the same, where it may be an argument of its own.
        if let Some((flag, argument)) = name.split_once(" Op Ar ") {
            flags.push(format!("-{flag} [{argument}]"));
            continue;
        }
        let (flag, argument) = name.split_once(" Ar ").unwrap_or((name, ""));
        flags.push(format!("-{flag}"));
        value = argument;
    }
    format!("{} {value}", flags.join(" ")).trim_end().to_owned()
}

/// Returns the long names of those options.
fn long_names(help: &str) -> BTreeSet<String> {
    let options = options_in_help(help);
    let words = options.iter().flat_map(|(_, group)| group).flat_map(|option| option.split([' ', '[']));
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// Returns the names as a list in words.
fn in_words(names: &[&str]) -> String {
    let (last, rest) = names.split_last().unwrap();
    if rest.is_empty() { (*last).to_owned() } else { format!("{} and {last}", rest.join(", ")) }
}

#[test]
fn an_option_of_another_tool_is_known_as_such() {
    let all = TOOLS.map(|name| long_names(&help(name)));
    let options: BTreeSet<_> = all.iter().flatten().collect();
    let is_of_all = |option: &String| all.iter().all(|options| options.contains(option));
    let of_some: Vec<_> = options.into_iter().filter(|option| !is_of_all(option)).collect();
    assert!(of_some.len() >= 32, "{of_some:?}");
    for option in of_some {
        let has_option =
            |(name, options): (&'static str, &BTreeSet<String>)| options.contains(option).then_some(name);
        let tools: Vec<_> = TOOLS.into_iter().zip(&all).filter_map(has_option).collect();
        let tools_in_words = in_words(&tools);
        for name in TOOLS.into_iter().filter(|name| !tools.contains(name)) {
            let stderr = Tool::new(name).args([":9", option]).assert().code(2).err();
            let words = format!("{name}: unknown option {option}: it is an option of {tools_in_words}");
            assert!(stderr.starts_with(&words), "{stderr}");
        }
    }
}

#[test]
fn every_option_is_in_the_page_under_the_heading_of_the_help_and_in_its_order() {
    for name in TOOLS {
        let (help, page) = (options_in_help(&help(name)), options_in_page(&page(name)));
        let (last, options) = help.last().unwrap();
        assert!(last == "Other" && options.contains(&"-h --help".to_owned()), "{help:?}");
        assert_eq!(help, page, "{name}");
    }
}

#[test]
fn every_policy_of_the_help_is_at_its_option_and_in_the_common_page() {
    let common = crate::readme::document("man/udp-tools.7");
    for name in TOOLS {
        let (help, page) = (help(name).split_whitespace().collect::<Vec<_>>().join(" "), page(name));
        let item = page.split(".It Fl -errors Ar POLICY\n").nth(1).unwrap_or_default();
        let item = item.split("\n.It Fl ").next().unwrap();
        let words: Vec<_> = item.split([' ', '\n']).collect();
        for policy in ["strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace"] {
            let in_help = help.contains(&format!("{policy},")) || help.contains(&format!("{policy}]"));
            assert_eq!(in_help, words.contains(&policy), "{policy} of {name}");
            assert!(common.contains(&format!(".It Cm {policy}\n")), "{policy}");
        }
    }
}

#[test]
fn every_page_lists_the_exit_statuses_of_its_tool() {
    for name in TOOLS {
        let (page, help) = (page(name), help(name));
        let section = page.split(".Sh EXIT STATUS\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
        // udp-relay runs until a signal ends it.
        let success = if name == "udp-relay" { "reader of stdout" } else { "verything" };
        for (status, word) in [(0, success), (1, "rror"), (2, "sage"), (3, "ilence"), (4, "efused")] {
            // udp-send does not wait for a reply, udp-listen sends no request that is refused, and udp-relay waits and
            // is refused for others.
            let has_status =
                !matches!((name, status), ("udp-send" | "udp-relay", 3) | ("udp-listen" | "udp-relay", 4));
            assert_eq!(section.contains(&format!(".It {status}\n")), has_status, "{status} of {name}");
            let in_help = help.contains(&format!("{status} ")) && help.contains(word);
            assert!(!has_status || section.contains(word) && in_help, "{status} of {name}");
        }
    }
}

#[test]
fn the_page_lists_every_probe() {
    let page = page("udp-recv");
    let section = page.split(".Sh PROBES\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let list = Tool::new("udp-recv").args(["--probe", "list"]).assert().success().out();
    let (rows, silent) = list.split_once("\n\n").unwrap();
    let fields =
        |row: &str| row.split("  ").map(str::trim).filter(|f| !f.is_empty()).collect::<Vec<_>>().join("; ");
    let listed: Vec<_> = rows.lines().map(fields).collect();
    let items = section.split(".It Cm ").skip(1).map(|item| item.split("\n.El").next().unwrap());
    let items: Vec<_> = items
        .map(|item| {
            let (head, text) = item.split_once('\n').unwrap();
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{}; {text}", head.replace(" Pq ", "; "))
        })
        .collect();
    assert_eq!(items, listed);
    let names = section.split(".El\n").nth(1).unwrap().lines().filter_map(|line| line.strip_prefix(".Cm "));
    let names: Vec<_> = names.map(|line| line.split(' ').next().unwrap()).collect();
    let silent = silent.trim_end().strip_prefix("never reply to unknown clients: ").unwrap();
    assert_eq!(names.join(", "), silent);
}

#[test]
fn every_example_of_the_common_page_is_in_the_table_of_the_readme() {
    let page = crate::readme::document("man/udp-tools.7").replace(" \\e\n   ", "");
    let section = page.split(".Ss Examples\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let lines = section.lines().map(|line| line.trim_start_matches(".Dl "));
    let commands: Vec<_> = lines.filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let table = crate::readme::document("README.md").replace("\\|", "|");
    for command in commands {
        assert!(table.contains(&format!("`{command}`")), "{command}");
    }
}

#[test]
#[ignore = "needs mandoc"]
fn every_page_is_clean_and_fits_80_columns() {
    // In their directory the pages find each other.
    let directory = format!("{}/man", env!("CARGO_MANIFEST_DIR"));
    let pages = TOOLS.iter().map(|name| format!("{name}.1")).chain(["udp-tools.7".to_owned()]);
    for page in pages {
        let lint = Tool::other("mandoc").args(["-T", "lint", &page]).current_dir(directory.as_ref()).run();
        let stderr = [lint.text(), &lint.err].concat();
        assert!(lint.status.success() && stderr.is_empty(), "{stderr}");
        let rendered =
            Tool::other("mandoc").args(["-T", "utf8", &page]).current_dir(directory.as_ref()).run();
        for line in rendered.text().lines() {
            // Bold and underlined characters are overstruck: two more characters each.
            let width = line.chars().count() - 2 * line.matches('\u{8}').count();
            assert!(width <= 80, "{page}: {line}");
        }
    }
}
