//! The program: runs the suite on a device, compares devices, and proves that the suite can fail.

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use isograd_conformance::{
    Level, NAMES, Options, Progress, Report, Suite, bounds, mutants,
    report::{Line, Status, page},
};
use isograd_core::{DType, Dyn};
use isograd_cpu::Cpu;
use isograd_reference::Reference;
use std::{path::PathBuf, process::ExitCode, time::Duration};

#[derive(Parser)]
#[command(about = "What every isograd backend must do")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the suite.
    Run {
        /// A device of `DEVICES`, such as cpu or reference; several are run one after another.
        #[arg(long, required = true)]
        device: Vec<String>,
        /// Only cases whose name contains this.
        #[arg(long)]
        filter: Option<String>,
        /// Only this dtype.
        #[arg(long)]
        dtype: Option<DType>,
        /// Ten times as many draws, every f32 for functions of one argument, and buffers beyond 4 GiB: hours.
        #[arg(long, conflicts_with = "quick")]
        full: bool,
        /// A third of the draws, for tools that slow everything down.
        #[arg(long)]
        quick: bool,
        /// K/N: every N-th check, from the K-th on, counted from 0; for several processes side by side.
        #[arg(long, value_name = "K/N", default_value = "0/1", value_parser = share)]
        share: (usize, usize),
        /// A case that is known to fail, as NAME=REASON; it is listed as skipped, and fails the run once it passes.
        #[arg(long, value_name = "NAME=REASON", value_parser = expectation)]
        expect: Vec<(String, String)>,
        /// Where the draws start.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Writes the report as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Writes the report as a page.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Runs the suite on two devices and prints where they differ most.
    Compare {
        /// cpu or reference, twice.
        #[arg(long, required = true)]
        device: Vec<String>,
        /// Only cases whose name contains this.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Runs the suite on broken backends.
    Mutants {
        /// The good device that the faults are planted in.
        #[arg(long, default_value = "reference")]
        device: String,
        /// Only faults whose name contains this, with what the failure says.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Prints the names of the cases.
    List,
    /// Prints the bound of every primitive, as in the book.
    Bounds,
}

/// Takes `NAME=REASON` apart.
fn expectation(text: &str) -> Result<(String, String), String> {
    let (name, why) = text.split_once('=').ok_or("write it as NAME=REASON")?;
    if !NAMES.contains(&name) {
        return Err(format!("there is no case {name}; `list` prints their names"));
    }
    Ok((name.into(), why.into()))
}

/// Takes `K/N` apart.
fn share(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(k, n)| k < n).ok_or("write it as K/N, with K below N".into())
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

/// A bar over the cases, which also says how far a long one is.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn begins(&self, name: &str, dtype: DType) {
        self.0.set_message(format!("{name} {dtype}"));
        self.0.set_prefix("");
    }

    fn reached(&self, part: u64, of: u64) {
        self.0.set_prefix(format!("{:.1} %", 100.0 * part as f64 / of as f64));
    }

    fn ends(&self, _: &Line) {
        self.0.inc(1);
    }
}

fn suite(ctx: Dyn, options: &Options) -> Report {
    let suite = Suite::new(ctx);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg} {prefix}");
    let bar = ProgressBar::new(suite.count(options) as u64);
    let bar = Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
    bar.0.enable_steady_tick(Duration::from_secs(1));
    let report = suite.run_with(options, &bar);
    bar.0.finish_and_clear();
    report
}

/// Finds a device, given what follows the colon of its name.
type Find = fn(&str) -> Result<Dyn, String>;

/// The devices: a row for each backend.
const DEVICES: &[(&str, Find)] = &[
    ("cpu", |number| alone("cpu", number).map(|()| Dyn::new(Cpu::default()))),
    ("reference", |number| alone("reference", number).map(|()| Dyn::new(Reference))),
    #[cfg(feature = "opencl")]
    ("opencl", |which| opencl(which).map(Dyn::new)),
    #[cfg(feature = "cuda")]
    ("cuda", |which| isograd_cuda::Cuda::find(which).map(Dyn::new).map_err(|e| e.to_string())),
];

/// There is one device of this kind, without a number.
fn alone(kind: &str, number: &str) -> Result<(), String> {
    if number.is_empty() { Ok(()) } else { Err(format!("there is no device {kind}:{number}; there is one {kind}")) }
}

fn find(device: &str) -> Result<Dyn, String> {
    let (kind, rest) = device.split_once(':').unwrap_or((device, ""));
    let Some((_, find)) = DEVICES.iter().find(|(name, _)| *name == kind) else {
        let names: Vec<&str> = DEVICES.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no device {device:?}; there are {}", names.join(", ")));
    };
    find(rest)
}

