//! Linearizable reads: which index they wait for, and when it is reached.
//!
//! While this member alone is the cluster, the commit index is there to be read and most reads are
//! served at once. Otherwise all reads that gather while one question to the leader is under
//! way share the next one. A question never carries an ID twice, so a late answer to an
//! earlier one cannot be taken for its own (etcd issue 20418).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb::{DowngradeRequest, RangeRequest, TxnRequest};
use api::version::Line;
use bytes::Bytes;
use mvcc::{View, Wait};

use super::jobs::{Job, Work};
use super::read::Failure;
use super::{AskDecide, Context, Frontend, Outcome, Output, Token, Waiting, Wants, read};

/// How long a question to the leader waits for its answer before it is asked again
/// (etcd: read.go readIndexRetryTime).
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What looks at more keys than this is read on a pool thread, so that those behind it need not wait.
const INLINE_KEYS_MAX: usize = 10_000;

/// A read that waits.
#[derive(Debug)]
pub(super) enum Read {
    Range(Box<RangeRequest>),
    Txn(Box<TxnRequest>),
    Members,
    Downgrade(DowngradeRequest),
    /// The first chunk of a range stream; the stream has the rest.
    RangeStream,
    /// Whether a downgrade is under way, for another member.
    DowngradeForPeer,
    /// Authenticate, which answers that authentication is off.
    Authenticate,
}

/// What became of a read.
enum Served {
    Done(Result<Bytes, Status>),
    /// It went to the pool, or became a proposal.
    Later,
}

/// Which reads wait for what.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// For the next question.
    gathering: BTreeSet<u64>,
    asked: Option<Asked>,
    /// For an index to be applied: index and request.
    unapplied: BTreeSet<(u64, u64)>,
    /// The index of each of those. Looked up, never walked.
    index_of: HashMap<u64, u64>,
}

#[derive(Debug)]
struct Asked {
    /// The IDs of the question, first to last.
    ids: Vec<u64>,
    reads: BTreeSet<u64>,
    retry_at: Instant,
}

impl Reads {
    pub(super) fn wait_for_index(&self) -> bool {
        !self.unapplied.is_empty()
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.retry_at)
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.gathering.remove(&id);
        if let Some(asked) = &mut self.asked {
            asked.reads.remove(&id);
        }
        if let Some(index) = self.index_of.remove(&id) {
            self.unapplied.remove(&(index, id));
        }
    }
}

impl Frontend {
    /// Serves a read from what this member has now.
    pub(super) fn read_now(&mut self, token: Token, read: Read, context: &Context, now: Instant) -> Outcome {
        let view = self.views.load();
        if !matches!(read, Read::DowngradeForPeer)
            && let Err(status) = Frontend::check_view(&view)
        {
            return Outcome::Done(Err(status));
        }
        match self.inline(&read, &view) {
            Some(result) => Outcome::Done(result),
            None => {
                let id = self.wait(token, Wants::Read(read), now, Frontend::client_deadline(context));
                match self.serve(id, &view) {
                    Served::Done(result) => {
                        self.forget(id);
                        Outcome::Done(result)
                    }
                    Served::Later => Outcome::Pending,
                }
            }
        }
    }

    /// Serves a read when this member has all that was committed when it came.
    pub(super) fn read_linearizable(
        &mut self,
        token: Token,
        read: Read,
        context: &Context,
        now: Instant,
    ) -> Outcome {
        if self.stopped {
            return Outcome::Done(Err(error::STOPPED));
        }
        let index = self.shared.pulse.read_index();
        if index.is_some_and(|index| self.views.peek().applied_index >= index) {
            return self.read_now(token, read, context, now);
        }
        let deadline = match context.deadline {
            Some(at) if at <= now + self.config.request_timeout => Frontend::client_deadline(context),
            _ => Some((now + self.config.request_timeout, error::TIMEOUT)),
        };
        let id = self.wait(token, Wants::Read(read), now, deadline);
        match index {
            Some(index) => self.wait_for_index(BTreeSet::from([id]), index),
            None => {
                self.reads.gathering.insert(id);
                self.ask_read_index(now);
            }
        }
        Outcome::Pending
    }

