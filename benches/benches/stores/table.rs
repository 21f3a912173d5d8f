//! The printed table.

/// The result of one turn.
pub(crate) struct Turn {
    /// Saves per second.
    pub(crate) rate: f64,
    /// Microseconds of CPU time of this process per save.
    pub(crate) cpu: f64,
    /// Microseconds of CPU time of the server per save.
    pub(crate) server: Option<f64>,
    /// The number of saves that timed out.
    pub(crate) failed: u64,
}

/// Prints the names of the columns: those of the first side, and those of the `other` one.
pub(crate) fn head(rate: &str, other: &str) {
    println!(
        "medians of the rounds (lowest to highest); CPU is microseconds for each save, in this process + the server's"
    );
    println!(
        "{:10} {:>4} {:>24} {:>24} {:>6} {:>14} {:>16}",
        "store",
        "keys",
        rate,
        format!("{other}, saves/s"),
        "ratio",
        "CPU",
        format!("{other}, CPU")
    );
}

pub(crate) fn row(name: &str, keys: usize, first: &[Turn], other: &[Turn]) {
    let rate = |turns: &[Turn]| median(turns, |turn| turn.rate);
    println!(
        "{name:10} {keys:4} {:>24} {:>24} {:>6.2} {:>14} {:>16}",
        rates(first),
        rates(other),
        rate(first) / rate(other),
        cpu(first),
        cpu(other)
    );
    let failed = |turns: &[Turn]| turns.iter().map(|turn| turn.failed).sum::<u64>();
    if failed(first) + failed(other) > 0 {
        println!(
            "{:15} {:>24} {:>24}",
            "",
            format!("{} failed", failed(first)),
            format!("{} failed", failed(other))
        );
    }
}

fn rates(turns: &[Turn]) -> String {
    let rates = || turns.iter().map(|turn| turn.rate);
    let (lowest, highest) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
    format!("{:.0} ({lowest:.0} - {highest:.0})", median(turns, |turn| turn.rate))
}

fn cpu(turns: &[Turn]) -> String {
    let own = median(turns, |turn| turn.cpu);
    if turns.iter().all(|turn| turn.server.is_none()) {
        return format!("{own:.0}");
    }
    format!("{own:.0} + {:.0}", median(turns, |turn| turn.server.unwrap_or_default()))
}

fn median(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<_> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
