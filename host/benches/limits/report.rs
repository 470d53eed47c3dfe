//! What came out: a table on standard output, section by section as they end, and the same as
//! JSON.
//!
//! Whatever is left out is said where it would be, and once more at the end.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::json;

use crate::samples::Samples;

/// What the ratio or the median of a row is to be.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    RatioAtMost(f64),
    RatioAtLeast(f64),
    MedianAtMost(f64),
    MedianAtLeast(f64),
}

/// What the figures of a row count.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    Percent,
    PerSecond,
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let (factor, name) = *steps
                .iter()
                .rfind(|(factor, _)| value >= *factor)
                .unwrap_or(&steps[0]);
            format!("{} {name}", digits(value / factor))
        };
        match self {
            Self::Nanoseconds => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms")]),
            Self::Bytes => scaled(&[(1.0, "B"), (1024.0, "KiB")]),
            Self::Percent => format!("{} %", digits(value)),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// Three significant digits, and no fewer than the integer part has.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    unit: Unit,
    pub(crate) samples: Samples,
    ratio: Option<f64>,
    target: Option<Target>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let percentiles = [10, 25, 50, 75, 90, 99];
        let percentiles = percentiles.map(|p| (format!("p{p}"), self.samples.percentile(p)));
        let row = json!({
            "name": self.name,
            "unit": self.unit,
            "samples": self.samples.values().len(),
            "percentiles": BTreeMap::from(percentiles),
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met(),
        });
        row.serialize(to)
    }
}

impl Row {
    pub(crate) fn new(name: &str, unit: Unit, samples: Samples) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            samples,
            ratio: None,
            target: None,
        }
    }

    pub(crate) fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }

    pub(crate) fn target(mut self, target: impl Into<Option<Target>>) -> Self {
        self.target = target.into();
        self
    }

    /// Whether the target is met, if there is one.
    fn met(&self) -> Option<bool> {
        let ratio = || self.ratio.expect("a target for it");
        let median = || self.samples.percentile(50);
        self.target.map(|target| match target {
            Target::RatioAtMost(limit) => ratio() <= limit,
            Target::RatioAtLeast(limit) => ratio() >= limit,
            Target::MedianAtMost(limit) => median() <= limit,
            Target::MedianAtLeast(limit) => median() >= limit,
        })
    }

    /// As it is shown.
    pub(crate) fn median(&self) -> String {
        self.unit.show(self.samples.percentile(50))
    }

    fn show_target(&self) -> String {
        match self.target {
            Some(Target::RatioAtMost(limit)) => format!("≤ {} ×", digits(limit)),
            Some(Target::RatioAtLeast(limit)) => format!("≥ {} ×", digits(limit)),
            Some(Target::MedianAtMost(limit)) => format!("≤ {}", self.unit.show(limit)),
            Some(Target::MedianAtLeast(limit)) => format!("≥ {}", self.unit.show(limit)),
            None => String::new(),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |least, percent| match self.samples.values().len() >= least {
            true => self.unit.show(self.samples.percentile(percent)),
            false => String::new(),
        };
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let line = format!(
            "  {:<WIDTH$} {:>10} {:>10} {:>10} {:>8} {:>10}  {verdict}",
            self.name,
            at(1, 50),
            at(10, 90),
            at(100, 99),
            self.ratio.map_or(String::new(), digits),
            self.show_target(),
        );
        f.write_str(line.trim_end())
    }
}

const WIDTH: usize = 56;

/// Rows that belong together.
#[derive(Serialize)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// Where it ran.
#[derive(Serialize)]
struct Machine {
    processors: usize,
    processor: String,
    kernel: String,
    file_system: String,
}

impl Machine {
    /// `dir` is where the lock files are.
    fn new(dir: &Path) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let mounts = read("/proc/self/mountinfo");
        let file_system = mounts
            .lines()
            .filter_map(|line| {
                let (mount, system) = line.split_once(" - ")?;
                let point = Path::new(mount.split(' ').nth(4)?);
                let kind = system.split(' ').next()?;
                dir.starts_with(point)
                    .then_some((point.components().count(), kind))
            })
            // The last of equals covers the others.
            .max_by_key(|(depth, _)| *depth)
            .map_or("unknown", |(_, kind)| kind)
            .to_owned();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name)
            .to_owned();
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            processor,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system,
        }
    }
}

/// All of it.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    pub(crate) sections: Vec<Section>,
    skipped: Vec<String>,
}

impl Report {
    /// Begins the table.
    pub(crate) fn new(dir: &Path) -> Self {
        let machine = Machine::new(dir);
        println!(
            "{} × {}, Linux {}, lock files on {}",
            machine.processors, machine.processor, machine.kernel, machine.file_system
        );
        println!(
            "  {:<WIDTH$} {:>10} {:>10} {:>10} {:>8} {:>10}",
            "", "median", "p90", "p99", "ratio", "target"
        );
        Self {
            machine,
            sections: Vec::new(),
            skipped: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, section: Section) {
        print!("{section}");
        self.sections.push(section);
    }

    /// Says that something is not measured, and why.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        let line = format!("SKIPPED {what}: {why}");
        println!("\n{line}");
        self.skipped.push(line);
    }

    /// Ends the table.
    pub(crate) fn summary(&self) -> String {
        let rows = self.sections.iter().flat_map(|section| &section.rows);
        let verdicts: Vec<_> = rows.filter_map(Row::met).collect();
        let met = verdicts.iter().filter(|met| **met).count();
        let mut summary = format!("\n{met} of {} targets met", verdicts.len());
        for line in &self.skipped {
            let _ = write!(summary, "\n{line}");
        }
        summary
    }

    pub(crate) fn json(&self) -> String {
        format!("{:#}\n", json!(self))
    }
}
