//! Draws screens as an SVG: windows with rounded corners, dark in every theme. Each word begins at its column and
//! fills its columns whatever monospaced font a reader has, so that wide characters stay in the grid.

use std::collections::BTreeSet;
use std::fmt::Write;

use vt100::{Cell, Color, Screen};

/// The size of a cell. A glyph of most monospaced fonts is 0.6 em wide.
const WIDTH: f32 = 8.4;
const HEIGHT: f32 = 20.0;
const FONT_SIZE: f32 = 14.0;
/// How far the baseline of a row is from its top.
const BASELINE: f32 = 14.5;
/// Between the text and the frame.
const MARGIN: f32 = 18.0;
const TITLE_HEIGHT: f32 = 38.0;
/// Between two windows.
const GAP: f32 = 14.0;

const FONTS: &str = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', 'Noto Sans \
                     Mono CJK SC', 'Noto Sans CJK SC', 'Microsoft YaHei', monospace";
const BACKGROUND: &str = "#161b22";
const FOREGROUND: &str = "#e6edf3";

/// The sixteen colours that a terminal has names for.
const NAMED: [&str; 16] = [
    "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4", "#6e7681",
    "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#ffffff",
];

/// A word in one style, and where it is.
struct Word {
    row: u16,
    column: u16,
    columns: u16,
    /// A word of one wide character. Its glyph may be narrower than its two columns, and is centred there.
    is_wide: bool,
    text: String,
    style: Style,
}

/// How a word looks.
#[derive(PartialEq)]
struct Style {
    /// The attributes of its `text`.
    attributes: String,
    background: String,
}

impl Style {
    fn of(cell: &Cell) -> Self {
        let (mut front, mut background) =
            (color(cell.fgcolor(), FOREGROUND), color(cell.bgcolor(), BACKGROUND));
        if cell.inverse() {
            std::mem::swap(&mut front, &mut background);
        }
        let mut attributes = format!("fill=\"{front}\"");
        for (is_set, attribute) in [
            (cell.bold(), " font-weight=\"bold\""),
            (cell.dim(), " fill-opacity=\"0.6\""),
            (cell.italic(), " font-style=\"italic\""),
            (cell.underline(), " text-decoration=\"underline\""),
        ] {
            attributes += if is_set { attribute } else { "" };
        }
        Self { attributes, background }
    }
}

/// Returns a picture of `screens` side by side, each with its title above it.
pub(crate) fn picture(screens: &[(&Screen, &str)]) -> String {
    let sizes: Vec<_> = screens.iter().map(|(screen, _)| size(screen)).collect();
    let width = sizes.iter().map(|(width, _)| width + GAP).sum::<f32>() - GAP;
    let height = sizes.iter().map(|(_, height)| *height).fold(0.0, f32::max);
    let titles: Vec<_> = screens.iter().map(|(_, title)| *title).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"{FONTS}\" font-size=\"{FONT_SIZE}\">\n<title>{}</title>\n",
        escaped(&titles.join(", "))
    );
    let mut left = 0.0;
    for ((screen, title), (width, height)) in screens.iter().zip(sizes) {
        writeln!(svg, "<g transform=\"translate({left:.0})\">").unwrap();
        draw_window(&mut svg, title, width, height);
        draw_cursor(&mut svg, screen);
        for word in words(screen) {
            draw_word(&mut svg, &word);
        }
        svg += "</g>\n";
        left += width + GAP;
    }
    svg + "</svg>\n"
}

/// Returns the width and the height of the window of `screen`.
fn size(screen: &Screen) -> (f32, f32) {
    let (rows, columns) = screen.size();
    let width = f32::from(columns.get()) * WIDTH + 2.0 * MARGIN;
    (width, f32::from(rows.get()) * HEIGHT + TITLE_HEIGHT + MARGIN)
}

fn draw_window(svg: &mut String, title: &str, width: f32, height: f32) {
    writeln!(
        svg,
        "<rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"10\" fill=\"{BACKGROUND}\" \
         stroke=\"#8b949e\" stroke-opacity=\"0.4\"/>",
        width - 1.0,
        height - 1.0
    )
    .unwrap();
    for (number, color) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        let x = 20 + 20 * number;
        writeln!(svg, "<circle cx=\"{x}\" cy=\"19\" r=\"6\" fill=\"{color}\"/>").unwrap();
    }
    writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"24\" text-anchor=\"middle\" fill=\"#8b949e\">{}</text>",
        width / 2.0,
        escaped(title)
    )
    .unwrap();
}

