//! CPU time of processes.

use std::{collections::HashMap, fs};

/// Clock ticks per second on every current Linux platform.
const TICKS: f64 = 100.0;

/// CPU seconds of this process without its children, with a resolution of 10 ms.
pub(crate) fn own() -> f64 {
    stat("self").map_or(0.0, |stat| stat.itself) / TICKS
}

/// CPU seconds of a process and all its descendants.
pub(crate) fn of_all_below(process: u32) -> f64 {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let stats: HashMap<u32, Stat> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|process: u32| Some((process, stat(&process.to_string())?)))
        .collect();
    let is_below = |mut at: u32| {
        while at != process {
            let Some(stat) = stats.get(&at) else { return false };
            at = stat.parent;
        }
        true
    };
    let below = stats.iter().filter(|(at, _)| is_below(**at));
    below.map(|(_, stat)| stat.itself + stat.ended_children).sum::<f64>() / TICKS
}

struct Stat {
    parent: u32,
    itself: f64,
    ended_children: f64,
}

fn stat(process: &str) -> Option<Stat> {
    // The process may have ended in the meantime.
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before the last parenthesis may contain anything.
    let fields: Vec<_> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap_or_default();
    Some(Stat {
        parent: fields[1].parse().ok()?,
        itself: ticks(11) + ticks(12),
        ended_children: ticks(13) + ticks(14),
    })
}
