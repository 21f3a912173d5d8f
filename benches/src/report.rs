//! Reports of medians, ranges and ratios, as a table, JSON and a chart.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use serde_json::{Value, json};

/// A figure that is measured for every contender.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The name.
    pub name: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// The number of decimal places.
    pub digits: usize,
}

/// The measurements: a row per contender with FastState first, a column per figure, and a value per round.
#[derive(Clone, Debug)]
pub struct Report {
    name: &'static str,
    title: String,
    columns: Vec<Column>,
    /// The number of columns in the chart.
    charted: usize,
    /// A contender's name, and a list of values per column.
    rows: Vec<(&'static str, Vec<Vec<f64>>)>,
}

impl Report {
    /// Creates an empty report with a file name and a title.
    #[must_use]
    pub fn new(name: &'static str, title: impl Into<String>, columns: &[Column]) -> Self {
        Self { name, title: title.into(), columns: columns.to_vec(), charted: 1, rows: Vec::new() }
    }

    /// Sets the number of columns in the chart, 1 by default.
    #[must_use]
    pub const fn charting(mut self, columns: usize) -> Self {
        self.charted = columns;
        self
    }

    /// Adds one round of one contender.
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
    /// Fails if the files cannot be written.
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

    /// Formats a row per contender and figure with the median, the range and FastState's ratio. The ratio is the median over the
    /// rounds, because temporary load on the machine slows a whole round down.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (at, column) in self.columns.iter().enumerate() {
            let _ = writeln!(text, "\n{} ({})", column.name, column.unit);
            let ours = self.rows.first().map_or(&[][..], |(_, columns)| &columns[at]);
            for (name, columns) in &self.rows {
                let values = &columns[at];
                let (low, middle, high) = (least(values), median(values), most(values));
                let ratio = share(ours, values);
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

    /// Draws bars of the first figures, readable on light and dark backgrounds.
    fn chart(&self) -> String {
        let panel = 44 + 26 * self.rows.len();
        let height = 40 + panel * self.charted;
        let title = &self.title;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" role=\"img\" font-family=\"system-ui,sans-serif\" font-size=\"13\">\
             <title>{title}</title>\
             <style>text{{fill:#333}}.b{{fill:#9aa7b8}}.f{{fill:#2563eb}}@media(prefers-color-scheme:dark){{text{{fill:#ddd}}.b{{fill:#5b6675}}.f{{fill:#60a5fa}}}}</style>\
             <text x=\"8\" y=\"20\" font-weight=\"600\">{title}</text>",
        );
        for (place, column) in self.columns.iter().enumerate().take(self.charted) {
            let top = 40 + panel * place;
            let medians = self.rows.iter().map(|(name, columns)| (name, median(&columns[place])));
            let medians: Vec<_> = medians.filter(|(_, value)| value.is_finite()).collect();
            let longest = medians.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
            let _ = write!(
                svg,
                "<text x=\"8\" y=\"{}\" font-size=\"12\">{} ({}); shorter is better</text>",
                top + 14,
                column.name,
                column.unit
            );
            for (at, (name, value)) in medians.into_iter().enumerate() {
                let y = top + 24 + 26 * at;
                let width = (value / longest * 380.0).max(1.0);
                let class = if at == 0 { "f" } else { "b" };
                let _ = write!(
                    svg,
                    "<text x=\"8\" y=\"{below}\">{name}</text><rect class=\"{class}\" x=\"230\" y=\"{y}\" width=\"{width:.0}\" height=\"19\" rx=\"3\"/>\
                     <text x=\"{:.0}\" y=\"{below}\">{}</text>",
                    238.0 + width,
                    grouped(value, column.digits),
                    below = y + 14,
                );
            }
        }
        svg + "</svg>\n"
    }
}

/// Formats a number with thousands separators.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let whole = text.split('.').next().map_or(0, str::len);
    let mut grouped = String::new();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && at < whole && (whole - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Returns `target/bench`.
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

/// The median over the rounds of FastState's value relative to the contender's.
fn share(ours: &[f64], theirs: &[f64]) -> f64 {
    let shares = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs != 0.0);
    median(&shares.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::min).unwrap_or(f64::NAN)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::max).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_taken_within_each_round() {
        // One median comes from a round in which the machine was slow, the other from a fast one.
        let (ours, theirs) = ([12.0, 24.0, 24.0, 12.0, 24.0], [8.0, 16.0, 8.0, 8.0, 16.0]);
        assert!((share(&ours, &theirs) - 1.5).abs() < 1e-9);
        assert!(share(&ours, &[0.0; 5]).is_nan());
    }

    #[test]
    fn a_chart_has_a_bar_for_each_contender_and_figure() {
        let columns = [("CPU", 2), ("memory", 0), ("share", 1)].map(|(name, digits)| Column {
            name,
            unit: "x",
            digits,
        });
        let mut report = Report::new("test", "Title", &columns).charting(2);
        report.push("ours", &[1.5, 3_906.0, 9.0]);
        report.push("theirs", &[3.0, 1_020_683.0, 9.0]);
        let chart = report.chart();
        assert_eq!(chart.matches("<rect").count(), 4);
        assert!(chart.contains("width=\"190\"") && chart.contains("width=\"380\""), "{chart}");
        assert!(
            chart.contains(">1.50<") && chart.contains(">3,906<") && chart.contains(">1,020,683<"),
            "{chart}"
        );
        assert!(!chart.contains("share"));
    }
}