fn draw_cursor(svg: &mut String, screen: &Screen) {
    if !screen.hide_cursor() {
        let (row, column) = screen.cursor_position();
        let (x, y) = (x(column), y(row));
        writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"{FOREGROUND}\" \
             fill-opacity=\"0.6\"/>"
        )
        .unwrap();
    }
}

fn draw_word(svg: &mut String, word: &Word) {
    let Word { row, column, columns, is_wide, text, style: Style { attributes, background } } = word;
    let (x, y, width) = (x(*column), y(*row), f32::from(*columns) * WIDTH);
    if background != BACKGROUND {
        writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{background}\"/>"
        )
        .unwrap();
    }
    let place = if *is_wide {
        format!("x=\"{:.1}\" text-anchor=\"middle\"", x + width / 2.0)
    } else {
        format!("x=\"{x:.1}\" textLength=\"{width:.1}\"")
    };
    // Other spaces at the beginning of a text are not drawn.
    let text = escaped(text).replace(' ', "\u{a0}");
    writeln!(svg, "<text {place} y=\"{:.1}\" {attributes}>{text}</text>", y + BASELINE).unwrap();
}

/// Returns the words of the screen, and spaces that have a background.
fn words(screen: &Screen) -> Vec<Word> {
    let (rows, columns) = screen.size();
    let mut words: Vec<Word> = Vec::new();
    for row in 0..rows.get() {
        // Whether the cell before is part of the last word, which the next one may continue.
        let mut is_open = false;
        for column in 0..columns.get() {
            let cell = screen.cell(row, column).unwrap();
            if cell.is_wide_continuation() {
                continue;
            }
            let style = Style::of(cell);
            let text = if cell.has_contents() { cell.contents() } else { " " };
            if text == " " && style.background == BACKGROUND {
                is_open = false;
                continue;
            }
            let width = if cell.is_wide() { 2 } else { 1 };
            match words.last_mut() {
                Some(word) if is_open && word.style == style && !cell.is_wide() => {
                    word.text += text;
                    word.columns += width;
                }
                _ => {
                    let (is_wide, text) = (cell.is_wide(), text.to_owned());
                    words.push(Word { row, column, columns: width, is_wide, text, style });
                }
            }
            is_open = !cell.is_wide();
        }
    }
    words
}

/// Returns the rows with words of a picture of one screen, and the styles of those words.
pub(crate) fn read(svg: &str) -> (Vec<String>, BTreeSet<&str>) {
    let (mut rows, mut styles, mut at): (Vec<String>, _, _) = (Vec::new(), BTreeSet::new(), "");
    for line in svg.lines().filter(|line| line.contains(" textLength=")) {
        let [_, left, _, _, _, y, rest] = line.splitn(7, '"').collect::<Vec<_>>().try_into().unwrap();
        let (style, word) = rest.strip_suffix("</text>").unwrap().split_once('>').unwrap();
        if y != at {
            rows.push(String::new());
        }
        let column = (0..=u16::MAX).find(|column| format!("{:.1}", x(*column)) == left).unwrap();
        let row = rows.last_mut().unwrap();
        *row = format!("{row:0$}{1}", column.into(), word.replace("&gt;", ">"));
        styles.insert(style);
        at = y;
    }
    (rows, styles)
}

fn x(column: u16) -> f32 {
    MARGIN + f32::from(column) * WIDTH
}

fn y(row: u16) -> f32 {
    TITLE_HEIGHT + f32::from(row) * HEIGHT
}

fn color(color: Color, default: &str) -> String {
    match color {
        Color::Default => default.to_owned(),
        Color::Idx(index @ 0..16) => NAMED[usize::from(index)].to_owned(),
        // A cube of six levels each of red, green and blue, and 24 greys, as xterm has them.
        Color::Idx(index @ 16..232) => {
            let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
            let index = index - 16;
            format!("#{:02x}{:02x}{:02x}", level(index / 36), level(index / 6 % 6), level(index % 6))
        }
        Color::Idx(index) => {
            let grey = 8 + 10 * (index - 232);
            format!("#{grey:02x}{grey:02x}{grey:02x}")
        }
        Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
