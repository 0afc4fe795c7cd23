//! Runs seeds for so many minutes, or one seed with its timeline, shrunk if asked.

#![allow(clippy::print_stdout)] // A command for people prints.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::Plan;

const USAGE: &str =
    "usage: sim [--minutes N] [--seed N [--count N]] [--span SECONDS] [--shrink] [--until-violation]";

/// What was asked for.
struct Asked {
    minutes: Option<u64>,
    seed: Option<u64>,
    count: Option<u64>,
    span: u64,
    shrink: bool,
    until_violation: bool,
}

/// What all seeds together did.
#[derive(Default)]
struct Totals {
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<String, u64>,
    time: Duration,
    ran: u64,
    failed: Vec<u64>,
}

fn main() -> ExitCode {
    match asked().and_then(|asked| run(&asked)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        minutes: None,
        seed: None,
        count: None,
        span: 30,
        shrink: false,
        until_violation: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{arg} wants a number"))?;
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{arg}: {value} is not a number"))
        };
        match arg.as_str() {
            "--minutes" => asked.minutes = Some(number()?),
            "--seed" => asked.seed = Some(number()?),
            "--count" => asked.count = Some(number()?),
            "--span" => asked.span = number()?,
            "--shrink" => asked.shrink = true,
            "--until-violation" => asked.until_violation = true,
            _ => return Err(format!("unknown argument {arg}")),
        }
    }
    Ok(asked)
}

fn run(asked: &Asked) -> Result<bool, String> {
    let begin = Instant::now();
    let first = asked.seed.unwrap_or(1);
    let limit = match (asked.minutes, asked.count) {
        (None, None) if asked.seed.is_some() => 1,
        (_, Some(count)) => count,
        (_, None) => u64::MAX,
    };
    let patience = asked.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let mut totals = Totals::default();
    for seed in first..first.saturating_add(limit) {
        let is_late = patience.is_some_and(|patience| begin.elapsed() > patience);
        if totals.ran > 0 && is_late || asked.until_violation && !totals.failed.is_empty() {
            break;
        }
        run_seed(seed, asked, limit == 1, &mut totals);
    }
    totals.tell(first, begin.elapsed());
    Ok(totals.failed.is_empty())
}

fn run_seed(seed: u64, asked: &Asked, alone: bool, totals: &mut Totals) {
    let plan = Plan::new(seed, Duration::from_secs(asked.span));
    let report = sim::run_plan(&plan);
    totals.ran += 1;
    totals.time += report.time;
    for (what, count) in report.counts {
        *totals.counts.entry(what).or_default() += count;
    }
    for (_, kind) in report.faults {
        *totals.faults.entry(kind).or_default() += 1;
    }
    let Some(violation) = report.violation else {
        if alone {
            println!("seed {seed}: digest {:016x}", report.digest);
        }
        return;
    };
    println!("seed {seed}: {violation}");
    totals.failed.push(seed);
    let smaller = asked.shrink.then(|| sim::shrink(plan)).flatten();
    let timeline = match &smaller {
        Some(smaller) => {
            println!("shrunk in {} worlds to {}", smaller.attempts, smaller.plan.tell());
            if let Some(violation) = &smaller.report.violation {
                println!("there: {violation}");
            }
            &smaller.report.timeline
        }
        None => &report.timeline,
    };
    for line in timeline {
        println!("    {line}");
    }
}

impl Totals {
    fn tell(&self, first: u64, took: Duration) {
        println!(
            "{} seeds from {first}, {} s of the world's time in {} s",
            self.ran,
            self.time.as_secs(),
            took.as_secs()
        );
        println!("faults");
        for (kind, count) in &self.faults {
            println!("{count:>12}  {kind}");
        }
        println!("interesting states");
        for state in sim::STATES {
            let count = self.counts.get(state).copied().unwrap_or_default();
            println!("{count:>12}  {state}");
        }
        println!("everything else");
        for (what, count) in &self.counts {
            if !sim::STATES.contains(what) {
                println!("{count:>12}  {what}");
            }
        }
        let missing = sim::missing(&self.counts);
        match missing.is_empty() {
            true => println!("all {} interesting states were reached", sim::STATES.len()),
            false => println!("interesting states not reached: {}", missing.join(", ")),
        }
        match self.failed.is_empty() {
            true => println!("no violation"),
            false => println!("violations with the seeds {:?}", self.failed),
        }
    }
}
