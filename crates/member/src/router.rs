//! Where the stages' outputs go: the one seam between the member and what runs it.

use crate::error::Fatal;
use crate::log::Log;
use crate::measure::Measure;
use crate::message::{ToApply, ToCommitter, ToDecide, ToFront, ToPersist};
use crate::peer::ToPeer;

/// Takes the messages of all stages to their queues. A driver implements it with threads, a
/// simulator with turns. No method waits, and none may call a stage while the caller is inside one:
/// a stage is run inline only after its neighbour's `handle` has returned.
pub trait Router: Log {
    /// To the raft stage.
    fn to_decide(&self, message: ToDecide);
    /// To the log stage.
    fn to_persist(&self, message: ToPersist);
    /// To the apply stage.
    fn to_apply(&self, message: ToApply);
    /// To the thread that writes the data file.
    fn to_committer(&self, message: ToCommitter);
    /// To a front thread, counted from 0.
    fn to_front(&self, front: usize, message: ToFront);
    /// To another member. Never waits: what cannot be queued is dropped, and reported.
    fn to_peer(&self, message: ToPeer);
    /// To the pool of those that may take long.
    fn job(&self, job: Job);
    /// The member broke and has already stopped acknowledging: end the process with a failure.
    fn fatal(&self, fatal: Fatal);
    /// The orderly stop is complete: everything is on disk.
    fn stopped(&self);
    /// What a stage does at this moment, for who wants to know how long it takes.
    fn measure(&self, _measure: Measure<'_>) {}
}

/// What kind of work a job is: a driver may bound each kind by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// A read that needs pages from the disk: somebody waits for it.
    Read,
    /// A batch of a compaction.
    Compact,
    /// A hash of the store.
    Hash,
    /// A piece of a snapshot for a client.
    SnapshotStream,
    /// A copy of the data file.
    Defragment,
    /// The reading of a data file that takes the place of this member's.
    Install,
    /// A piece of the log for a member that lacks it: it waits.
    Fetch,
    /// The preallocation of a log segment.
    Spare,
    /// The removal of files that are no longer needed.
    Purge,
}

type Work = Box<dyn FnOnce(&dyn Router) + Send>;

/// Work that may wait for the disk or take long, run away from the stages.
pub struct Job {
    /// What it is.
    pub kind: JobKind,
    work: Work,
}

impl Job {
    /// A job that sends what it finds through the router.
    pub fn new(kind: JobKind, work: impl FnOnce(&dyn Router) + Send + 'static) -> Job {
        Job {
            kind,
            work: Box::new(work),
        }
    }

    /// Does the work.
    pub fn run(self, router: &dyn Router) {
        (self.work)(router);
    }
}
