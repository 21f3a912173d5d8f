//! Measures the cost of a diff and its patch: `cargo bench --bench patch`.
//!
//! Runs on one thread without a socket. The alternatives are serialising the state only, which is the lower bound, and
//! comparing two `serde_json::Value`s, which is the obvious implementation.

use std::{
    hint::black_box,
    io,
    process::ExitCode,
    sync::LazyLock,
    time::{Duration, Instant},
};

use faststate::{
    Key, Scope, Version,
    internal::{EncodedFields, SignalPath},
};
use faststate_benches::{BenchSettings, Column, Report, bench};
use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::{Value, json};

const COLUMNS: [Column; 3] = [
    Column { name: "a change: encode, compare, write the frame", unit: "us", digits: 3 },
    Column { name: "encode alone", unit: "us", digits: 3 },
    Column { name: "a snapshot's frame, encoded state given", unit: "us", digits: 3 },
];

/// The duration of one measurement per round.
const MEASUREMENT_DURATION: Duration = Duration::from_millis(200);

#[derive(Clone, Serialize)]
struct Small {
    count: i64,
    title: String,
    open: bool,
    ratio: f64,
    user: Option<String>,
}

/// A struct of 200 fields, serialised as a derived `Serialize` does.
struct Wide([u32; 200]);

impl Serialize for Wide {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static NAMES: LazyLock<Vec<&'static str>> =
            LazyLock::new(|| (0..200).map(|at| &*format!("field_{at}").leak()).collect());
        let mut fields = serializer.serialize_struct("Wide", self.0.len())?;
        for (name, value) in NAMES.iter().zip(&self.0) {
            fields.serialize_field(name, value)?;
        }
        fields.end()
    }
}

#[derive(Clone, Serialize)]
struct Long {
    count: i64,
    items: Vec<Item>,
}

#[derive(Clone, Serialize)]
struct Item {
    id: u64,
    name: String,
    done: bool,
}

fn main() -> ExitCode {
    bench(|settings| async move {
        let small = |count| Small {
            count,
            title: "What it costs".to_owned(),
            open: true,
            ratio: 0.25,
            user: Some("alice".to_owned()),
        };
        compare(&settings, "patch-small", "A state of 5 fields, one of them changed", &small(1), &small(2))?;
        let wide = |value| {
            let mut fields = [123; 200];
            fields[77] = value;
            Wide(fields)
        };
        compare(&settings, "patch-wide", "A state of 200 fields, one of them changed", &wide(1), &wide(2))?;
        let long = |count| {
            let items = (0..10_000).map(|id| Item { id, name: format!("item {id}"), done: id % 3 == 0 });
            Long { count, items: items.collect() }
        };
        compare(&settings, "patch-long", "A count beside a list of 10,000 structs", &long(1), &long(2))
    })
}

fn compare(
    settings: &BenchSettings,
    name: &'static str,
    title: &str,
    before: &impl Serialize,
    after: &impl Serialize,
) -> io::Result<()> {
    let key = Key::new("board", Scope::Global, None, None).map_err(io::Error::other)?;
    let (nest, version) = (SignalPath::of(&key, None), Version::start());
    let image = |state| EncodedFields::of(state).map_err(io::Error::other);
    let (old, new) = (image(before)?, EncodedFields::of(after).map_err(io::Error::other)?);
    let old_value = serde_json::to_value(before)?;
    let new_value = serde_json::to_value(after)?;

    let title = format!("{title}, medians of {} interleaved rounds", settings.rounds);
    let mut report = Report::new(name, title, &COLUMNS);
    for _ in 0..settings.rounds {
        report.push(
            "FastState",
            &[
                micros(|| EncodedFields::of(black_box(after)).map(|new| nest.change(&old, &new, version))),
                micros(|| EncodedFields::of(black_box(after))),
                micros(|| nest.snapshot(black_box(&new), version)),
            ],
        );
        report.push(
            "serde_json::to_vec, and no more",
            &[
                micros(|| serde_json::to_vec(black_box(after))),
                micros(|| serde_json::to_vec(black_box(after))),
                micros(|| framed(black_box(new.json()))),
            ],
        );
        report.push(
            "serde_json::Value, compared",
            &[
                micros(|| serde_json::to_value(black_box(after)).map(|new| difference(&old_value, &new))),
                micros(|| serde_json::to_value(black_box(after))),
                micros(|| snapshot(black_box(&new_value))),
            ],
        );
    }
    report.finish()
}

/// Encodes the differing fields as an event.
fn difference(before: &Value, after: &Value) -> Vec<u8> {
    let changed: serde_json::Map<_, _> = after
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| before.get(name.as_str()) != Some(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    framed(json!({ "board": changed }).to_string().as_bytes())
}

fn snapshot(state: &Value) -> Vec<u8> {
    framed(json!({ "board": state }).to_string().as_bytes())
}

fn framed(json: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(json.len() + 64);
    frame.extend_from_slice(b"event: datastar-patch-signals\ndata: signals ");
    frame.extend_from_slice(json);
    frame.extend_from_slice(b"\n\n");
    frame
}

/// Microseconds of CPU time of this thread per call.
fn micros<T>(mut call: impl FnMut() -> T) -> f64 {
    let (started, before) = (Instant::now(), cpu());
    let mut calls = 0_u32;
    while started.elapsed() < MEASUREMENT_DURATION {
        for _ in 0..8 {
            black_box(call());
        }
        calls += 8;
    }
    (cpu() - before) * 1e6 / f64::from(calls)
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
