//! The state as a whole on its way between members: packed by the leader, put in place by the one
//! that was too far behind. Never touches a socket.

use std::sync::Arc;

use api::clock::Instant;
use api::raftpb;
use bytes::Bytes;
use disk::Disk;
use mvcc::{Store, ViewSource};
use state::Machine;
use wal::snapfile;

use super::file::Waiting;
use super::{Apply, Broken, Found, JobDone};
use crate::apply::VersionWindow;
use crate::config::Config;
use crate::lessor::Lessor;
use crate::log::{LogLine, human_bytes};
use crate::message::{ToApply, ToDecide, ToFront};
use crate::peer::{Parcel, ToPeer};
use crate::router::{Job, JobKind, Router};
use crate::shared::Facts;

/// A snapshot for another member, from the wish to the commit that makes the data file as new as it.
pub(super) struct Packing {
    message: Box<raft::Message>,
}

impl Packing {
    pub(super) fn to(&self) -> u64 {
        self.message.to
    }

    /// Exactly what is applied when the commit is taken: the machine moves on while it is on its way.
    pub(super) fn fill(&mut self, (index, term): (u64, u64), conf_state: &raftpb::ConfState, data: &Bytes) {
        self.message.snapshot = Some(raft::Snapshot {
            index,
            term,
            conf_state: raft::ConfState {
                voters: conf_state.voters.clone(),
                learners: conf_state.learners.clone(),
                ..raft::ConfState::default()
            },
            data: data.clone(),
        });
    }
}

/// How far the installation of the leader's state is.
pub(super) enum Installing {
    No,
    /// What is on its way to the present data file, or reads it, comes first.
    Waiting(Box<raft::Snapshot>),
    /// The new store is being read.
    Opening {
        snapshot: Box<raft::Snapshot>,
        /// A still newer state has come meanwhile: it begins when this one is open, and in its place.
        next: Option<Box<raft::Snapshot>>,
    },
}

impl Apply {
    pub(super) fn send_snapshot(&mut self, message: Box<raft::Message>, router: &dyn Router) {
        if self.stopping {
            return router.to_decide(ToDecide::SnapshotSent {
                id: message.to,
                arrived: false,
            });
        }
        self.file.wait(Waiting::Send(Box::new(Packing { message })));
    }

    /// The data file holds what the message says.
    pub(super) fn packed(&mut self, packing: Packing, router: &dyn Router) {
        let message = *packing.message;
        let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let db = self.machine.store().db().snapshot();
        router.log(
            LogLine::info("sending merged snapshot")
                .with("from", format!("{:x}", self.shared.member_id))
                .with("to", format!("{:x}", message.to))
                .with("bytes", db.size())
                .with("size", human_bytes(db.size()))
                .with("snapshot-index", index),
        );
        router.to_peer(ToPeer::Snapshot(Box::new(Parcel { message, db })));
    }

    pub(super) fn install(&mut self, snapshot: Box<raft::Snapshot>, router: &dyn Router) {
        // A start finds the mark, and the file beside it.
        if self.stopping {
            return;
        }
        router.log(
            LogLine::info("applying snapshot")
                .with("current-applied-index", self.machine.store().consistent().0)
                .with("incoming-leader-snapshot-index", snapshot.index)
                .with("incoming-leader-snapshot-term", snapshot.term),
        );
        self.shared.tallies.snapshots_applied_now.set(1);
        self.installing = match std::mem::replace(&mut self.installing, Installing::No) {
            // One at a time: two would put their files in place in any order.
            Installing::Opening { snapshot: older, .. } => Installing::Opening {
                snapshot: older,
                next: Some(snapshot),
            },
            Installing::No | Installing::Waiting(_) => Installing::Waiting(snapshot),
        };
        self.file.freeze(true);
        self.step_install(router);
    }

    /// Begins when nothing is on its way to the old file any more.
    pub(super) fn step_install(&mut self, router: &dyn Router) {
        let busy =
            self.machine.store().is_committing() || self.defrag.is_copying() || self.compaction.is_scanning();
        if busy || !matches!(self.installing, Installing::Waiting(_)) {
            return;
        }
        if let Installing::Waiting(snapshot) = std::mem::replace(&mut self.installing, Installing::No) {
            self.open_received(snapshot, None, router);
        }
    }

    /// Has the received file opened. `overtaken` is one that was opened before and is not to be used.
    fn open_received(
        &mut self,
        snapshot: Box<raft::Snapshot>,
        overtaken: Option<Box<Machine>>,
        router: &dyn Router,
    ) {
        let (disk, config) = (self.disk.clone(), self.config.clone());
        let (views, options) = (self.views.clone(), self.machine.options().clone());
        let index = snapshot.index;
        router.job(Job::new(JobKind::Install, move |router: &dyn Router| {
            let machine = take_place(&disk, &config, &views, options, index, overtaken).map(Box::new);
            router.to_apply(ToApply::JobDone(JobDone(Found::Installed(machine))));
        }));
        self.installing = Installing::Opening { snapshot, next: None };
    }

