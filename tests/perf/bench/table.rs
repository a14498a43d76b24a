//! The table of what is to be reached, and whether it was.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::variant::Variant;
use crate::{Results, fixture};

/// One line of the table.
struct Row {
    what: String,
    target: f64,
    stretch: Option<f64>,
    measured: f64,
    unit: &'static str,
    /// true if more is better
    more: bool,
    /// the absolute figures behind it
    note: String,
}

/// Writes `results.md` and `results.json`, and prints the former.
pub(crate) fn write(results: &Results) {
    let folder = fixture::output();
    let rows = rows(results, &folder);
    let text = markdown(results, &rows);
    fs::write(folder.join("results.md"), &text).unwrap();
    fs::write(folder.join("results.json"), serde_json::to_vec_pretty(&document(results, &rows)).unwrap()).unwrap();
    println!("\n{text}");
}

fn rows(results: &Results, folder: &Path) -> Vec<Row> {
    let of = |variant| &results.variants[&variant];
    let cpu = |variant| median(&of(variant).cpu);
    let baseline = cpu(Variant::Static);
    let core = |name: &str| estimate(folder, name);
    let in_baselines = |what: &str, target, stretch, variant| Row {
        what: what.to_owned(),
        target,
        stretch: Some(stretch),
        measured: cpu(variant) / baseline,
        unit: "baselines",
        more: false,
        note: format!("{:.1} us of {baseline:.1}", cpu(variant)),
    };
    let plain = |what: &str, target, stretch: f64, measured, unit, note: String| Row {
        what: what.to_owned(),
        target,
        stretch: (stretch > 0.0).then_some(stretch),
        measured,
        unit,
        more: unit == "/s",
        note,
    };
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let megabytes = |kib: u64| f64::from(u32::try_from(kib).unwrap()) / 1024.0;
    let ratio = |what: &str, target, a: &str, b: &str| {
        let (a, b) = (core(a), core(b));
        plain(what, target, 0.0, a / b, "times", format!("{a:.1} us to {b:.1}"))
    };
    let mut rows = vec![
        in_baselines("CPU, ten layers, no module", 4.0, 3.0, Variant::TenLayers),
        in_baselines("CPU, and a module that returns a fragment", 7.0, 6.0, Variant::Fragment),
        in_baselines("CPU, and a module that returns the template", 10.0, 8.0, Variant::Template),
    ];
    for (what, target, stretch, variant) in [
        ("throughput of one core, ten layers", 25_000.0, 30_000.0, Variant::TenLayers),
        ("throughput of one core, fragment", 14_000.0, 16_000.0, Variant::Fragment),
    ] {
        rows.push(plain(what, target, stretch, median(&of(variant).rate), "/s", String::new()));
    }
    let fragment = of(Variant::Fragment);
    rows.push(plain("latency at c=1, fragment, p50", 130.0, 110.0, median(&fragment.p50), "us", String::new()));
    rows.push(plain("latency at c=1, fragment, p99", 350.0, 250.0, median(&fragment.p99), "us", String::new()));
    rows.push(plain("sandbox, fragment, median", 20.0, 14.0, core("sandbox/fragment"), "us", String::new()));
    rows.push(plain("sandbox, template, median", 40.0, 0.0, core("sandbox/template"), "us", String::new()));
    let (idle, loaded) = (megabytes(results.idle_memory), megabytes(results.loaded_memory));
    rows.push(plain("memory, idle with ten modules", 40.0, 30.0, idle, "MB", String::new()));
    rows.push(plain("memory, under load", 80.0, 60.0, loaded, "MB", String::new()));
    let (pinned, free) = results.start;
    let note = format!("{:.0} ms on one core", milliseconds(pinned));
    rows.push(plain("start to ready with ten modules", 250.0, 100.0, milliseconds(free), "ms", note));
    for (connections, (alone, looping)) in &results.beside {
        let (alone, looping) = (median(alone), median(looping));
        let what = format!("p99 at c={connections} beside a looping module");
        rows.push(plain(&what, 2.0, 1.0, looping / alone, "times", format!("{looping:.0} us to {alone:.0}")));
    }
    rows.push(ratio(
        "55 KB ClearML review to an 8 KB one, both with last-applied, core",
        1.6,
        "pod/clearml-large-applied",
        "pod/clearml-small-applied",
    ));
    rows.push(ratio("160 KB review to 8 KB, core", 19.7, "pod/160KB", "pod/8KB"));
    rows.push(ratio("100 layers to 10, core", 3.0, "layers/100", "layers/10"));
    rows.push(ratio("1,000 queues to 10, core", 1.05, "queues/1000", "queues/10"));
    rows
}

