//! The charset of each peer: guessed from what it sends, or named by the user.
//!
//! A payload is decoded by what it is itself, and a text is encoded by what its peer has sent last. ASCII shows nothing:
//! nearly every charset contains it.

use std::env;
use std::str;

use crate::cli::Choice;
use crate::encoding::guess::{Guesser, Hint, marked};
use crate::encoding::{Charset, Encoding, Policy};

/// How many times another charset of one peer is reported: it may change it with every datagram.
const REPORTS: u8 = 4;

/// How the charsets of all peers are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Charsets {
    choice: Choice,
    errors: Option<Policy>,
    hint: Option<Hint>,
    utf8: Option<Charset>,
    /// Whether the user has chosen for a peer.
    has_exceptions: bool,
}

/// The charset of one peer.
#[derive(Debug, Default)]
pub struct PeerCharset {
    /// What the user has chosen for this peer.
    choice: Option<Choice>,
    /// The one of the last payload that shows one.
    last: Option<Charset>,
    /// Guesses that of a payload that is not UTF-8. Most peers need none.
    guesser: Option<Box<Guesser>>,
    reports: u8,
}

/// What a payload shows of the charset of its peer.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    /// How to decode it.
    pub decoding: Encoding,
    /// The charset that the peer is answered in from now on, if it is another one and has not been reported often.
    pub changed: Option<Charset>,
    /// Whether that is a guess.
    pub is_guess: bool,
}

/// How one payload is read.
struct Detected {
    decoding: Option<Charset>,
    /// The charset of its peer, if it shows one.
    shown: Option<Charset>,
    is_guess: bool,
}

impl Charsets {
    /// Creates what the user has chosen, with the language of the locale as a hint for guesses.
    #[must_use]
    pub fn new(choice: Choice, errors: Option<Policy>) -> Self {
        // The first of these that is not empty is the locale of characters (POSIX, chapter 8.2).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| env::var(name).ok());
        let locale = locale.into_iter().find(|locale| !locale.is_empty());
        Self::with_hint(choice, errors, locale.and_then(|locale| Hint::of_locale(&locale)))
    }

    fn with_hint(choice: Choice, errors: Option<Policy>, hint: Option<Hint>) -> Self {
        Self { choice, errors, hint, utf8: "utf-8".parse().ok(), has_exceptions: false }
    }

    /// Returns whether a peer may have a charset.
    #[must_use]
    pub fn are_used(&self) -> bool {
        self.choice != Choice::Bytes || self.has_exceptions
    }

    /// Notes that the user has chosen for a peer.
    pub fn note_exception(&mut self) {
        self.has_exceptions = true;
    }

    /// Chooses again for all peers but those that have a choice of their own.
    pub fn choose(&mut self, choice: Choice) {
        self.choice = choice;
    }

    /// Returns the encoding of a peer of which nothing is known.
    #[must_use]
    pub fn usual(&self) -> Encoding {
        PeerCharset::default().sending(self)
    }

    fn encoding(&self, charset: Option<Charset>) -> Encoding {
        Encoding { charset, errors: self.errors }
    }
}

impl PeerCharset {
    /// Returns how a text for the peer is encoded.
    #[must_use]
    pub fn sending(&self, charsets: &Charsets) -> Encoding {
        charsets.encoding(self.charset(charsets))
    }

    /// Chooses again for this peer. `None` is what is chosen for all.
    pub fn choose(&mut self, choice: Option<Choice>) {
        self.choice = choice;
        // It prefers what was chosen before.
        self.guesser = None;
        if let Some(Choice::Auto(Some(_))) = choice {
            self.last = None;
        }
    }

    /// Notes that the peer has sent `payload`.
    pub fn note(&mut self, payload: &[u8], charsets: &Charsets) -> Noted {
        let Choice::Auto(preferred) = self.choice(charsets) else {
            return Noted { decoding: self.sending(charsets), changed: None, is_guess: false };
        };
        let before = self.charset(charsets);
        let Detected { decoding, shown, is_guess } = self.detect(payload, preferred, charsets);
        self.last = shown.or(self.last);
        let changed = self.charset(charsets).filter(|now| Some(*now) != before && self.reports < REPORTS);
        self.reports += u8::from(changed.is_some());
        Noted { decoding: charsets.encoding(decoding), changed, is_guess }
    }

    fn charset(&self, charsets: &Charsets) -> Option<Charset> {
        match self.choice(charsets) {
            Choice::Bytes => None,
            Choice::Fixed(charset) => Some(charset),
            Choice::Auto(preferred) => self.last.or(preferred).or(charsets.utf8),
        }
    }

    fn choice(&self, charsets: &Charsets) -> Choice {
        self.choice.unwrap_or(charsets.choice)
    }