    pub(super) fn installed(
        &mut self,
        machine: Result<Box<Machine>, crate::Error>,
        now: Instant,
        router: &dyn Router,
    ) -> Result<(), Broken> {
        let Installing::Opening { snapshot, next } = std::mem::replace(&mut self.installing, Installing::No)
        else {
            return Ok(());
        };
        let mut machine = machine.map_err(|error| Broken {
            what: "snapshot of the leader".to_owned(),
            reason: error.to_string(),
        })?;
        // Entries are applied from the next one on: one that is missing would never be noticed (etcd: server.go,
        // verifySnapshotIndex).
        let index = machine.store().consistent().0;
        if index != snapshot.index {
            return Err(Broken {
                what: self.config.db_path().display().to_string(),
                reason: format!(
                    "the data file that the leader sent is at index {index}, and should be at {}",
                    snapshot.index
                ),
            });
        }
        if let Some(next) = next {
            router.log(
                LogLine::info("a newer snapshot has come; it is applied in the place of the one before")
                    .with("overtaken-snapshot-index", snapshot.index)
                    .with("incoming-leader-snapshot-index", next.index),
            );
            self.open_received(next, Some(machine), router);
            return Ok(());
        }
        self.machine = *machine;
        crate::open::mend_received(&mut self.machine, &snapshot, router);
        let db = self.machine.store().db().clone();
        router.log(
            LogLine::info("applySnapshot: opened snapshot backend")
                .with("consistent-index", self.machine.store().consistent().0),
        );
        let leases = self.machine.leases().iter();
        let leases = leases.map(|(id, lease)| (id, lease.ttl, lease.remaining));
        self.lessor = Lessor::new(super::lessor_config(&self.config), leases);
        self.compaction.scheduled(0, now);
        self.window = VersionWindow::default();
        self.storage_version = crate::open::storage_version(&db, &self.config).map_err(|error| Broken {
            what: "data file".to_owned(),
            reason: error.to_string(),
        })?;
        router.job(crate::open::find_free_pages(db, self.shared.clone()));
        self.file.replaced(snapshot.index, router);
        // What waits for a batch of the old file has it in the new one.
        self.release_held(|_| true, now, router);
        self.facts_changed = false;
        self.out_of_space = super::out_of_space(&self.machine, self.shared.member_id);
        self.auth_changed(router);
        self.unpublished = 0;
        self.shared
            .set_facts(Facts::of(&self.machine, self.storage_version));
        let published = self.machine.publish();
        self.shared.set_applied(snapshot.index);
        for front in 0..self.shared.fronts {
            let view = published.view.clone();
            router.to_front(front, ToFront::Replaced { view });
        }
        router.log(
            LogLine::info("applied snapshot")
                .with("current-snapshot-index", snapshot.index)
                .with("current-applied-index", self.machine.store().consistent().0)
                .with("incoming-leader-snapshot-index", snapshot.index)
                .with("incoming-leader-snapshot-term", snapshot.term),
        );
        router.to_decide(ToDecide::Installed {
            index: snapshot.index,
        });
        router.to_persist(crate::ToPersist::Installed {
            index: snapshot.index,
        });
        self.shared.tallies.snapshots_applied_now.set(0);
        self.monitor_at = now;
        Ok(())
    }
}

/// Puts the received data file in the place of the old one, which lives on as long as somebody reads it,
/// and reads it.
fn take_place(
    disk: &Arc<dyn Disk>,
    config: &Config,
    views: &ViewSource,
    options: state::Options,
    index: u64,
    overtaken: Option<Box<Machine>>,
) -> Result<Machine, crate::Error> {
    let received = snapfile::db_path(&config.snap_dir(), index);
    let path = config.db_path();
    let damaged = |error: &dyn std::fmt::Display| crate::Error::damaged(&received, error);
    // Locked under its own name first: at no moment is the directory anybody else's.
    let db =
        bbolt::Db::open(disk, &received, crate::open::db_options(config)).map_err(|error| damaged(&error))?;
    disk.rename(&received, &path)
        .and_then(|()| disk::sync_parent(&**disk, &path))
        .map_err(|error| crate::Error::io(&path, error))?;
    // It held the directory until here. Its memory is needed for the next one.
    drop(overtaken);
    let store =
        Store::succeed(db, crate::open::store_options(config), views).map_err(|error| damaged(&error))?;
    Machine::restore(store, options).map_err(|error| damaged(&error))
}
