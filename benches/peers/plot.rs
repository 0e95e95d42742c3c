//! A table as a picture: a line for each column, over the numbers that its rows are named after. Its colours are seen on
//! white and on dark alike, behind them is nothing, and each line has dashes of its own.

use std::fmt::Write as _;

use super::report::{Table, median};

/// What a plot is called, and what its axes show. That of x is logarithmic.
pub(super) struct Plot {
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) is_log_y: bool,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
// The area between the axes.
const LEFT: f64 = 64.0;
const TOP: f64 = 44.0;
const RIGHT: f64 = 590.0;
const BOTTOM: f64 = 344.0;
/// The least distance between the names of two lines.
const SPACING: f64 = 18.0;
/// The colour of words and axes, which is as far from white as from black.
const GREY: &str = "#757d87";
/// The colours and the dashes of lines, ours first.
const STROKES: [(&str, &str); 6] = [
    ("#3b82f6", "none"),
    ("#d97706", "7 3"),
    ("#16a34a", "2 3"),
    ("#ef4444", "10 3 2 3"),
    ("#8b5cf6", "4 4"),
    ("#0e9ab0", "12 4"),
];

/// One axis: its least and its largest value, and where on the picture they are.
struct Axis {
    values: [f64; 2],
    places: [f64; 2],
    is_log: bool,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| if self.is_log { value.log10() } else { value };
        let [least, most] = self.values.map(scaled);
        let part = ((scaled(value) - least) / (most - least)).clamp(0.0, 1.0);
        self.places[0] + part * (self.places[1] - self.places[0])
    }

    /// Returns the values that are marked: powers of ten, or five steps from zero.
    fn marks(&self) -> Vec<f64> {
        if !self.is_log {
            return (0..=5).map(|step| self.values[1] * f64::from(step) / 5.0).collect();
        }
        let powers = (-9..=12).map(|power| 10_f64.powi(power));
        powers.filter(|value| (self.values[0]..=self.values[1]).contains(value)).collect()
    }
}

impl Plot {
    /// Draws the medians of `table` as SVG.
    pub(super) fn draw(&self, table: &Table) -> String {
        let xs: Vec<f64> = table.rows.iter().map(|row| row.name.parse().unwrap()).collect();
        let lines: Vec<Vec<(f64, f64)>> = (0..table.columns.len())
            .map(|column| {
                let ys = table.rows.iter().map(|row| median(row.cells[column].clone()));
                xs.iter().copied().zip(ys).filter(|(_, y)| y.is_finite()).collect()
            })
            .collect();
        let ys = || lines.iter().flatten().map(|(_, y)| *y);
        let least =
            if self.is_log_y { 10_f64.powf(ys().fold(f64::MAX, f64::min).log10().floor()) } else { 0.0 };
        let most = ys().fold(0.0, f64::max);
        let most = if self.is_log_y { 10_f64.powf(most.log10().ceil()) } else { most };
        let x = Axis { values: [xs[0], xs[xs.len() - 1]], places: [LEFT, RIGHT], is_log: true };
        let y = Axis { values: [least, most], places: [BOTTOM, TOP], is_log: self.is_log_y };
        let mut svg = String::new();
        self.draw_axes(&mut svg, &x, &y);
        let mut ends: Vec<(f64, usize)> = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let (colour, dashes) = STROKES[number % STROKES.len()];
            let places: Vec<_> = line.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
            let points: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            writeln!(
                svg,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dashes}"/>"#,
                points.join(" ")
            )
            .unwrap();
            for (x, y) in &places {
                writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#).unwrap();
            }
            ends.extend(places.last().map(|(_, y)| (*y, number)));
        }
        for (y, number) in spread(ends) {
            let (colour, name) = (STROKES[number % STROKES.len()].0, table.columns[number].name);
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" fill="{colour}" font-weight="600">{name}</text>"#,
                RIGHT + 10.0,
                y + 4.5
            )
            .unwrap();
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"{GREY}\">\n\
             <title>{}</title>\n{svg}</svg>\n",
            self.title
        )
    }

    /// Draws the axes with their marks, and what they are called.
    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let middle = f64::midpoint(LEFT, RIGHT);
        writeln!(svg, r#"<text x="{LEFT}" y="22" font-size="15" font-weight="600">{}</text>"#, self.title)
            .unwrap();
        writeln!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, BOTTOM + 42.0, self.x)
            .unwrap();
        let (label_x, label_y) = (16.0, f64::midpoint(TOP, BOTTOM));
        writeln!(
            svg,
            r#"<text x="{label_x}" y="{label_y}" text-anchor="middle" transform="rotate(-90 {label_x} {label_y})">{}</text>"#,
            self.y
        )
        .unwrap();
        let mut line = |[x1, y1]: [f64; 2], [x2, y2]: [f64; 2], text: [f64; 2], anchor: &str, value: f64| {
            writeln!(
                svg,
                r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{GREY}" stroke-opacity="0.35"/>"#
            )
            .unwrap();
            let [x, y] = text;
            writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, number(value))
                .unwrap();
        };
        for value in y.marks() {
            let at = y.place(value);
            line([LEFT, at], [RIGHT, at], [LEFT - 8.0, at + 4.5], "end", value);
        }
        // The last power of ten may be too near the end for both to be named.
        let end = x.values[1];
        for value in x.marks().into_iter().filter(|value| x.place(*value) < RIGHT - 30.0).chain([end]) {
            let at = x.place(value);
            line([at, TOP], [at, BOTTOM], [at, BOTTOM + 20.0], "middle", value);
        }
    }
}

/// Moves the places of names down until none covers the one above it, and then all up as far as they are too low.
fn spread(mut ends: Vec<(f64, usize)>) -> Vec<(f64, usize)> {
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    for place in 1..ends.len() {
        ends[place].0 = ends[place].0.max(ends[place - 1].0 + SPACING);
    }
    let mut floor = BOTTOM;
    for (y, _) in ends.iter_mut().rev() {
        *y = y.min(floor);
        floor = *y - SPACING;
    }
    ends
}

/// Returns a number as people write it on an axis: 10k, 2M.
fn number(value: f64) -> String {
    let (scaled, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Of powers of ten below one all digits count.
    let shown = if scaled < 1.0 { scaled } else { (scaled * 10.0).round() / 10.0 };
    format!("{shown}{unit}")
}