    /// Judges which charset `payload` is in.
    fn detect(&mut self, payload: &[u8], preferred: Option<Charset>, charsets: &Charsets) -> Detected {
        let certain = |decoding, shown| Detected { decoding, shown, is_guess: false };
        let evident = [self.last, preferred].into_iter().flatten();
        let evident = evident.filter(|charset| charset.is_evident_in(payload) && charset.reads(payload));
        if let Some(charset) = evident.into_iter().next() {
            return certain(Some(charset), Some(charset));
        }
        if payload.is_ascii() {
            return certain(charsets.utf8, None);
        }
        if is_utf8(payload) {
            // A byte order mark is not part of the text, and UTF-8 needs none in return.
            return certain(marked(payload).or(charsets.utf8), charsets.utf8);
        }
        let new = || Box::new(Guesser::new(preferred, charsets.hint));
        let guesser = self.guesser.get_or_insert_with(new);
        let guess = guesser.guess(payload);
        let is_certain = marked(payload).is_some() || (guess.is_some() && guess == preferred);
        let shown = guess.filter(|guess| is_certain || guesser.has_settled_on(*guess));
        Detected { decoding: guess.or(charsets.utf8), shown, is_guess: !is_certain }
    }
}

/// Returns whether `payload` is UTF-8, the last character of which may be cut off.
fn is_utf8(payload: &[u8]) -> bool {
    match str::from_utf8(payload) {
        Ok(_) => true,
        // One incomplete character behind ASCII is more likely the last letter of `café` in another charset.
        Err(error) => error.error_len().is_none() && !payload[..error.valid_up_to()].is_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const GBK: &[u8] = b"\xc4\xe3\xba\xc3";

    fn charset(label: &str) -> Charset {
        label.parse().unwrap()
    }

    fn charsets(choice: &str) -> Charsets {
        Charsets::with_hint(choice.parse().unwrap(), None, Hint::of_locale("zh_CN"))
    }

    /// Returns how a payload is decoded, what is reported, and how the peer is answered.
    fn note(peer_charset: &mut PeerCharset, charsets: &Charsets, payload: &[u8]) -> [String; 3] {
        let noted = peer_charset.note(payload, charsets);
        [noted.decoding.charset, noted.changed, peer_charset.sending(charsets).charset]
            .map(|charset| charset.map_or_else(String::new, |charset| charset.to_string()))
    }

    #[test]
    fn each_payload_is_read_as_what_it_is_and_the_last_one_is_answered() {
        let (charsets, mut peer_charset) = (charsets("auto"), PeerCharset::default());
        for (payload, expected) in [
            (&b"hi"[..], ["utf-8", "", "utf-8"]),
            ("Grüße".as_bytes(), ["utf-8", "", "utf-8"]),
            (GBK, ["gbk", "gbk", "gbk"]),
            (b"hi", ["utf-8", "", "gbk"]),
            (GBK, ["gbk", "", "gbk"]),
            // Stray bytes.
            (b"\x80\xff ", ["cp866", "", "gbk"]),
            ("Grüße".as_bytes(), ["utf-8", "utf-8", "utf-8"]),
            ("\u{feff}Grüße".as_bytes(), ["utf-8-sig", "", "utf-8"]),
            (b"\xfe\xff\x4f\x60", ["utf-16-be-sig", "utf-16-be-sig", "utf-16-be-sig"]),
            // UTF-16 without its mark, from a peer that has shown it.
            (b"\0h\0i", ["utf-16-be-sig", "", "utf-16-be-sig"]),
            (b"\0\xff\x80", ["utf-8", "", "utf-16-be-sig"]),
            ("Grüße €".as_bytes().split_last().unwrap().1, ["utf-8", "utf-8", "utf-8"]),
        ] {
            assert_eq!(note(&mut peer_charset, &charsets, payload), expected, "{payload:?}");
        }
    }

    #[test]
    fn a_charset_that_bytes_do_not_prove_is_a_guess() {
        let is_guess = |choice: &str, payload: &[u8]| {
            let noted = PeerCharset::default().note(payload, &charsets(choice));
            (noted.changed.is_some(), noted.is_guess)
        };
        assert_eq!(is_guess("auto", GBK), (true, true));
        assert_eq!(is_guess("auto:gbk", GBK), (false, false));
        assert_eq!(is_guess("auto:gbk", "你好".as_bytes()), (true, false));
        assert_eq!(is_guess("auto", b"\xff\xfe\x60\x4f"), (true, false));
        assert_eq!(is_guess("latin-1", GBK), (false, false));
    }

    #[test]
    fn a_preferred_charset_is_used_until_the_peer_uses_another() {
        let (charsets, mut peer_charset) = (charsets("auto:gbk"), PeerCharset::default());
        assert_eq!(charsets.usual().charset, Some(charset("gbk")));
        for (payload, expected) in [
            (&b"hi"[..], ["utf-8", "", "gbk"]),
            (GBK, ["gbk", "", "gbk"]),
            ("你好".as_bytes(), ["utf-8", "utf-8", "utf-8"]),
            (b"hi", ["utf-8", "", "utf-8"]),
        ] {
            assert_eq!(note(&mut peer_charset, &charsets, payload), expected, "{payload:?}");
        }
    }

    #[test]
    fn a_preferred_charset_that_does_not_contain_ascii_is_recognized_by_its_own_bytes() {
        for (choice, payload) in [("auto:iso2022-jp", &b"\x1b$B$O\x1b(B"[..]), ("auto:utf-16-le", b"h\0i\0")]
        {
            let noted = PeerCharset::default().note(payload, &charsets(choice));
            assert_eq!(noted.decoding.charset, choice.strip_prefix("auto:").map(charset));
        }
    }

    #[test]
    fn what_the_user_chooses_for_a_peer_holds_until_it_is_undone() {
        for (choice, usual) in [("auto", "utf-8"), ("latin-1", "latin-1"), ("auto:big5", "big5")] {
            let (charsets, mut peer_charset) = (charsets(choice), PeerCharset::default());
            peer_charset.choose("koi8-r".parse().ok());
            for payload in [GBK, "你好".as_bytes(), b"hi"] {
                assert_eq!(note(&mut peer_charset, &charsets, payload), ["koi8-r", "", "koi8-r"], "{choice}");
            }
            peer_charset.choose("auto".parse().ok());
            assert_eq!(note(&mut peer_charset, &charsets, GBK), ["gbk", "gbk", "gbk"], "{choice}");
            peer_charset.choose("auto:big5".parse().ok());
            assert_eq!(peer_charset.sending(&charsets).charset, Some(charset("big5")), "{choice}");
            assert_eq!(note(&mut peer_charset, &charsets, GBK), ["big5", "", "big5"], "{choice}");
            let mut peer_charset = PeerCharset::default();
            peer_charset.choose("koi8-r".parse().ok());
            peer_charset.choose(None);
            assert_eq!(peer_charset.sending(&charsets).charset, Some(charset(usual)));
        }
    }

    #[test]
    fn a_charset_that_is_chosen_for_all_is_that_of_a_peer_which_has_shown_another() {
        let (mut charsets, mut peer_charset) = (charsets("auto"), PeerCharset::default());
        assert_eq!(note(&mut peer_charset, &charsets, GBK), ["gbk", "gbk", "gbk"]);
        charsets.choose("big5".parse().unwrap());
        assert_eq!(note(&mut peer_charset, &charsets, GBK), ["big5", "", "big5"]);
        charsets.choose("auto".parse().unwrap());
        assert_eq!(peer_charset.sending(&charsets).charset, Some(charset("gbk")));
    }

    #[test]
    fn without_a_choice_bytes_pass_untouched_unless_one_is_made_for_a_peer() {
        let mut charsets = Charsets::with_hint(Choice::Bytes, None, Hint::of_locale("zh_CN"));
        let mut peer_charset = PeerCharset::default();
        assert_eq!(note(&mut peer_charset, &charsets, GBK), ["", "", ""]);
        assert!(!charsets.are_used());
        charsets.note_exception();
        assert!(charsets.are_used());
        peer_charset.choose("gbk".parse().ok());
        assert_eq!(note(&mut peer_charset, &charsets, GBK), ["gbk", "", "gbk"]);
        peer_charset.choose("auto".parse().ok());
        assert_eq!(note(&mut peer_charset, &charsets, "你好".as_bytes()), ["utf-8", "", "utf-8"]);
        assert_eq!(note(&mut peer_charset, &charsets, GBK), ["gbk", "gbk", "gbk"]);
    }

    #[test]
    fn a_peer_that_changes_its_charset_with_every_datagram_is_reported_a_few_times() {
        let (charsets, mut peer_charset) = (charsets("auto"), PeerCharset::default());
        let payloads = [GBK, "你好".as_bytes()].into_iter().cycle().take(100);
        let reports =
            payloads.filter(|payload| peer_charset.note(payload, &charsets).changed.is_some()).count();
        assert_eq!(reports, usize::from(REPORTS));
    }

    #[test]
    fn the_policy_is_that_of_the_user() {
        let charsets = Charsets::with_hint("auto".parse().unwrap(), Some(Policy::Replace), None);
        let mut peer_charset = PeerCharset::default();
        assert_eq!(peer_charset.note(GBK, &charsets).decoding.errors, Some(Policy::Replace));
        assert_eq!(peer_charset.sending(&charsets).errors, Some(Policy::Replace));
    }

    #[test]
    fn most_peers_take_little_memory() {
        let size = size_of::<PeerCharset>();
        assert!(size <= 104, "{size} bytes");
        let (charsets, mut peer_charset) = (charsets("auto"), PeerCharset::default());
        peer_charset.note("Grüße".as_bytes(), &charsets);
        assert!(peer_charset.guesser.is_none());
    }

    proptest! {
        #[test]
        fn any_payload_of_any_peer_is_decoded(
            payloads in vec(vec(any::<u8>(), 0..20), 0..8),
            choice in prop::sample::select(vec!["auto", "auto:gbk", "auto:utf-16", "auto:iso2022-jp", "gbk"]),
        ) {
            let (charsets, mut peer_charset) = (charsets(choice), PeerCharset::default());
            for payload in payloads {
                let noted = peer_charset.note(&payload, &charsets);
                let mut text = Vec::new();
                prop_assert!(noted.decoding.decode(&payload, Policy::Replace, &mut text).is_ok());
                prop_assert!(str::from_utf8(&text).is_ok());
            }
        }
    }
}
