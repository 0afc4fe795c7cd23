//! check: what a cluster can bear. `perf` writes at a rate for a minute, `datascale` writes so many keys
//! and looks at the member's memory. Both take their keys away again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use api::error::Status;
use api::etcdserverpb as pb;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::{Context, decode, prefix_end};
use crate::flags::{Command, Flag, Kind, flag};
use crate::text::quote;
use crate::{EXIT_BAD_FEATURE, EXIT_ERROR, EXIT_INVALID_INPUT, Failure, fetch};
use client::Client;

pub(super) const PERF: Command = Command {
    path: &["check", "perf"],
    usage: "[options]",
    help: "Check the performance of the etcd cluster",
    flags: &[
        LOAD,
        flag(
            "prefix",
            Kind::Text,
            "/etcdctl-check-perf/",
            "The prefix for writing the performance check's keys.",
        ),
        COMPACT,
        DEFRAG,
    ],
};
pub(super) const DATASCALE: Command = Command {
    path: &["check", "datascale"],
    usage: "[options]",
    help: "Check the memory usage of holding data for different workloads on a given server endpoint.",
    flags: &[
        LOAD,
        flag(
            "prefix",
            Kind::Text,
            "/etcdctl-check-datascale/",
            "The prefix for writing the datascale check's keys.",
        ),
        COMPACT,
        DEFRAG,
    ],
};

const LOAD: Flag = flag(
    "load",
    Kind::Text,
    "s",
    "The check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge). They differ in the \
     number of clients and in how much is written.",
);
const COMPACT: Flag = flag(
    "auto-compact",
    Kind::Bool,
    "false",
    "Compact storage with last revision after test is finished.",
);
const DEFRAG: Flag = flag(
    "auto-defrag",
    Kind::Bool,
    "false",
    "Defragment storage after test is finished.",
);

/// How much is written: etcdctl/ctlv3/command/check.go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    clients: usize,
    /// Writes a second of `perf`, keys of `datascale`.
    limit: u32,
}

const PERF_LOADS: [Load; 4] = loads([(50, 150), (200, 1000), (500, 8000), (1000, 15_000)]);
const DATASCALE_LOADS: [Load; 4] = loads([(50, 10_000), (200, 100_000), (500, 1_000_000), (1000, 3_000_000)]);
const PERF_SECONDS: u32 = 60;
/// How long taking the keys away may take, and a compaction.
const CLEANUP_MAX: Duration = Duration::from_secs(30);
/// More than this share of the rate must be reached.
const RATE_SHARE_MIN: f64 = 0.9;
const SLOWEST_MAX: f64 = 0.5;
const STDDEV_MAX: f64 = 0.1;

const fn loads(of: [(usize, u32); 4]) -> [Load; 4] {
    let mut loads = [Load { clients: 0, limit: 0 }; 4];
    let mut at = 0;
    while at < 4 {
        loads[at] = Load {
            clients: of[at].0,
            limit: of[at].1,
        };
        at += 1;
    }
    loads
}

fn load(name: &str, loads: &[Load; 4]) -> Result<Load, Failure> {
    let at = match name {
        "s" | "small" => 0,
        "m" | "medium" => 1,
        "l" | "large" => 2,
        "xl" | "xLarge" => 3,
        _ => {
            return Err(Failure::new(
                EXIT_BAD_FEATURE,
                format!("unknown load option {name}"),
            ));
        }
    };
    Ok(loads[at])
}

/// What came of the writes.
#[derive(Debug, Default)]
struct Outcome {
    /// Seconds of each that was answered.
    took: Vec<f64>,
    errors: BTreeMap<String, usize>,
}

impl Outcome {
    fn take(&mut self, took: Duration, result: Result<Bytes, Status>) {
        match result {
            Ok(_) => self.took.push(took.as_secs_f64()),
            Err(status) => *self.errors.entry(Failure::from(status).text).or_default() += 1,
        }
    }

    fn slowest(&self) -> f64 {
        self.took.iter().copied().fold(0.0, f64::max)
    }