fn on(device: &str, options: &Options) -> Result<Report, String> {
    let report = suite(find(device)?, options);
    if report.lines.is_empty() {
        let filter = options.filter.as_deref().map_or(String::new(), |f| format!(" whose name contains {f:?}"));
        let dtype = options.dtype.map_or(String::new(), |d| format!(" on {d}"));
        return Err(format!("there is no case{filter}{dtype}; `list` prints their names"));
    }
    Ok(report)
}

/// The device called `opencl`, `opencl:1` or `opencl:intel`, given what follows the colon.
#[cfg(feature = "opencl")]
fn opencl(which: &str) -> Result<isograd_opencl::OpenCl, String> {
    let made = match which.parse() {
        _ if which.is_empty() => isograd_opencl::OpenCl::new(0),
        Ok(index) => isograd_opencl::OpenCl::new(index),
        Err(_) => isograd_opencl::OpenCl::find(which),
    };
    made.map_err(|e| e.to_string())
}

fn run(command: Command) -> Result<bool, String> {
    // A backend's panic is a failure of its case, told there.
    std::panic::set_hook(Box::new(|_| ()));
    let write =
        |path: PathBuf, text: String| std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()));
    match command {
        Command::Run { device, filter, dtype, full, quick, share, expect, seed, json, html } => {
            let level = match (full, quick) {
                (true, _) => Level::Full,
                (_, true) => Level::Quick,
                _ => Level::Default,
            };
            let options = Options { filter, dtype, level, seed, share, expected: expect, ..Options::default() };
            let reports: Vec<Report> = device.iter().map(|d| on(d, &options)).collect::<Result<_, _>>()?;
            reports.iter().for_each(|r| println!("{r}"));
            if let Some(path) = json {
                let all: Vec<_> = reports.iter().map(Report::json).collect();
                write(path, format!("{:#}\n", serde_json::Value::from(all)))?;
            }
            if let Some(path) = html {
                write(path, page(&reports))?;
            }
            Ok(reports.iter().all(|r| r.failed() == 0))
        }
        Command::Compare { device, filter } => {
            let [a, b] = &device[..] else { return Err("compare takes two devices".into()) };
            let options = Options { filter, ..Options::default() };
            compare(&on(a, &options)?, &on(b, &options)?);
            Ok(true)
        }
        Command::Bounds => {
            print!("{}", bounds::table());
            Ok(true)
        }
        Command::List => {
            Suite::new(Reference).names().iter().for_each(|name| println!("{name}"));
            Ok(true)
        }
        Command::Mutants { device, filter } => {
            let good = find(&device)?;
            let unbroken = [
                mutants::judge(mutants::Mutant::new(good.clone(), None), "unbroken", false),
                mutants::judge(mutants::Lazy::new(good.clone(), "asynchronous", None), "unbroken, asynchronous", false),
            ];
            for v in &unbroken {
                println!("{}: {}", v.name, v.killed_by.as_ref().map_or("passes".into(), |k| format!("FAILS {k:?}")));
            }
            let verbose = filter.is_some();
            let verdicts = mutants::run(&good, filter.as_deref(), &mut |v| match &v.killed_by {
                Some((case, why)) => {
                    println!("killed  {:<60} by {case} ({:.1} s)", v.name, v.seconds);
                    if verbose {
                        println!("{why}");
                    }
                }
                None => println!("LIVES   {:<60} ({:.1} s)", v.name, v.seconds),
            });
            if verdicts.is_empty() {
                return Err(format!("there is no fault whose name contains {:?}", filter.unwrap_or_default()));
            }
            let killed = verdicts.iter().filter(|v| v.killed_by.is_some()).count();
            println!("killed {killed}/{}", verdicts.len());
            Ok(killed == verdicts.len() && unbroken.iter().all(|v| v.killed_by.is_none()))
        }
    }
}

/// The share of its bound that each device's worst element takes, where they differ most.
fn compare(a: &Report, b: &Report) {
    let share =
        |s: &Status| if let Status::Passed(m) = s { (m.share, m.ulp, m.bound) } else { (f64::NAN, f64::NAN, 0.0) };
    let mut rows: Vec<_> = a.lines.iter().zip(&b.lines).map(|(x, y)| (x, share(&x.status), share(&y.status))).collect();
    rows.sort_by(|p, q| (q.1.0 - q.2.0).abs().total_cmp(&(p.1.0 - p.2.0).abs()));
    println!("{:<32} {:<9} {:>20} {:>20}", "case", "dtype", a.device, b.device);
    for (line, x, y) in rows.iter().take(30) {
        let told = |v: &(f64, f64, f64)| format!("{:.3} of {:.3} ulp", v.1, v.2);
        println!("{:<32} {:<9} {:>20} {:>20}", line.name, line.dtype, told(x), told(y));
    }
}
