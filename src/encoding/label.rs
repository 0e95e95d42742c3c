//! The names of charsets: those of the web, those of Python, and near ones for what is neither.
//!
//! Where the web means another charset by a name than Python does, the name means Python's. The
//! charsets of East Asia are the web's under all their names (`gb2312` is `gbk`): but for `big5`
//! those are the code pages of Windows, which uses them.

use std::fmt;
use std::str::FromStr;

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, GB18030, GBK, IBM866, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_10, ISO_8859_13, ISO_8859_14, ISO_8859_15, ISO_8859_16,
    KOI8_R, KOI8_U, MACINTOSH, SHIFT_JIS, WINDOWS_874, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252,
    WINDOWS_1253, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256, WINDOWS_1257, WINDOWS_1258, X_MAC_CYRILLIC,
};

use super::charset::{Charset, Kind, Order, Width};
use super::table::Tables;
use Kind::{Ascii, Iso, Unicode, Web, Windows};

/// Every charset: what it is called here, and its other names without punctuation.
const CHARSETS: &[(&str, Kind, &[&str])] = &[
    (
        "utf-8",
        Unicode(Width::One, Order::Little),
        &["u8", "utf", "utf8ucs2", "utf8ucs4", "cp65001", "unicode11utf8", "unicode20utf8", "xunicode20utf8"],
    ),
    ("utf-8-sig", Unicode(Width::One, Order::Marked), &[]),
    ("utf-16", Unicode(Width::Two, Order::Marked), &["u16"]),
    (
        "utf-16-le",
        Unicode(Width::Two, Order::Little),
        &["unicodelittleunmarked", "ucs2", "unicode", "csunicode", "iso10646ucs2", "unicodefeff"],
    ),
    ("utf-16-be", Unicode(Width::Two, Order::Big), &["unicodebigunmarked", "unicodefffe"]),
    ("utf-16-be-sig", Unicode(Width::Two, Order::MarkedBig), &[]),
    ("utf-32", Unicode(Width::Four, Order::Marked), &["u32"]),
    ("utf-32-le", Unicode(Width::Four, Order::Little), &["ucs4le"]),
    ("utf-32-be", Unicode(Width::Four, Order::Big), &["ucs4be"]),
    ("utf-32-be-sig", Unicode(Width::Four, Order::MarkedBig), &[]),
    (
        "ascii",
        Ascii,
        &[
            "usascii",
            "646",
            "us",
            "ansix341968",
            "ansix341986",
            "cp367",
            "csascii",
            "ibm367",
            "iso646us",
            "iso646irv1991",
            "isoir6",
        ],
    ),
    (
        "latin-1",
        Iso(WINDOWS_1252),
        &[
            "l1",
            "iso88591",
            "iso885911987",
            "cp819",
            "ibm819",
            "csisolatin1",
            "isoir100",
            "latin",
            "8859",
            "iso8859",
        ],
    ),
    ("iso8859-2", Web(ISO_8859_2), &["latin2", "l2", "iso885921987", "csisolatin2", "isoir101"]),
    ("iso8859-3", Web(ISO_8859_3), &["latin3", "l3", "iso885931988", "csisolatin3", "isoir109"]),
    ("iso8859-4", Web(ISO_8859_4), &["latin4", "l4", "iso885941988", "csisolatin4", "isoir110"]),
    ("iso8859-5", Web(ISO_8859_5), &["cyrillic", "iso885951988", "csisolatincyrillic", "isoir144"]),
    (
        "iso8859-6",
        Web(ISO_8859_6),
        &[
            "arabic",
            "asmo708",
            "ecma114",
            "iso885961987",
            "csisolatinarabic",
            "isoir127",
            "iso88596e",
            "iso88596i",
            "csiso88596e",
            "csiso88596i",
        ],
    ),
    (
        "iso8859-7",
        Web(ISO_8859_7),
        &[
            "greek",
            "greek8",
            "ecma118",
            "elot928",
            "iso885971987",
            "csisolatingreek",
            "isoir126",
            "suneugreek",
        ],
    ),
    (
        "iso8859-8",
        Web(ISO_8859_8),
        &[
            "hebrew",
            "iso885981988",
            "csisolatinhebrew",
            "isoir138",
            "iso88598e",
            "iso88598i",
            "csiso88598e",
            "csiso88598i",
            "logical",
            "visual",
        ],
    ),
    ("iso8859-9", Iso(WINDOWS_1254), &["latin5", "l5", "iso885991989", "csisolatin5", "isoir148"]),
    ("iso8859-10", Web(ISO_8859_10), &["latin6", "l6", "iso8859101992", "csisolatin6", "isoir157"]),
    ("iso8859-11", Iso(WINDOWS_874), &["thai", "iso8859112001"]),
    ("iso8859-13", Web(ISO_8859_13), &["latin7", "l7"]),
    ("iso8859-14", Web(ISO_8859_14), &["latin8", "l8", "iso8859141998", "isoceltic", "isoir199"]),
    ("iso8859-15", Web(ISO_8859_15), &["latin9", "l9", "csisolatin9"]),
    ("iso8859-16", Web(ISO_8859_16), &["latin10", "l10", "iso8859162001", "isoir226"]),
    ("windows-874", Windows(WINDOWS_874), &["cp874", "dos874", "ms874"]),
    ("windows-1250", Windows(WINDOWS_1250), &["cp1250", "1250", "xcp1250"]),
    ("windows-1251", Windows(WINDOWS_1251), &["cp1251", "1251", "xcp1251"]),
    ("windows-1252", Windows(WINDOWS_1252), &["cp1252", "1252", "xcp1252"]),
    ("windows-1253", Windows(WINDOWS_1253), &["cp1253", "1253", "xcp1253"]),
    ("windows-1254", Windows(WINDOWS_1254), &["cp1254", "1254", "xcp1254"]),
    ("windows-1255", Windows(WINDOWS_1255), &["cp1255", "1255", "xcp1255"]),
    ("windows-1256", Windows(WINDOWS_1256), &["cp1256", "1256", "xcp1256"]),
    ("windows-1257", Windows(WINDOWS_1257), &["cp1257", "1257", "xcp1257"]),
    ("windows-1258", Windows(WINDOWS_1258), &["cp1258", "1258", "xcp1258"]),
    ("cp866", Web(IBM866), &["866", "ibm866", "csibm866"]),
    ("koi8-r", Web(KOI8_R), &["koi", "koi8", "cskoi8r"]),
    ("koi8-ru", Web(KOI8_U), &[]),
    ("mac-roman", Web(MACINTOSH), &["macintosh", "mac", "csmacintosh", "xmacroman"]),
    ("mac-cyrillic", Web(X_MAC_CYRILLIC), &["maccyrillic", "xmaccyrillic", "xmacukrainian"]),
    (
        "gbk",
        Web(GBK),
        &[
            "936",
            "cp936",
            "ms936",
            "xgbk",
            "gb2312",
            "gb231280",
            "gb23121980",
            "csgb2312",
            "csiso58gb231280",
            "isoir58",
            "euccn",
            "eucgb2312cn",
            "chinese",
        ],
    ),
    ("gb18030", Web(GB18030), &["gb180302000"]),
    ("big5", Web(BIG5), &["big5tw", "csbig5", "cnbig5", "xxbig5", "big5hkscs", "hkscs"]),
    (
        "shift_jis",
        Web(SHIFT_JIS),
        &["sjis", "csshiftjis", "cp932", "932", "ms932", "mskanji", "windows31j", "xsjis"],
    ),
    ("euc-jp", Web(EUC_JP), &["ujis", "cseucpkdfmtjapanese", "xeucjp"]),
    ("iso2022-jp", Web(ISO_2022_JP), &["csiso2022jp"]),
    (
        "euc-kr",
        Web(EUC_KR),
        &[
            "korean",
            "cp949",
            "949",
            "ms949",
            "uhc",
            "ksc5601",
            "ksx1001",
            "ksc56011987",
            "ksc56011989",
            "csksc56011987",
            "cseuckr",
            "isoir149",
            "windows949",
        ],
    ),
];