fn markdown(results: &Results, rows: &[Row]) -> String {
    let mut text = String::from("# What podgraft reaches\n\n");
    let _ = writeln!(
        text,
        "One run of `make bench`. The *baseline* is a static reply of the same server: TLS, HTTP, metrics, log. The review has {} bytes; ten layers.\n",
        results.body
    );
    text.push_str("| what | target | measured | figures | |\n|---|---|---|---|---|\n");
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} {} | **{}** | {} | {} |",
            row.what,
            figure(row.target),
            row.unit,
            figure(row.measured),
            row.note,
            row.verdict()
        );
    }
    text.push_str("\n| server, one core | CPU, us | in baselines | requests/s, c=16 | p50, us, c=1 | p99, us, c=1 | run twice |\n|---|---|---|---|---|---|---|\n");
    let baseline = median(&results.variants[&Variant::Static].cpu);
    for (variant, measured) in &results.variants {
        let cpu = median(&measured.cpu);
        let (rate, p50, p99) = (median(&measured.rate), median(&measured.p50), median(&measured.p99));
        let _ = writeln!(
            text,
            "| {} | {cpu:.1} | {:.2} | {rate:.0} | {p50:.0} | {p99:.0} | {:.0} % |",
            variant.name(),
            cpu / baseline,
            median(&measured.rerun) * 100.0
        );
    }
    text.push_str("\n| misbehaving module | what the pod's submitter reads | after |\n|---|---|---|\n");
    for (name, sentence, after) in &results.denials {
        let _ = writeln!(text, "| {name} | {sentence} | {:.1} ms |", after.as_secs_f64() * 1e3);
    }
    text.push_str("\n| core, without TLS and HTTP | median, us |\n|---|---|\n");
    for name in CORE {
        let _ = writeln!(text, "| {name} | {:.1} |", estimate(&fixture::output(), name));
    }
    text
}

/// Every criterion benchmark of `core.rs`.
const CORE: &[&str] = &[
    "core/parse",
    "core/answer",
    "core/naive",
    "pod/4KB",
    "pod/8KB",
    "pod/160KB",
    "pod/clearml-small",
    "pod/clearml-small-applied",
    "pod/clearml-large",
    "pod/clearml-large-applied",
    "layers/1",
    "layers/10",
    "layers/100",
    "queues/10",
    "queues/1000",
    "module/fragment",
    "module/template",
    "sandbox/fragment",
    "sandbox/template",
];

fn document(results: &Results, rows: &[Row]) -> Value {
    let variants = results.variants.iter().map(|(variant, measured)| {
        let figures = json!({"cpu_us": measured.cpu, "per_second": measured.rate, "p50_us": measured.p50, "p99_us": measured.p99, "run_twice": measured.rerun});
        (variant.name().to_owned(), figures)
    });
    let rows = rows.iter().map(|row| {
        json!({"what": row.what, "target": row.target, "stretch": row.stretch, "measured": row.measured, "unit": row.unit, "verdict": row.verdict()})
    });
    json!({
        "rows": rows.collect::<Vec<_>>(),
        "servers": variants.collect::<serde_json::Map<_, _>>(),
        "core_us": CORE.iter().map(|name| ((*name).to_owned(), json!(estimate(&fixture::output(), name)))).collect::<serde_json::Map<_, _>>(),
    })
}

impl Row {
    fn verdict(&self) -> String {
        let reaches = |goal: f64| if self.more { self.measured >= goal } else { self.measured <= goal };
        if self.stretch.is_some_and(reaches) {
            return "met, stretch too".to_owned();
        }
        if reaches(self.target) {
            return "met".to_owned();
        }
        let by = (self.measured / self.target - 1.0).abs() * 100.0;
        format!("**missed by {by:.0} %**")
    }
}

/// Criterion's median, µs; core.rs has written it.
fn estimate(folder: &Path, name: &str) -> f64 {
    let path = folder.join("criterion").join(name).join("new/estimates.json");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let estimates: Value = serde_json::from_slice(&text).unwrap();
    estimates["median"]["point_estimate"].as_f64().unwrap() / 1e3
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn figure(number: f64) -> String {
    if number >= 100.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