    fn stddev(&self) -> f64 {
        let count = self.took.len() as f64;
        let average = self.took.iter().sum::<f64>() / count;
        let deviations = self.took.iter().map(|took| (took - average).powi(2));
        (deviations.sum::<f64>() / count).sqrt()
    }

    fn say_errors(&self) {
        say!("FAIL: too many errors");
        for (error, count) in &self.errors {
            say!("FAIL: ERROR({error}) -> {count}");
        }
    }
}

/// A key of its own for each write: a random number at the start of so many zeros.
fn random_key(prefix: &str, length: usize) -> Bytes {
    let mut key = Vec::with_capacity(prefix.len() + length);
    key.extend_from_slice(prefix.as_bytes());
    // As a varint, so that the first bytes differ.
    prost::encoding::encode_varint(fastrand::u64(..) >> 1, &mut key);
    key.resize(prefix.len() + length, 0);
    key.into()
}

/// The clients of a check, and what they write.
struct Run {
    clients: Vec<Rc<Client>>,
    prefix: String,
    value: Bytes,
    key_bytes: usize,
}

impl Run {
    /// Connects all, and makes sure that nobody's keys are in the way.
    async fn begin(context: &Context, load: Load, delete: &str) -> Result<Run, Failure> {
        let prefix = context.parsed.text("prefix").to_string();
        let mut clients = Vec::with_capacity(load.clients);
        for _ in 0..load.clients {
            clients.push(Rc::new(context.connect().await?));
        }
        let request = pb::RangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix.as_bytes()).into(),
            limit: 1,
            ..Default::default()
        };
        let answer = clients[0].unary("/etcdserverpb.KV/Range", &request).await?;
        let found: pb::RangeResponse = decode(&answer)?;
        if !found.kvs.is_empty() {
            return Err(Failure::new(
                EXIT_INVALID_INPUT,
                format!(
                    "prefix {} has keys. Delete with {delete} first",
                    quote(prefix.as_bytes())
                ),
            ));
        }
        Ok(Run {
            clients,
            prefix,
            value: Bytes::new(),
            key_bytes: 0,
        })
    }

    /// Every client writes what it gets, until there is no more; `step` is called after each.
    async fn write(
        &self,
        feed: impl Future<Output = ()>,
        requests: mpsc::Receiver<pb::PutRequest>,
        step: impl Fn() + 'static,
    ) -> Outcome {
        let (requests, step) = (Rc::new(Mutex::new(requests)), Rc::new(step));
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        let workers = LocalSet::new();
        for client in &self.clients {
            let (client, requests) = (client.clone(), requests.clone());
            let (outcome, step) = (outcome.clone(), step.clone());
            workers.spawn_local(async move {
                loop {
                    let next = requests.lock().await.recv().await;
                    let Some(put) = next else { return };
                    let start = Instant::now();
                    let result = client.unary("/etcdserverpb.KV/Put", &put).await;
                    outcome.borrow_mut().take(start.elapsed(), result);
                    step();
                }
            });
        }
        workers.run_until(feed).await;
        // Without more to write they come to their end.
        workers.await;
        outcome.take()
    }

    fn put(&self) -> pb::PutRequest {
        pb::PutRequest {
            key: random_key(&self.prefix, self.key_bytes),
            value: self.value.clone(),
            ..Default::default()
        }
    }

    /// Takes the keys away; the revision then.
    async fn clean_up(&self) -> Result<i64, Failure> {
        let request = pb::DeleteRangeRequest {
            key: Bytes::copy_from_slice(self.prefix.as_bytes()),
            range_end: prefix_end(self.prefix.as_bytes()).into(),
            ..Default::default()
        };
        super::within(CLEANUP_MAX, async {
            let answer = self.clients[0]
                .unary("/etcdserverpb.KV/DeleteRange", &request)
                .await?;
            let deleted: pb::DeleteRangeResponse = decode(&answer)?;
            Ok(deleted.header.unwrap_or_default().revision)
        })
        .await
    }

    /// `--auto-compact` and `--auto-defrag`.
    async fn shrink(&self, context: &Context, revision: Option<i64>) -> Result<(), Failure> {
        if let Some(revision) = revision.filter(|_| context.parsed.is("auto-compact")) {
            say!("Compacting with revision {revision}");
            let request = pb::CompactionRequest {
                revision,
                physical: true,
            };
            super::within(CLEANUP_MAX, async {
                Ok(self.clients[0]
                    .unary("/etcdserverpb.KV/Compact", &request)
                    .await?)
            })
            .await?;
            say!("Compacted with revision {revision}");
        }
        if context.parsed.is("auto-defrag") {
            for endpoint in context.endpoints() {
                let shown = quote(endpoint.as_bytes());
                say!("Defragmenting {shown}");
                let client = context.connect_to(vec![endpoint]).await?;
                let path = "/etcdserverpb.Maintenance/Defragment";
                super::within(CLEANUP_MAX, async {
                    Ok(client.unary(path, &pb::DefragmentRequest {}).await?)
                })
                .await?;
                say!("Defragmented {shown}");
            }
        }
        Ok(())
    }
}

