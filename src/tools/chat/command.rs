//! What a typed line means: a text, whom it is for, or a command. It knows no terminal and no socket, and looks no peer
//! up.

use anyhow::{Result, anyhow, bail, ensure};
use strsim::jaro_winkler;

use super::peers::Peers;
use crate::escape;

/// What a person types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed<'l> {
    /// A line to send.
    Line(Line<'l>),
    /// A command.
    Command(Command<'l>),
}

/// A line to send, or whom to send lines to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'l> {
    /// A text for the current peer, or for all that were chosen.
    Text(&'l [u8]),
    /// `@PEER TEXT`: a text for this peer alone.
    TextTo(String, &'l [u8]),
    /// `@PEER` or `/to PEER`: plain lines go to this peer from now on.
    Choose(String),
}

/// A command of a person at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'l> {
    /// Plain lines go to every peer that the user has named.
    All,
    /// Sends this text to whoever sent last, or without a text makes that the current peer.
    Reply(&'l [u8]),
    /// Lists the peers.
    Peers,
    /// Gives a peer a name.
    Name {
        /// What it is called now.
        peer: String,
        /// Its name.
        name: String,
    },
    /// Sets the charset of a peer, or of all.
    Encoding {
        /// The peer.
        peer: Option<String>,
        /// The label of the charset, or `auto`.
        label: String,
    },
    /// Sends these bytes.
    Hex(&'l [u8]),
    /// Sends each line of this file.
    Send(&'l [u8]),
    /// Sends the lines that were pasted.
    Paste,
    /// Clears the screen.
    Clear,
    /// Lists the commands.
    Help,
    /// Leaves.
    Quit,
}

/// What a person can type, and what it does.
const HELP: &[(&str, &str)] = &[
    ("TEXT", "send TEXT to the current peer"),
    ("@PEER TEXT", "send TEXT to one peer: a number, a name or HOST:PORT"),
    ("/to PEER", "send plain lines to PEER"),
    ("/all", "send plain lines to every peer you have named"),
    ("/reply [TEXT]", "answer whoever sent last"),
    ("/peers", "list the peers, their numbers, names and charsets"),
    ("/name PEER NAME", "call PEER by NAME"),
    ("/encoding [PEER] LABEL", "use this charset: gbk, utf-8, auto"),
    ("/hex BYTES", "send bytes: de ad be ef"),
    ("/send FILE", "send each line of FILE"),
    ("/paste", "send the lines that were pasted"),
    ("/clear", "clear the screen"),
    ("/help", "list the commands"),
    ("/quit", "leave, as Ctrl-D does"),
    ("//TEXT, @@TEXT", "send a text that begins with / or @"),
];
/// How similar a name must be to that of a command, from 0 to 1, for the command to be suggested.
const SIMILAR: f64 = 0.8;

/// Returns the lines that explain the commands.
pub(super) fn help() -> impl Iterator<Item = String> {
    HELP.iter().map(|(usage, what)| format!("{usage:<24}{what}"))
}

/// Returns the names of the commands.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    HELP.iter()
        .filter(|(usage, _)| usage.starts_with('/') && !usage.starts_with("//"))
        .map(|(usage, _)| usage.split(' ').next().unwrap_or_default())
}

/// Parses a line that a program writes: `@PEER TEXT`, `@PEER`, or a text. `@@` begins a text that begins with `@`.
pub fn parse_piped(line: &[u8]) -> Result<Line<'_>> {
    let Some(addressed) = line.strip_prefix(b"@") else {
        return Ok(Line::Text(line));
    };
    if addressed.starts_with(b"@") {
        return Ok(Line::Text(addressed));
    }
    let (peer, text) = split(addressed);
    ensure!(!peer.is_empty(), "no peer after @; @PEER TEXT sends, @@ begins a text with @");
    let peer = String::from_utf8_lossy(peer).into_owned();
    Ok(match text {
        // Input from Windows ends its lines in a carriage return as well.
        Some(b"") if addressed.ends_with(b"\r") => Line::Choose(peer),
        None => Line::Choose(peer),
        Some(text) => Line::TextTo(peer, text),
    })
}

/// Parses a line that a person types: as [`parse_piped`] does, or a command. `//` begins a text that begins with `/`.
pub fn parse_typed(line: &[u8]) -> Result<Typed<'_>> {
    let Some(command) = line.strip_prefix(b"/") else {
        return parse_piped(line).map(Typed::Line);
    };
    if command.starts_with(b"/") {
        return Ok(Typed::Line(Line::Text(command)));
    }
    let (name, rest) = split(command);
    let rest = rest.unwrap_or_default();
    let words = String::from_utf8_lossy(rest).into_owned();
    let mut words = words.split_whitespace().map(str::to_owned);
    let mut next = || words.next();
    let command = match name {
        b"to" => match (next(), next()) {
            (Some(peer), None) => return Ok(Typed::Line(Line::Choose(peer))),
            (Some(_), Some(_)) => bail!("write /to PEER alone; @PEER TEXT sends one text"),
            (None, _) => bail!("write /to PEER: a number, a name or HOST:PORT"),
        },
        b"name" => match (next(), next(), next()) {
            (Some(peer), Some(name), None) => Command::Name { peer, name },
            _ => bail!("write /name PEER NAME, as in /name 2 bob"),
        },
        b"encoding" => match (next(), next(), next()) {
            (Some(label), None, _) => Command::Encoding { peer: None, label },
            (Some(peer), Some(label), None) => Command::Encoding { peer: Some(peer), label },
            _ => bail!("write /encoding LABEL or /encoding PEER LABEL, as in /encoding 2 gbk"),
        },
        b"reply" => Command::Reply(rest),
        b"hex" => {
            ensure!(!rest.trim_ascii().is_empty(), "write /hex BYTES, as in /hex de ad be ef");
            Command::Hex(rest)
        }
        b"send" => {
            let file = rest.trim_ascii();
            ensure!(!file.is_empty(), "write /send FILE");
            Command::Send(file)
        }
        b"all" => Command::All,
        b"peers" => Command::Peers,
        b"paste" => Command::Paste,
        b"clear" => Command::Clear,
        b"help" => Command::Help,
        b"quit" | b"exit" => Command::Quit,
        _ => return Err(unknown(name)),
    };
    if !matches!(command, Command::Reply(_) | Command::Hex(_) | Command::Send(_)) && next().is_some() {
        bail!("{} takes no more words", escape::text(&line[..=name.len()]));
    }
    Ok(Typed::Command(command))
}

/// Returns where the last word of `line` begins, and what it may become: a command or a peer.
pub(super) fn complete(line: &str, peers: &Peers) -> (usize, Vec<String>) {
    let start = line.rfind(' ').map_or(0, |space| space + 1);
    let word = &line[start..];
    let (sign, candidates): (_, Vec<String>) = match line.split(' ').next() {
        _ if start == 0 && word.starts_with('/') => ("", names().map(str::to_owned).collect()),
        _ if start == 0 && word.starts_with('@') => ("@", peers.words().collect()),
        Some("/to" | "/name" | "/encoding") if line.matches(' ').count() == 1 => {
            ("", peers.words().collect())
        }
        _ => return (start, Vec::new()),
    };
    let candidates = candidates.into_iter().map(|candidate| format!("{sign}{candidate}"));
    (start, candidates.filter(|candidate| candidate.starts_with(word)).collect())
}

/// Returns the first word of `text`, and what follows the white space character behind it, if there is one.
fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(u8::is_ascii_whitespace) {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    }
}