    /// Reads that need neither the pool nor a place among those that wait.
    fn inline(&mut self, read: &Read, view: &Arc<View>) -> Option<Result<Bytes, Status>> {
        let (header, line) = (self.header(), self.config.line);
        if is_large(view, read, line) {
            return None;
        }
        let result = match read {
            Read::Range(request) => read::range(view, request, header, line, Wait::No),
            Read::Txn(request) => read::txn(view, request, header, line, Wait::No),
            _ => return None,
        };
        match result {
            Err(Failure::Store(mvcc::Error::WouldBlock)) => None,
            result => {
                self.tally_read(read);
                Some(self.client_result(result))
            }
        }
    }

    /// Counts as etcd does: each compare of a transaction is a range.
    fn tally_read(&self, read: &Read) {
        let tallies = self.tallies();
        let ranges = match read {
            Read::Range(_) => 1,
            Read::Txn(request) => {
                let ops = request.success.len().max(request.failure.len());
                (request.compare.len() + ops) as u64
            }
            _ => return,
        };
        tallies.ranges.add(ranges);
        tallies.txns.add(u64::from(ranges > 1));
    }

    fn wait_for_index(&mut self, reads: BTreeSet<u64>, index: u64) {
        for id in reads {
            self.reads.unapplied.insert((index, id));
            self.reads.index_of.insert(id, index);
        }
        self.want_views();
        let view = self.views.load();
        self.serve_applied(&view);
    }

    /// Serves the reads whose index is applied in `view`.
    pub(super) fn serve_applied(&mut self, view: &Arc<View>) {
        while let Some((index, id)) = self.reads.unapplied.first().copied() {
            if index > view.applied_index {
                return;
            }
            self.reads.unapplied.pop_first();
            self.reads.index_of.remove(&id);
            if let Served::Done(result) = self.serve(id, view) {
                self.finish(id, result);
            }
        }
    }

    /// Reads for one that waits.
    fn serve(&mut self, id: u64, view: &Arc<View>) -> Served {
        let Some(Waiting {
            what: Wants::Read(read),
            caller,
            ..
        }) = self.waiting.get_mut(&id)
        else {
            return Served::Later;
        };
        let token = *caller;
        let read = match read {
            // What stays behind says whose question it was.
            Read::DowngradeForPeer => Read::DowngradeForPeer,
            read => std::mem::replace(read, Read::Members),
        };
        // It may have been let in before authentication was enabled.
        if !matches!(read, Read::DowngradeForPeer)
            && let Err(status) = self.check_auth()
        {
            return Served::Done(Err(status));
        }
        if let Some(result) = self.inline(&read, view) {
            return Served::Done(result);
        }
        self.tally_read(&read);
        let (header, line, view) = (self.header(), self.config.line, Arc::clone(view));
        let work = match read {
            Read::Range(request) => Work::Range {
                id,
                request,
                view,
                header,
                line,
            },
            Read::Txn(request) => Work::Txn {
                id,
                request,
                view,
                header,
                line,
            },
            Read::Members => return Served::Done(Ok(self.members())),
            Read::Downgrade(request) => return self.downgrade_now(id, &request, &view),
            Read::DowngradeForPeer => return Served::Done(Ok(self.is_downgrading())),
            Read::Authenticate => return Served::Done(Err(error::AUTH_NOT_ENABLED)),
            Read::RangeStream => {
                self.forget(id);
                self.range_stream_may_read(token);
                return Served::Later;
            }
        };
        self.outputs.push_back(Output::Job(Job(work)));
        Served::Later
    }