/// How far it is, on a terminal.
fn progress(done: u32, of: u32) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() || done == of {
        let end = if done == of { "\n" } else { "" };
        let _ = write!(stderr, "\r{done} / {of}{end}");
    }
}

pub(super) async fn perf(context: &Context) -> Result<(), Failure> {
    let load = load(context.parsed.text("load"), &PERF_LOADS)?;
    let prefix = context.parsed.text("prefix");
    let mut run = Run::begin(context, load, &format!("'etcdctl del --prefix {prefix}'")).await?;
    (run.key_bytes, run.value) = (256, vec![0; 1024].into());
    let start = Instant::now();
    let (sender, requests) = mpsc::channel(load.clients);
    let end = start + Duration::from_secs(u64::from(PERF_SECONDS));
    let feed = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.limit);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        loop {
            let tick = ticks.tick().await;
            if tick >= end || Instant::now() >= end || sender.send(run.put()).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let shown = async {
        for second in 1..=PERF_SECONDS {
            tokio::time::sleep_until(start + Duration::from_secs(u64::from(second))).await;
            progress(second, PERF_SECONDS);
        }
    };
    let written = async {
        let outcome = run.write(feed, requests, || {}).await;
        (outcome, start.elapsed())
    };
    let signal = super::lock::signal()?;
    let ((outcome, took), ()) = tokio::select! {
        done = async { tokio::join!(written, shown) } => done,
        _ = signal => {
            run.clean_up().await?;
            return Err(Failure::new(EXIT_ERROR, "interrupted; the keys of the check are deleted"));
        }
    };
    let revision = match run.clean_up().await {
        Ok(revision) => Some(revision),
        Err(failure) => {
            say!(
                "FAIL: Cleanup failed during key deletion: ERROR({})",
                failure.text
            );
            None
        }
    };
    run.shrink(context, revision).await?;
    judge(&outcome, took, load.limit)
}

/// Says what passed and what did not.
fn judge(outcome: &Outcome, took: Duration, limit: u32) -> Result<(), Failure> {
    let mut good = outcome.errors.is_empty();
    if !good {
        outcome.say_errors();
    }
    let rate = outcome.took.len() as f64 / took.as_secs_f64();
    if rate / f64::from(limit) <= RATE_SHARE_MIN {
        say!("FAIL: Throughput too low: {} writes/s", rate as u64 + 1);
        good = false;
    } else {
        say!("PASS: Throughput is {} writes/s", rate as u64 + 1);
    }
    let slowest = outcome.slowest();
    if slowest > SLOWEST_MAX {
        say!("Slowest request took too long: {slowest:.6}s");
        good = false;
    } else {
        say!("PASS: Slowest request took {slowest:.6}s");
    }
    let stddev = outcome.stddev();
    if stddev > STDDEV_MAX {
        say!("Stddev too high: {stddev:.6}s");
        good = false;
    } else {
        say!("PASS: Stddev is {stddev:.6}s");
    }
    match good {
        true => {
            say!("PASS");
            Ok(())
        }
        false => {
            say!("FAIL");
            Err(Failure::new(EXIT_ERROR, ""))
        }
    }
}

