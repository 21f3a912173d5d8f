//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::Durations;

/// The type of a family of samples.
#[derive(Clone, Copy, Debug)]
pub enum MetricKind {
    /// A number that only increases.
    Counter,
    /// A number that can decrease.
    Gauge,
    /// Durations in buckets, with their sum and count.
    Histogram,
}

/// A page of metrics, family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// Starts a family. All samples until the next call belong to it.
    pub fn family(&mut self, name: &'static str, kind: MetricKind, help: &str) -> &mut Self {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.family = name;
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self
    }

    /// Adds a sample to the current family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write("", labels, None, value);
    }

    /// Adds the samples of a histogram to the current family.
    pub(crate) fn durations(&mut self, labels: &[(&str, &str)], durations: &Durations) {
        let (buckets, seconds) = durations.get();
        let mut below = 0;
        let bounds = Durations::BOUNDS.iter().map(|bound| format!("{}", *bound as f64 / 1e6));
        for (count, bound) in buckets.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            below += count;
            self.write("_bucket", labels, Some(&bound), below);
        }
        self.write("_sum", labels, None, seconds);
        self.write("_count", labels, None, below);
    }

    /// Returns the page.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        self.text.extend([self.family, suffix]);
        let bound = bound.map(|bound| ("le", bound));
        for (at, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.extend([name, "=\""]);
            for char in value.chars() {
                match char {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    char => self.text.push(char),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Stopwatch;

    #[test]
    fn page_groups_samples_by_family() {
        let mut page = Exposition::default();
        page.family("faststate_x_total", MetricKind::Counter, "x").sample(&[("state", "a\"\\\nb")], 5);
        page.family("faststate_y", MetricKind::Gauge, "y").sample(&[], 0.25);
        assert_eq!(
            page.finish(),
            "# HELP faststate_x_total x\n# TYPE faststate_x_total counter\nfaststate_x_total{state=\"a\\\"\\\\\\nb\"} 5\n\
             # HELP faststate_y y\n# TYPE faststate_y gauge\nfaststate_y 0.25\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn durations_are_counted_in_buckets_up_to_their_bounds() {
        let durations = Durations::default();
        for micros in [100, 101, 2_000_000, 9_000_000] {
            let watch = Stopwatch::start();
            tokio::time::advance(std::time::Duration::from_micros(micros)).await;
            durations.observe(watch);
        }
        let mut page = Exposition::default();
        page.family("y_seconds", MetricKind::Histogram, "y").durations(&[("a", "b")], &durations);
        let text = page.finish();
        for line in [
            "y_seconds_bucket{a=\"b\",le=\"0.0001\"} 1\n",
            "y_seconds_bucket{a=\"b\",le=\"0.00025\"} 2\n",
            "y_seconds_bucket{a=\"b\",le=\"2.5\"} 3\n",
            "y_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\n",
            "y_seconds_count{a=\"b\"} 4\n",
            "y_seconds_sum{a=\"b\"} 11.000201\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
