//! Medians, ranges and ratios: as a table, as JSON and as a chart.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use serde_json::{Value, json};

/// One figure that is measured of every contender.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Digits after the point.
    pub digits: usize,
}

/// What was measured: a row per contender, FastState's first; a column per figure; a value per round.
#[derive(Clone, Debug)]
pub struct Report {
    name: &'static str,
    title: String,
    columns: Vec<Column>,
    /// A contender's name, and a list of values per column.
    rows: Vec<(&'static str, Vec<Vec<f64>>)>,
}

impl Report {
    /// An empty report; the file's name and a title.
    #[must_use]
    pub fn new(name: &'static str, title: impl Into<String>, columns: &[Column]) -> Self {
        Self { name, title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One round of one contender.
    pub fn push(&mut self, contender: &'static str, values: &[f64]) {
        let at = self.rows.iter().position(|(row, _)| *row == contender).unwrap_or_else(|| {
            self.rows.push((contender, vec![Vec::new(); self.columns.len()]));
            self.rows.len() - 1
        });
        for (column, value) in self.rows[at].1.iter_mut().zip(values) {
            column.push(*value);
        }
    }

    /// Prints the table and writes `target/bench/NAME.json` and `NAME.svg`.
    ///
    /// # Errors
    /// When the files cannot be written.
    #[expect(clippy::print_stdout, reason = "what a benchmark is for")]
    pub fn finish(&self) -> io::Result<()> {
        println!("\n{}", self.table());
        let folder = folder()?;
        let (data, chart) =
            (folder.join(self.name).with_extension("json"), folder.join(self.name).with_extension("svg"));
        fs::write(&data, serde_json::to_vec_pretty(&self.json())?)?;
        fs::write(&chart, self.chart())?;
        println!("written to {} and {}", data.display(), chart.display());
        Ok(())
    }

    /// A row per contender and figure: the median, the range, and FastState's share of it.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (at, column) in self.columns.iter().enumerate() {
            let _ = writeln!(text, "\n{} ({})", column.name, column.unit);
            let ours = self.rows.first().map(|(_, columns)| median(&columns[at]));
            for (name, columns) in &self.rows {
                let values = &columns[at];
                let (low, middle, high) = (least(values), median(values), most(values));
                let ratio = ours.filter(|_| middle != 0.0).map_or(f64::NAN, |ours| ours / middle);
                let _ = writeln!(
                    text,
                    "  {name:36} {middle:12.*}   {low:.*} to {high:.*}   FastState / this: {ratio:.2}",
                    column.digits, column.digits, column.digits,
                );
            }
        }
        text
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, columns)| {
            let figures = self.columns.iter().zip(columns).map(|(column, values)| {
                let figures = json!({ "unit": column.unit, "median": median(values), "values": values });
                (column.name.to_owned(), figures)
            });
            json!({ "contender": name, "figures": figures.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }

    /// Bars of the first figure.
    fn chart(&self) -> String {
        let (Some(column), Some(longest)) =
            (self.columns.first(), self.rows.iter().map(|(_, columns)| median(&columns[0])).reduce(f64::max))
        else {
            return String::new();
        };
        let height = 56 + 28 * self.rows.len();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" font-family=\"system-ui,sans-serif\" font-size=\"13\">\
             <style>text{{fill:#333}}.b{{fill:#9aa7b8}}.f{{fill:#2563eb}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}.b{{fill:#5b6675}}.f{{fill:#60a5fa}}}}</style>\
             <text x=\"8\" y=\"18\" font-weight=\"600\">{}</text><text x=\"8\" y=\"36\" font-size=\"11\">{} ({}); shorter is better</text>",
            self.title, column.name, column.unit
        );
        for (at, (name, columns)) in self.rows.iter().enumerate() {
            let (value, y) = (median(&columns[0]), 48 + 28 * at);
            let width = (value / longest * 380.0).max(1.0);
            let class = if at == 0 { "f" } else { "b" };
            let _ = write!(
                svg,
                "<text x=\"8\" y=\"{}\">{}</text><rect class=\"{class}\" x=\"230\" y=\"{y}\" width=\"{width:.0}\" height=\"20\" rx=\"3\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{value:.*}</text>",
                y + 15,
                name,
                238.0 + width,
                y + 15,
                column.digits
            );
        }
        svg + "</svg>\n"
    }
}

/// `target/bench`, beside the benchmark's own folder.
fn folder() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/release/deps/fanout-..
    let target =
        own.ancestors().nth(3).ok_or_else(|| io::Error::other("the benchmark is not in a target folder"))?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: &[f64]) -> f64 {
    sorted(values).get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::min).unwrap_or(f64::NAN)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::max).unwrap_or(f64::NAN)
}
