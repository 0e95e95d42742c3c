//! Guesses the charset of a peer from what it sends.
//!
//! A byte order mark decides. Then a charset that a person has named is preferred, if it reads the payload without
//! errors. What remains is a guess from the frequency of letters, which the language of the locale helps: a short text
//! alone does not show whether it is Chinese or Korean. It does not judge whether a payload is UTF-8: its caller does.

use std::fmt;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use super::{Charset, Encoding, Policy};

/// How many bytes of what a peer has sent are kept, to judge them again.
const REMEMBERED: usize = 1024;

/// The byte order marks, and the charsets that begin every text with them. UTF-32 precedes UTF-16: the mark of
/// UTF-16, little-endian, begins that of UTF-32.
const MARKS: [(&[u8], &str); 5] = [
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32-be-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16-be-sig"),
];

/// The languages that are not written in Latin letters, or not in those of Western Europe, and a top-level domain of
/// each: `chardetng` knows languages by these.
const LANGUAGES: [(&str, &str); 37] = [
    ("ar", "eg"),
    ("az", "az"),
    ("be", "by"),
    ("bg", "bg"),
    ("bs", "ba"),
    ("cs", "cz"),
    ("el", "gr"),
    ("fa", "ir"),
    ("fo", "fo"),
    ("he", "il"),
    ("hr", "hr"),
    ("hu", "hu"),
    ("hy", "am"),
    ("is", "is"),
    ("ja", "jp"),
    ("ka", "ge"),
    ("kk", "kz"),
    ("ko", "kr"),
    ("ky", "kg"),
    ("lt", "lt"),
    ("lv", "lv"),
    ("mk", "mk"),
    ("mn", "mn"),
    ("pl", "pl"),
    ("ps", "af"),
    ("ro", "ro"),
    ("ru", "ru"),
    ("sk", "sk"),
    ("sl", "si"),
    ("sr", "rs"),
    ("tg", "tj"),
    ("th", "th"),
    ("tr", "tr"),
    ("uk", "ua"),
    ("ur", "pk"),
    ("uz", "uz"),
    ("vi", "vn"),
];

/// A language that a text is probably written in, as the top-level domain of a country.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint([u8; 2]);

/// Guesses the charset of one peer.
pub struct Guesser {
    first: Option<Charset>,
    hint: Option<Hint>,
    detector: EncodingDetector,
    /// What the detector has been fed, up to a limit.
    remembered: Vec<u8>,
    /// The last guess.
    guess: Option<Charset>,
    /// How many bytes beyond ASCII the guess has read, and how many have contradicted it since it read the last ones.
    supporting: usize,
    contradicting: usize,
}

impl Hint {
    /// Returns the hint of a locale's name (`zh_CN.UTF-8`), if its language is a better hint than English.
    #[must_use]
    pub fn of_locale(locale: &str) -> Option<Self> {
        let name = locale.split(['.', '@']).next().unwrap_or_default();
        let (language, region) = name.split_once(['_', '-']).unwrap_or((name, ""));
        let domain = match (language, region) {
            ("zh", "TW") => "tw",
            ("zh", "HK") => "hk",
            ("zh", "MO") => "mo",
            ("zh", "SG") => "sg",
            ("zh", _) => "cn",
            // English is the language of those who have chosen none.
            ("en", _) => return None,
            _ => LANGUAGES.iter().find(|(other, _)| *other == language).map_or(region, |(_, domain)| domain),
        };
        let domain: [u8; 2] = domain.as_bytes().try_into().ok()?;
        let domain = domain.map(|letter| letter.to_ascii_lowercase());
        domain.iter().all(u8::is_ascii_lowercase).then_some(Self(domain))
    }
}

/// Returns the Unicode charset whose byte order mark begins `payload`, if that is in it.
#[must_use]
pub fn marked(payload: &[u8]) -> Option<Charset> {
    let fitting = MARKS.iter().filter(|(mark, _)| payload.starts_with(mark));
    fitting.filter_map(|(_, label)| label.parse().ok()).find(|charset: &Charset| charset.reads(payload))
}

impl Guesser {
    /// Creates the guesser of a peer. It prefers the charset `first`.
    #[must_use]
    pub fn new(first: Option<Charset>, hint: Option<Hint>) -> Self {
        Self {
            first,
            hint,
            detector: detector(&[]),
            remembered: Vec::new(),
            guess: None,
            supporting: 0,
            contradicting: 0,
        }
    }