/// The tables of each charset, in the order of [`CHARSETS`].
static TABLES: [Tables; CHARSETS.len()] = [const { Tables::new() }; CHARSETS.len()];

/// Names that are refused, since the web or a similar name means another charset by them; and what to use.
const REFUSED: &[(&str, &str)] = &[
    ("cp950", "big5, which differs in some symbols"),
    ("950", "big5, which differs in some symbols"),
    ("ms950", "big5, which differs in some symbols"),
    ("koi8u", "koi8-ru, which differs from it in two letters"),
    ("tis620", "iso8859-11 or windows-874"),
    ("xuserdefined", "latin-1"),
];

/// How near two names must be for one to be suggested for the other, from 0 to 1.
const NEAR: f64 = 0.75;
/// How many names are suggested.
const SUGGESTIONS: usize = 3;
/// No name of a charset is as long. To compare names takes time that grows with the square of their length.
const LONG: usize = 64;

/// A label of no supported charset, with similar names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCharset(String);

impl Charset {
    /// Returns the names of all charsets, without their other labels.
    pub fn names() -> impl Iterator<Item = &'static str> {
        CHARSETS.iter().map(|(name, ..)| *name)
    }
}

impl FromStr for Charset {
    type Err = UnknownCharset;

    fn from_str(label: &str) -> Result<Self, UnknownCharset> {
        let plain = squeeze(label);
        if let Some((_, instead)) = REFUSED.iter().find(|(name, _)| *name == plain) {
            return Err(UnknownCharset(format!("not supported; use {instead}")));
        }
        let known = CHARSETS
            .iter()
            .zip(&TABLES)
            .find(|((name, _, others), _)| squeeze(name) == plain || others.contains(&plain.as_str()));
        let charset = known.map(|((name, kind, _), tables)| Self::new(name, *kind, tables));
        charset.ok_or_else(|| unknown(&plain))
    }
}

impl fmt::Display for UnknownCharset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownCharset {}

/// Returns a label in lower case without hyphens, underscores and spaces, which people write differently.
fn squeeze(label: &str) -> String {
    label.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn unknown(plain: &str) -> UnknownCharset {
    let charsets = if plain.len() < LONG { CHARSETS } else { &[] };
    let mut near: Vec<(f64, &str)> = charsets
        .iter()
        .map(|(name, _, others)| {
            let own = squeeze(name);
            let names = others.iter().copied().chain([own.as_str()]);
            let nearness = names.map(|name| {
                strsim::normalized_damerau_levenshtein(plain, name).max(
                    // Swapped letters are one typing error, but two edits: gkb is gbk.
                    if same_letters(plain, name) { 0.9 } else { 0.0 },
                )
            });
            (nearness.fold(0.0, f64::max), *name)
        })
        .filter(|(nearness, _)| *nearness >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = near.iter().take(SUGGESTIONS).map(|(_, name)| *name).collect();
    UnknownCharset(if names.is_empty() {
        "no such charset; some are utf-8, gbk, gb18030, big5, shift_jis, euc-kr, latin-1, windows-1252, utf-16-le".to_owned()
    } else {
        format!("no such charset; did you mean {}?", names.join(" or "))
    })
}

fn same_letters(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes
    };
    sorted(a) == sorted(b)
}
