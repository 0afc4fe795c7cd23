//! Runs seeds for so many minutes, or one seed with its timeline.

#![allow(clippy::print_stdout)] // A command for people prints.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: sim [--minutes N] [--seed N [--count N]] [--span SECONDS]";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, String> {
    let (mut minutes, mut seed, mut count, mut span) = (None, None, None, 30);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} wants a number"))?;
        let number: u64 = value
            .parse()
            .map_err(|_| format!("{arg}: {value} is not a number"))?;
        match arg.as_str() {
            "--minutes" => minutes = Some(number),
            "--seed" => seed = Some(number),
            "--count" => count = Some(number),
            "--span" => span = number,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    let begin = Instant::now();
    let first = seed.unwrap_or(1);
    let limit = match (minutes, count) {
        (None, None) if seed.is_some() => 1,
        (_, Some(count)) => count,
        (_, None) => u64::MAX,
    };
    let patience = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let mut totals: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut time = Duration::ZERO;
    let mut failed = Vec::new();
    let mut ran = 0;
    for seed in first..first.saturating_add(limit) {
        if ran > 0 && patience.is_some_and(|patience| begin.elapsed() > patience) {
            break;
        }
        let report = sim::run(seed, Duration::from_secs(span));
        ran += 1;
        time += report.time;
        for (what, count) in report.counts {
            *totals.entry(what).or_default() += count;
        }
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}");
            for line in &report.timeline {
                println!("    {line}");
            }
            failed.push(seed);
        } else if limit == 1 {
            println!("seed {seed}: digest {:016x}", report.digest);
        }
    }
    println!(
        "{ran} seeds from {first}, {} s of the world's time in {} s",
        time.as_secs(),
        begin.elapsed().as_secs()
    );
    for (what, count) in &totals {
        println!("{count:>12}  {what}");
    }
    match failed.is_empty() {
        true => println!("no violation"),
        false => println!("violations with the seeds {failed:?}"),
    }
    Ok(failed.is_empty())
}