    /// Returns the charset of `payload`, which is not UTF-8, if one reads it without errors. The guesses get better with
    /// each payload.
    pub fn guess(&mut self, payload: &[u8]) -> Option<Charset> {
        if let Some(charset) = marked(payload) {
            return Some(charset);
        }
        if let Some(first) = self.first.filter(|first| first.reads(payload)) {
            return Some(first);
        }
        // No text contains a NUL, but C programs send the one at its end.
        let len = payload.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let text = &payload[..len];
        if text.is_ascii() || text.contains(&0) {
            return None;
        }
        self.guess_text(text)
    }

    /// Returns whether the peer uses `guess`: it is not that of a few stray bytes in a conversation in another charset.
    #[must_use]
    pub fn has_settled_on(&self, guess: Charset) -> bool {
        self.guess.is_none_or(|settled| settled == guess)
    }

    fn guess_text(&mut self, text: &[u8]) -> Option<Charset> {
        let weight = text.iter().filter(|byte| !byte.is_ascii()).count();
        if self.guess.is_none_or(|guess| guess.reads(text)) {
            feed(&mut self.detector, text);
            if let Some(guess) = self.best(&self.detector, text) {
                return Some(self.settle(guess, text, weight));
            }
        }
        // Either an earlier guess was wrong, and one charset reads all; or this text is in another charset.
        let again = detector(&[&self.remembered, text]);
        let of_all = self.best(&again, text);
        let single = detector(&[text]);
        let of_text = self.best(&single, text);
        // A charset of one byte a character reads nearly all bytes, and proves nothing against one of several.
        let was_multibyte = self.guess.is_some_and(Charset::is_multibyte);
        let is_better =
            |guess: &Charset| guess.reads(&self.remembered) && (guess.is_multibyte() || !was_multibyte);
        if let Some(guess) = of_all.filter(is_better) {
            self.detector = again;
            return Some(self.settle(guess, text, weight));
        }
        let guess = of_text?;
        self.contradicting += weight;
        // A few stray bytes do not outweigh a conversation.
        if self.contradicting >= self.supporting {
            self.detector = single;
            self.remembered.clear();
            self.supporting = 0;
            self.settle(guess, text, self.contradicting);
        }
        Some(guess)
    }

    /// Notes that `guess` reads `text`, and what the detector has been fed before.
    fn settle(&mut self, guess: Charset, text: &[u8], weight: usize) -> Charset {
        if self.remembered.len() + text.len() < REMEMBERED {
            self.remembered.extend(text);
            self.remembered.push(b'\n');
        }
        self.supporting += weight;
        self.contradicting = 0;
        self.guess = Some(guess);
        guess
    }

    /// Returns what `detector` guesses, with the hint or without, if that reads `text` without errors.
    fn best(&self, detector: &EncodingDetector, text: &[u8]) -> Option<Charset> {
        let hint = self.hint.as_ref().map(|hint| &hint.0[..]);
        [hint, None].into_iter().find_map(|hint| {
            let name = detector.guess(hint, Utf8Detection::Deny).name();
            // The web's KOI8-U has two letters more than others' do.
            let label = if name == "KOI8-U" { "koi8-ru" } else { name };
            label.parse().ok().map(|charset| self.widest(charset, text)).filter(|charset| charset.reads(text))
        })
    }

    /// Returns GB18030 in place of GBK, if `text` or an earlier one contains characters that only GB18030 has.
    fn widest(&self, charset: Charset, text: &[u8]) -> Charset {
        let (Ok(narrow), Ok(wide)) = ("gbk".parse(), "gb18030".parse()) else { return charset };
        if charset != narrow {
            return charset;
        }
        let strict = Encoding { charset: Some(narrow), errors: Some(Policy::Strict) };
        let mut read = Vec::new();
        let is_narrow = strict.decode(text, Policy::Strict, &mut read).is_err()
            || strict.encode(&read, &mut Vec::new()).is_ok();
        if is_narrow && self.guess != Some(wide) { narrow } else { wide }
    }
}

/// Returns a detector that has been fed these texts.
fn detector(texts: &[&[u8]]) -> EncodingDetector {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    for text in texts {
        feed(&mut detector, text);
    }
    detector
}

/// Feeds a text, and an end of line: a character does not span two texts.
fn feed(detector: &mut EncodingDetector, text: &[u8]) {
    detector.feed(text, false);
    detector.feed(b"\n", false);
}