/// Returns the error of a command that does not exist.
fn unknown(name: &[u8]) -> anyhow::Error {
    let name = format!("/{}", String::from_utf8_lossy(name));
    let similarity = |known: &&str| jaro_winkler(&name, known);
    let nearest = names().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let hint = match nearest.filter(|known| similarity(known) >= SIMILAR) {
        Some(known) => format!("did you mean {known}?"),
        None => "/help lists the commands;".to_owned(),
    };
    anyhow!("{} is not a command; {hint} // begins a text with /", escape::quoted(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_to<'l>(peer: &str, text: &'l [u8]) -> Line<'l> {
        Line::TextTo(peer.to_owned(), text)
    }

    fn error(line: &[u8]) -> String {
        format!("{:#}", parse_typed(line).unwrap_err())
    }

    #[test]
    fn a_line_is_a_text_for_all_or_one_or_chooses_a_peer() {
        let typed = |line| match parse_typed(line)? {
            Typed::Line(line) => Ok(line),
            Typed::Command(command) => bail!("{command:?}"),
        };
        let parsers: [&dyn Fn(&'static [u8]) -> Result<Line<'static>>; 2] =
            [&|line| parse_piped(line), &typed];
        for parse in parsers {
            assert_eq!(parse(b"hi @all /quit").unwrap(), Line::Text(b"hi @all /quit"));
            assert_eq!(parse(b"").unwrap(), Line::Text(b""));
            assert_eq!(parse(b"@@home").unwrap(), Line::Text(b"@home"));
            assert_eq!(parse(b"@[::1]:5 a b").unwrap(), text_to("[::1]:5", b"a b"));
            assert_eq!(parse(b"@:5 ").unwrap(), text_to(":5", b""));
            assert_eq!(parse(b"@bob  hi").unwrap(), text_to("bob", b" hi"));
            assert_eq!(parse(b"@host:5").unwrap(), Line::Choose("host:5".to_owned()));
            assert_eq!(parse(b"@host:5\r").unwrap(), Line::Choose("host:5".to_owned()));
            assert!(parse(b"@ hi").is_err() && parse(b"@").is_err());
        }
    }

    #[test]
    fn a_program_writes_texts_where_a_person_types_commands() {
        assert_eq!(parse_piped(b"/quit").unwrap(), Line::Text(b"/quit"));
        assert_eq!(parse_piped(b"//quit").unwrap(), Line::Text(b"//quit"));
        assert_eq!(parse_typed(b"/quit").unwrap(), Typed::Command(Command::Quit));
        assert_eq!(parse_typed(b"//quit").unwrap(), Typed::Line(Line::Text(b"/quit")));
    }

    #[test]
    fn a_command_has_as_many_words_as_its_help_shows() {
        let command = |line| match parse_typed(line).unwrap() {
            Typed::Command(command) => command,
            Typed::Line(line) => panic!("{line:?}"),
        };
        assert_eq!(parse_typed(b"/to 2").unwrap(), Typed::Line(Line::Choose("2".to_owned())));
        assert_eq!(command(b"/reply"), Command::Reply(b""));
        assert_eq!(command(b"/reply a  b"), Command::Reply(b"a  b"));
        assert_eq!(command(b"/hex de ad"), Command::Hex(b"de ad"));
        assert_eq!(command(b"/send  my file "), Command::Send(b"my file"));
        assert_eq!(command(b"/name 2 bob"), Command::Name { peer: "2".to_owned(), name: "bob".to_owned() });
        let gbk =
            |peer: Option<&str>| Command::Encoding { peer: peer.map(str::to_owned), label: "gbk".to_owned() };
        assert_eq!(command(b"/encoding gbk"), gbk(None));
        assert_eq!(command(b"/encoding 2 gbk"), gbk(Some("2")));
        for line in
            [&b"/to"[..], b"/to a b", b"/name 2", b"/name 2 a b", b"/encoding", b"/send", b"/quit now"]
        {
            assert!(parse_typed(line).is_err(), "{}", escape::text(line));
        }
        for name in names() {
            let line = format!("{name} 1 2");
            assert!(
                !parse_typed(line.as_bytes()).is_err_and(|error| error.to_string().contains("not a command"))
            );
        }
    }

    #[test]
    fn an_unknown_command_is_one_sentence_with_the_nearest() {
        assert_eq!(error(b"/quti"), "'/quti' is not a command; did you mean /quit? // begins a text with /");
        assert_eq!(
            error(b"/etc/passwd x"),
            "'/etc/passwd' is not a command; /help lists the commands; // begins a text with /"
        );
    }
}
