//! Results as values: Markdown tables that are printed one by one, or with `--json` one document at the end.

use std::cell::RefCell;
use std::path::PathBuf;
use std::{fs, iter, thread};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::plot::Plot;

/// What one column of a table holds. Two of a table differ in their names.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
}

/// A row: its name, and for each column the results of all rounds, in their order. NaN means that there is none.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Vec<f64>>,
}

pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// The tables of a run, and the directory of their plots.
pub(super) struct Report {
    is_json: bool,
    plots: Option<PathBuf>,
    tables: RefCell<Vec<Table>>,
}

pub(super) const fn column(name: &'static str, unit: &'static str) -> Column {
    Column { name, unit }
}

impl Row {
    /// Makes a row of the rounds of one run, each of which has a result for each column.
    pub(super) fn of_rounds(name: impl Into<String>, rounds: &[Vec<f64>]) -> Self {
        let columns = rounds.first().map_or(0, Vec::len);
        let cells = (0..columns).map(|column| rounds.iter().map(|round| round[column]).collect()).collect();
        Self { name: name.into(), cells }
    }

    pub(super) fn medians(&self) -> impl Iterator<Item = f64> {
        self.cells.iter().map(|results| median(results.clone()))
    }
}

impl Table {
    pub(super) fn new(title: impl Into<String>, columns: &[Column], rows: Vec<Row>) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), rows }
    }

    /// Returns the medians as a table of Markdown. One that has a single column compares each row with the first.
    fn markdown(&self) -> String {
        let is_compared = self.columns.len() == 1 && self.rows.len() > 1;
        let ratio = || is_compared.then(|| "ratio".to_owned());
        let heads = self.columns.iter().map(|Column { name, unit }| match *unit {
            "" => (*name).to_owned(),
            unit => format!("{name}, {unit}"),
        });
        let first = self.rows.first().and_then(|row| row.medians().next()).unwrap_or(f64::NAN);
        let rows = self.rows.iter().map(|row| {
            let ratios = row.medians().filter(|_| is_compared).map(|median| median / first);
            line(iter::once(row.name.clone()).chain(row.medians().chain(ratios).map(digits)))
        });
        let rule = format!("|---|{}\n", "--:|".repeat(self.columns.len() + usize::from(is_compared)));
        let head = line(iter::once(self.title.clone()).chain(heads).chain(ratio()));
        [head, rule].into_iter().chain(rows).collect()
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let results = self.columns.iter().zip(&row.cells).map(|(column, rounds)| {
                (column.name.to_owned(), json!({ "median": median(rounds.clone()), "rounds": rounds }))
            });
            json!({ "name": row.name, "results": results.collect::<Map<_, _>>() })
        });
        let columns = self.columns.iter().map(|Column { name, unit }| json!({ "name": name, "unit": unit }));
        json!({
            "title": self.title,
            "columns": columns.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

impl Report {
    /// Prints which machine this is, if tables are printed.
    pub(super) fn new(is_json: bool, plots: Option<PathBuf>) -> Self {
        let report = Self { is_json, plots, tables: RefCell::default() };
        if !is_json {
            let Machine { cpus, cpu, kernel } = Machine::of_this();
            println!("{cpus} × {cpu}, Linux {kernel}\n");
        }
        report
    }

    /// Takes in a table, and prints it if tables are printed.
    pub(super) fn add(&self, table: Table) {
        if !self.is_json {
            println!("{}", table.markdown());
        }
        self.tables.borrow_mut().push(table);
    }

    /// Takes in a table, and draws it if plots are wanted.
    pub(super) fn add_with_plot(&self, table: Table, plot: &Plot) {
        if let Some(directory) = &self.plots {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join(plot.file), plot.draw(&table)).unwrap();
        }
        self.add(table);
    }

    /// Prints the document if that is what is printed.
    pub(super) fn finish(self) {
        if !self.is_json {
            return;
        }
        let Machine { cpus, cpu, kernel } = Machine::of_this();
        let tables: Vec<_> = self.tables.into_inner().iter().map(Table::json).collect();
        let document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "date": Timestamp::now().to_string(),
            "machine": { "cpus": cpus, "cpu": cpu, "kernel": kernel },
            "tables": tables,
        });
        println!("{document:#}");
    }
}

/// What this runs on.
struct Machine {
    cpus: usize,
    cpu: String,
    kernel: String,
}

impl Machine {
    fn of_this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown CPU");
        Self {
            cpus: thread::available_parallelism().unwrap().get(),
            cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

pub(super) fn median(mut results: Vec<f64>) -> f64 {
    results.sort_by(f64::total_cmp);
    results.get(results.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three digits that mean something; `-` where there is no result.
fn digits(number: f64) -> String {
    if number.is_nan() {
        "-".to_owned()
    } else if number < 10.0 {
        format!("{number:.2}")
    } else if number < 1000.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