impl fmt::Debug for Guesser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, hint, guess, .. } = self;
        f.debug_struct("Guesser")
            .field("first", first)
            .field("hint", hint)
            .field("guess", guess)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn charset(label: &str) -> Charset {
        label.parse().unwrap()
    }

    fn encoded(text: &str, label: &str) -> Vec<u8> {
        let encoding = Encoding { charset: Some(charset(label)), errors: Some(Policy::Strict) };
        let mut out = Vec::new();
        encoding.encode(text.as_bytes(), &mut out).unwrap();
        out
    }

    fn hint(locale: &str) -> Option<Hint> {
        Hint::of_locale(locale)
    }

    /// Returns the guess of each text of one peer, in the charset `label`.
    fn guesses(guesser: &mut Guesser, texts: &[&str], label: &str) -> Vec<String> {
        let guess =
            |text: &&str| guesser.guess(&encoded(text, label)).map_or_else(String::new, |it| it.to_string());
        texts.iter().map(guess).collect()
    }

    #[test]
    fn short_texts_are_right_at_once_with_the_language_of_the_locale() {
        for (locale, label, texts) in [
            ("zh_CN.UTF-8", "gbk", &["你好", "再见", "好的", "温度 25℃", "收到请回复"][..]),
            ("zh_TW.UTF-8", "big5", &["你好", "再見", "好的", "收到請回覆"]),
            ("zh_HK", "big5", &["你好", "再見", "收到請回覆"]),
            ("ja_JP.UTF-8", "shift_jis", &["こんにちは", "はい", "東京", "カタカナ"]),
            ("ja_JP.eucJP", "euc-jp", &["こんにちは", "はい", "東京", "カタカナ"]),
            ("ko_KR.UTF-8", "euc-kr", &["안녕하세요", "네", "서울"]),
            ("ru_RU.UTF-8", "windows-1251", &["Привет", "Как дела?"]),
            ("ru", "koi8-ru", &["Привет", "да"]),
            ("ru_RU.UTF-8", "cp866", &["Привет", "да"]),
            ("uk_UA.UTF-8", "windows-1251", &["Привіт", "так"]),
            ("el_GR.UTF-8", "iso8859-7", &["Καλημέρα"]),
            ("he_IL.UTF-8", "windows-1255", &["שלום", "כן"]),
            ("ar_EG.UTF-8", "windows-1256", &["مرحبا", "نعم"]),
            ("th_TH.UTF-8", "windows-874", &["สวัสดี", "ใช่"]),
            ("tr_TR.UTF-8", "windows-1254", &["Günaydın", "iyi akşamlar"]),
            ("de_DE.UTF-8", "windows-1252", &["Grüße", "schöne Grüße aus Köln"]),
            ("fr_FR.UTF-8", "windows-1252", &["café", "déjà vu"]),
        ] {
            for text in texts {
                let mut guesser = Guesser::new(None, hint(locale));
                assert_eq!(guesses(&mut guesser, &[text], label), [label], "{text} {locale}");
            }
        }
    }

    #[test]
    fn without_a_hint_a_guess_gets_better_with_each_text() {
        for (label, texts, expected) in [
            ("gbk", &["你好", "再见", "好的"][..], &["euc-kr", "gbk", "gbk"][..]),
            ("shift_jis", &["はい", "こんにちは", "はい"], &["windows-1250", "shift_jis", "shift_jis"]),
            ("euc-kr", &["네", "안녕하세요", "네", "서울"], &["iso8859-5", "euc-kr", "euc-kr", "euc-kr"]),
            (
                "windows-1251",
                &["да", "Спасибо, хорошо", "да"],
                &["windows-1252", "windows-1251", "windows-1251"],
            ),
        ] {
            assert_eq!(guesses(&mut Guesser::new(None, None), texts, label), expected, "{label}");
        }
    }

    #[test]
    fn a_charset_that_was_named_is_preferred_if_it_reads_the_payload() {
        let mut guesser = Guesser::new(Some(charset("gbk")), None);
        assert_eq!(guesses(&mut guesser, &["你好"], "gbk"), ["gbk"]);
        assert_eq!(guesses(&mut guesser, &["Привет, как дела?"], "windows-1251"), ["windows-1251"]);
        assert_eq!(guesses(&mut guesser, &["你好"], "gbk"), ["gbk"]);
        assert_eq!(guesses(&mut guesser, &["\u{feff}你好"], "utf-16-le"), ["utf-16"]);
    }

    #[test]
    fn unicode_is_read_and_answered_with_its_mark_in_the_order_of_the_peer() {
        for (label, written) in [
            ("utf-8-sig", &b"\xef\xbb\xbfa"[..]),
            ("utf-16", b"\xff\xfea\0"),
            ("utf-16-be-sig", b"\xfe\xff\0a"),
            ("utf-32", b"\xff\xfe\0\0a\0\0\0"),
            ("utf-32-be-sig", b"\0\0\xfe\xff\0\0\0a"),
        ] {
            assert_eq!(encoded("a", label), written, "{label}");
            let guess = Guesser::new(None, None).guess(written);
            assert_eq!(guess, Some(charset(label)));
            let encoding = Encoding { charset: guess, errors: None };
            let mut text = Vec::new();
            encoding.decode(written, Policy::Strict, &mut text).unwrap();
            assert_eq!(text, b"a", "{label}");
        }
        // Half a code unit, and a mark of UTF-32 that is one of UTF-16 and a NUL.
        assert_eq!(marked(b"\xff\xfea"), None);
        assert_eq!(marked(b"\xff\xfe\0\0a\0"), Some(charset("utf-16")));
        // Without a mark it is not read as Unicode.
        assert_eq!(guesses(&mut Guesser::new(None, None), &["Grüße"], "utf-16-le"), [""]);
    }

    #[test]
    fn stray_bytes_change_nothing_and_a_peer_that_changes_its_charset_is_followed() {
        let mut guesser = Guesser::new(None, hint("zh_CN"));
        assert_eq!(guesses(&mut guesser, &["你好", "今天天气很好"], "gbk"), ["gbk", "gbk"]);
        for stray in [&b"\xff"[..], b"\xc4", b"\x80\xff "] {
            let guess = guesser.guess(stray);
            assert_ne!(guess, Some(charset("gbk")), "{stray:?}");
            assert!(guess.is_none_or(|guess| guess.reads(stray)), "{stray:?}");
            assert!(guess.is_none_or(|guess| !guesser.has_settled_on(guess)), "{stray:?}");
            assert_eq!(guesses(&mut guesser, &["再见"], "gbk"), ["gbk"]);
            assert!(guesser.has_settled_on(charset("gbk")));
        }
        let russian = ["Привет, как дела?", "Спасибо, хорошо", "А у тебя?"];
        assert_eq!(guesses(&mut guesser, &russian, "windows-1251"), ["windows-1251"; 3]);
    }

    #[test]
    fn bytes_with_a_nul_among_them_are_not_text_and_one_at_the_end_is() {
        let mut guesser = Guesser::new(None, hint("zh_CN"));
        assert_eq!(guesser.guess(b"\xc4\xe3\0\xba\xc3"), None);
        assert_eq!(guesser.guess(b"\xc4\xe3\xba\xc3\0\0"), Some(charset("gbk")));
        assert_eq!(guesser.guess(b"\0"), None);
        assert_eq!(guesser.guess(b""), None);
    }

    #[test]
    fn a_character_that_only_gb18030_has_shows_it() {
        let mut guesser = Guesser::new(None, hint("zh_CN"));
        assert_eq!(guesses(&mut guesser, &["你好"], "gb18030"), ["gbk"]);
        assert_eq!(guesses(&mut guesser, &["你好 😀", "再见"], "gb18030"), ["gb18030", "gb18030"]);
    }

    #[test]
    fn a_locale_hints_at_the_language_of_its_country() {
        for (locale, domain) in [
            ("zh_CN.UTF-8", Some("cn")),
            ("zh", Some("cn")),
            ("zh_TW.Big5", Some("tw")),
            ("zh_HK", Some("hk")),
            ("ja_JP.UTF-8", Some("jp")),
            ("ko", Some("kr")),
            ("ru_UA.UTF-8", Some("ru")),
            ("sr_RS@latin", Some("rs")),
            ("de-AT", Some("at")),
            ("de", None),
            ("en_US.UTF-8", None),
            ("C.UTF-8", None),
            ("POSIX", None),
            ("xx_..", None),
            ("xx_é", None),
            ("", None),
        ] {
            assert_eq!(
                hint(locale),
                domain.map(|domain| Hint(domain.as_bytes().try_into().unwrap())),
                "{locale}"
            );
        }
    }

    #[test]
    fn a_guesser_takes_a_few_kilobytes_whatever_it_reads() {
        let mut guesser = Guesser::new(None, None);
        for _ in 0..1000 {
            guesser.guess(&encoded("今天天气很好", "gbk"));
        }
        let size = size_of::<Guesser>() + guesser.remembered.capacity();
        assert!(size <= 5 * 1024, "{size} bytes");
    }

    proptest! {
        #[test]
        fn any_payloads_are_guessed_as_a_charset_that_reads_them_or_as_none(
            payloads in vec(vec(any::<u8>(), 0..40), 0..8),
            first in prop::option::of(prop::sample::select(vec!["gbk", "iso2022-jp", "utf-16-le"])),
            locale in "[a-z]{0,3}(_[A-Z]{0,2})?",
        ) {
            let mut guesser = Guesser::new(first.map(charset), hint(&locale));
            for payload in payloads {
                let guess = guesser.guess(&payload);
                prop_assert!(guess.is_none_or(|guess| guess.reads(&payload)));
            }
        }
    }
}