pub(super) async fn datascale(context: &Context) -> Result<(), Failure> {
    let load = load(context.parsed.text("load"), &DATASCALE_LOADS)?;
    let prefix = context.parsed.text("prefix");
    let mut run = Run::begin(context, load, &format!("etcdctl del --prefix {prefix}")).await?;
    (run.key_bytes, run.value) = (512, vec![0; 512].into());
    let before = memory(context, "before").await?;
    say!(
        "Start data scale check for work load [{} key-value pairs, {} bytes per key-value, {} concurrent clients].",
        load.limit,
        run.key_bytes + run.value.len(),
        load.clients
    );
    let (sender, requests) = mpsc::channel(load.clients);
    let feed = async {
        for _ in 0..load.limit {
            if sender.send(run.put()).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let written = Cell::new(0u32);
    let step = move || {
        written.set(written.get() + 1);
        if written.get().is_multiple_of(1000) || written.get() == load.limit {
            progress(written.get(), load.limit);
        }
    };
    let outcome = run.write(feed, requests, step).await;
    let after = memory(context, "after").await?;
    let revision = run.clean_up().await?;
    run.shrink(context, Some(revision)).await?;
    if !outcome.errors.is_empty() {
        outcome.say_errors();
        return Err(Failure::new(EXIT_ERROR, ""));
    }
    say!(
        "PASS: Approximate system memory used : {:.2} MB.",
        (after - before) / (1 << 20) as f64
    );
    Ok(())
}

/// Bytes of memory that the first member has, by its page of metrics.
async fn memory(context: &Context, when: &str) -> Result<f64, Failure> {
    const NAME: &str = "process_resident_memory_bytes";
    let endpoint = context.endpoints().into_iter().next().unwrap_or_default();
    let config = context.config(vec![endpoint]);
    let found = match super::within(context.timeout(), fetch::get(&config, "/metrics")).await {
        Ok(page) => page
            .lines()
            .find_map(|line| line.strip_prefix(NAME)?.trim().parse().ok()),
        Err(failure) => {
            say!("fetch error: {}", failure.text);
            None
        }
    };
    found.ok_or_else(|| {
        say!("FAIL: Could not read process_resident_memory_bytes {when} the put operations.");
        Failure::new(EXIT_ERROR, "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_have_names() {
        let of = |name| load(name, &PERF_LOADS);
        assert_eq!(of("s"), of("small"));
        assert_eq!(
            of("xLarge"),
            Ok(Load {
                clients: 1000,
                limit: 15_000
            })
        );
        assert_eq!(
            of("huge"),
            Err(Failure::new(EXIT_BAD_FEATURE, "unknown load option huge"))
        );
    }

    #[test]
    fn keys_are_as_long_as_they_should_be_and_differ() {
        let (one, other) = (random_key("p/", 256), random_key("p/", 256));
        assert_eq!((one.len(), &one[..2]), (258, &b"p/"[..]));
        assert_ne!(one, other);
    }

    #[test]
    fn what_is_slow_or_fails_does_not_pass() {
        let outcome = |took: &[f64]| Outcome {
            took: took.to_vec(),
            ..Default::default()
        };
        let second = Duration::from_secs(1);
        assert_eq!(judge(&outcome(&[0.1; 10]), second, 10), Ok(()));
        assert!(judge(&outcome(&[0.1; 9]), second, 10).is_err());
        assert!(judge(&outcome(&[0.6; 10]), second, 10).is_err());
        assert!(judge(&outcome(&[0.0, 0.4, 0.0, 0.4]), second, 4).is_err());
        let mut failed = outcome(&[0.1; 10]);
        failed.errors.insert("no".into(), 1);
        assert!(judge(&failed, second, 10).is_err());
    }
}