    fn downgrade_now(&mut self, id: u64, request: &DowngradeRequest, view: &View) -> Served {
        match self.downgrade_checked(request) {
            Ok(Some(proposal)) => {
                if let Some(waiting) = self.waiting.get_mut(&id) {
                    waiting.what = Wants::Done;
                }
                self.propose_downgrade(id, &proposal);
                Served::Later
            }
            Ok(None) => {
                let cluster = self.shared.facts().cluster_version;
                Served::Done(Ok(self.downgrade_answer(cluster, view.revision)))
            }
            Err(status) => Served::Done(Err(status)),
        }
    }

    /// Asks for the reads that have gathered, unless a question is under way.
    fn ask_read_index(&mut self, now: Instant) {
        if self.reads.asked.is_some() || self.reads.gathering.is_empty() {
            return;
        }
        let id = self.ids.next_id();
        self.reads.asked = Some(Asked {
            ids: vec![id],
            reads: std::mem::take(&mut self.reads.gathering),
            retry_at: now + RETRY_AFTER,
        });
        self.to_decide.push(AskDecide::ReadIndex { id });
    }

    /// Asks the present question again, under a new ID. If this member came to be alone, it need
    /// not ask.
    pub(super) fn ask_read_index_again(&mut self, now: Instant) {
        if let Some(index) = self.shared.pulse.read_index() {
            let mut reads = std::mem::take(&mut self.reads.gathering);
            if let Some(asked) = self.reads.asked.take() {
                reads.extend(asked.reads);
            }
            if !reads.is_empty() {
                self.wait_for_index(reads, index);
            }
            return;
        }
        if let Some(asked) = &mut self.reads.asked {
            let id = self.ids.next_id();
            asked.ids.push(id);
            asked.retry_at = now + RETRY_AFTER;
            self.to_decide.push(AskDecide::ReadIndex { id });
        }
    }

    pub(super) fn retry_read_index(&mut self, now: Instant) {
        let Some(asked) = &self.reads.asked else {
            return;
        };
        if asked.reads.is_empty() {
            // All who waited have given up.
            self.tallies().read_indexes_failed.add(1);
            self.reads.asked = None;
            self.ask_read_index(now);
        } else if asked.retry_at <= now {
            self.tallies().read_indexes_slow.add(1);
            self.ask_read_index_again(now);
        }
    }

    pub(super) fn read_index_known(&mut self, id: u64, index: u64, now: Instant) {
        // An answer to an earlier question would be too old for reads that came after it.
        if !self
            .reads
            .asked
            .as_ref()
            .is_some_and(|asked| asked.ids.contains(&id))
        {
            return;
        }
        if let Some(asked) = self.reads.asked.take() {
            self.wait_for_index(asked.reads, index);
        }
        self.ask_read_index(now);
    }
}

/// Whether a read would hold up those behind it for long.
fn is_large(view: &View, read: &Read, line: Line) -> bool {
    let mut left = INLINE_KEYS_MAX + 1;
    match read {
        Read::Range(request) => left -= range_cost(view, request, line, left),
        Read::Txn(request) => {
            for compare in &request.compare {
                left -= view.reader().visit_cost(&compare.key, &compare.range_end, left);
            }
            // Which branch it will be is not known before all is compared.
            for range in read::ranges(&request.success).chain(read::ranges(&request.failure)) {
                left -= range_cost(view, range, line, left);
            }
        }
        _ => {}
    }
    left == 0
}

/// How many keys a range makes its reader look at, counted up to `keys_max`.
fn range_cost(view: &View, request: &RangeRequest, line: Line, keys_max: usize) -> usize {
    let reader = view.reader();
    let (key, end) = (&request.key[..], &request.range_end[..]);
    let Ok(at) = reader.check_revision(request.revision) else {
        return 0;
    };
    if end.is_empty() {
        return 1.min(keys_max);
    }
    let options = read::options(request, line);
    let counted = reader.count_cost(key, end, at, keys_max);
    if request.count_only {
        return counted;
    }
    let visited_max = match usize::try_from(request.limit) {
        Ok(limit @ 1..) if options.is_default_order() && !options.has_filters() => limit,
        _ => usize::MAX,
    };
    counted + reader.visit_cost(key, end, visited_max.min(keys_max - counted))
}
