//! The member's seam, made of queues. No method runs a stage: who called the stage settles later.

use member::{
    Fatal, Job, JobKind, Level as MemberLevel, LogLine, LogValue, Measure, Router, ToApply, ToCommitter,
    ToDecide, ToFront, ToPeer, ToPersist,
};

use super::{Driver, Event, FromMember};
use crate::config::Span;
use crate::log::{Level, Log};
use crate::peers::asks;

impl member::Log for Driver {
    fn log(&self, line: LogLine) {
        self.log.log(line);
    }
}

impl member::Log for Log {
    fn log(&self, line: LogLine) {
        let level = match line.level {
            MemberLevel::Debug => Level::Debug,
            MemberLevel::Info => Level::Info,
            MemberLevel::Warn => Level::Warn,
            MemberLevel::Error => Level::Error,
            MemberLevel::Fatal => Level::Fatal,
        };
        let mut out = self.line_from(level, &line.msg, line.caller);
        for (name, value) in line.fields {
            out = match value {
                LogValue::Text(text) => out.text(name, text),
                LogValue::Int(number) => out.num(name, number),
                LogValue::Uint(number) => out.num(name, number),
                LogValue::Bool(value) => out.flag(name, value),
                LogValue::List(list) => out.list(name, list),
                LogValue::Span(span) => {
                    out.show(name, Span(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
                }
            };
        }
        out.emit();
    }
}

impl Router for Driver {
    fn to_decide(&self, message: ToDecide) {
        self.decide.push(message, true);
    }

    fn to_persist(&self, message: ToPersist) {
        let urgent = match &message {
            ToPersist::Save(batch) => batch.is_urgent(),
            ToPersist::Snapshot(_)
            | ToPersist::Installed { .. }
            | ToPersist::Spare(_)
            | ToPersist::Stopping { .. }
            | ToPersist::Stop => true,
        };
        self.persist.push(message, urgent);
    }

    fn to_apply(&self, message: ToApply) {
        self.apply.push(message, true);
    }

    fn to_committer(&self, message: ToCommitter) {
        self.committer.push(message, true);
    }

    fn to_front(&self, front: usize, message: ToFront) {
        if let Some(inbox) = self.fronts.get(front) {
            inbox.put(FromMember::Stage(message));
        }
    }

    fn to_peer(&self, message: ToPeer) {
        match (message, self.transport.get()) {
            (ToPeer::Message(message), Some(transport)) => transport.send(message),
            (ToPeer::Snapshot(parcel), Some(transport)) => transport.ship(parcel),
            (ToPeer::Message(message), None) => self.to_decide(ToDecide::Unreachable { id: message.to }),
            (ToPeer::Snapshot(parcel), None) => self.to_decide(ToDecide::SnapshotSent {
                id: parcel.message.to,
                arrived: false,
            }),
            (ToPeer::Ask { to, id, question }, _) => {
                if let Some(driver) = self.myself.upgrade() {
                    asks::ask_leader(&driver, to, id, question, self.patience);
                }
            }
            (ToPeer::AskHash { to, revision }, _) => {
                if let Some(driver) = self.myself.upgrade() {
                    asks::ask_hash(&driver, self.shared.cluster_id, to, revision, self.patience);
                }
            }
        }
    }

    fn job(&self, job: Job) {
        let pool = match job.kind {
            JobKind::Read | JobKind::Fetch | JobKind::Spare => &self.reads,
            JobKind::Compact
            | JobKind::Hash
            | JobKind::SnapshotStream
            | JobKind::Defragment
            | JobKind::Install
            | JobKind::Purge => &self.long,
        };
        let myself = self.myself.clone();
        pool.run(Box::new(move || {
            if let Some(driver) = myself.upgrade() {
                job.run(&*driver);
                driver.settle();
            }
        }));
    }

    fn measure(&self, measure: Measure<'_>) {
        let metrics = &self.metrics;
        let now = self.clock.now();
        metrics.stages.measure(
            measure,
            now,
            &metrics.disk,
            &self.log,
            self.warning_apply_duration,
        );
    }

    fn fatal(&self, fatal: Fatal) {
        // The receiver lives as long as the process, but for its last moments.
        let _ = self.events.send(Event::Fatal(fatal));
    }

    fn stopped(&self) {
        let _ = self.events.send(Event::Stopped);
    }
}
