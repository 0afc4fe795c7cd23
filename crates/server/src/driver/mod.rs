//! Threads and queues around the stages of a member. Knows nothing of clients or sockets.
//!
//! ```text
//!  front thread ──Ask──▶ decide (run by whoever brings it work: it never waits)
//!                          │ wake-up
//!                          ▼
//!                     a worker: persist (one sync a batch) ─▶ decide ─▶ apply ── wake-up ──▶ front thread
//! ```
//!
//! The worker that has synced goes on with what follows as long as nobody waits for the next
//! sync; else another worker takes it over. So a lone write costs two wake-ups, and under load
//! every stage has a thread and each hop carries a batch.

mod clock;
mod inbox;
mod peer_room;
mod pool;
mod router;
mod sleepers;
mod stage;
mod timer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use member::frontend::{AskApply, AskDecide};
use member::{
    Apply, Committer, Decide, Facts, Fatal, Opened, Persist, Shared, ToApply, ToCommitter, ToDecide,
    ToPersist,
};

pub use clock::{Clock, unix_ms};
pub use inbox::{FromMember, Inbox};
use peer_room::PeerRoom;
pub use pool::Pool;
use sleepers::Sleepers;
use stage::Stage;
pub use stage::lock;

use crate::log::Log;
use crate::metrics::Metrics;
use transport::Transport;

/// One worker for each stage that may wait: persist, apply, committer.
const WORKERS: usize = 3;
/// Threads for reads that need the disk.
pub const READ_THREADS: usize = 4;
/// Threads for work that takes long: compaction, hashes, snapshots, defragmentation.
pub const LONG_THREADS: usize = 3;

/// What the thread that started the server waits for.
#[derive(Debug)]
pub enum Event {
    /// A signal came.
    Signal(i32),
    /// The member has stopped in order; everything is on disk.
    Stopped,
    /// The member broke.
    Fatal(Fatal),
    /// A front thread has finished what was in flight.
    Drained,
    /// The member is ready for clients.
    Ready,
}

/// A running member.
pub struct Driver {
    decide: Stage<Decide, ToDecide>,
    persist: Stage<Persist, ToPersist>,
    apply: Stage<Apply, ToApply>,
    committer: Stage<Committer, ToCommitter>,
    workers: Sleepers,
    reads: Pool,
    long: Pool,
    fronts: Vec<Arc<Inbox>>,
    clock: Clock,
    log: Log,
    metrics: Arc<Metrics>,
    warning_apply_duration: std::time::Duration,
    /// How long another member may take to answer a question.
    patience: std::time::Duration,
    events: Sender<Event>,
    /// When apply wants to run next.
    apply_wake: timer::Alarm,
    /// When persist wants to run next.
    persist_wake: timer::Alarm,
    /// When the timer's thread wakes next, in nanoseconds of the clock.
    timer_wake: AtomicU64,
    timer: OnceLock<thread::Thread>,
    /// That the member is ready has been reported.
    announced: AtomicBool,
    /// All threads end.
    closed: AtomicBool,
    shared: Arc<Shared>,
    /// The messages of other members that wait.
    peer_room: PeerRoom,
    /// The connections to other members, once there are any.
    transport: OnceLock<Transport>,
    /// The facts by which the transport knows the members.
    told: Mutex<Option<Arc<Facts>>>,
    /// For work that outlives a call.
    myself: Weak<Driver>,
}

/// What a driver needs beside the member.
pub struct Surroundings {
    /// The clock whose times the member has seen.
    pub clock: Clock,
    /// The log.
    pub log: Log,
    /// The registry.
    pub metrics: Arc<Metrics>,
    /// `--warning-apply-duration`.
    pub warning_apply_duration: std::time::Duration,
    /// How long a request may wait for consensus.
    pub request_timeout: std::time::Duration,
    /// Threads for reads.
    pub reads: Pool,
    /// Threads for what takes long.
    pub long: Pool,
    /// Where the end is reported.
    pub events: Sender<Event>,
    /// `--heartbeat-interval`.
    pub tick: std::time::Duration,
}

impl Driver {
    /// Starts the threads and the member. Each front's inbox is in `inboxes` at its number.
    /// What the fronts have of `opened` must have been taken out before.
    pub fn start(
        mut opened: Opened,
        inboxes: Vec<Arc<Inbox>>,
        around: Surroundings,
    ) -> std::io::Result<Arc<Driver>> {
        let driver = Arc::new_cyclic(|myself| Driver {
            decide: Stage::vacant(),
            persist: Stage::vacant(),
            apply: Stage::vacant(),
            committer: Stage::vacant(),
            workers: Sleepers::default(),
            reads: around.reads,
            long: around.long,
            fronts: inboxes,
            clock: around.clock,
            log: around.log,
            metrics: around.metrics,
            warning_apply_duration: around.warning_apply_duration,
            patience: around.request_timeout,
            events: around.events,
            apply_wake: timer::Alarm::off(),
            persist_wake: timer::Alarm::off(),
            timer_wake: AtomicU64::new(0),
            timer: OnceLock::new(),
            announced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            shared: opened.shared.clone(),
            peer_room: PeerRoom::default(),
            transport: OnceLock::new(),
            told: Mutex::default(),
            myself: myself.clone(),
        });
        opened.start(driver.clock.now(), &*driver);
        driver.decide.install(opened.decide);
        driver.persist.install(opened.persist);
        driver.apply.install(opened.apply);
        driver.committer.install(opened.committer);
        for _ in 0..WORKERS {
            let worker = driver.clone();
            thread::Builder::new()
                .name("stage".into())
                .stack_size(state::APPLY_STACK_BYTES)
                .spawn(move || worker.work())?;
        }
        timer::start(driver.clone(), around.tick)?;
        driver.settle();
        Ok(driver)
    }

    /// From now on other members are reached.
    pub fn connect(&self, transport: Transport) {
        // There is one transport a member.
        let _ = self.transport.set(transport);
        self.tell_members();
    }

    /// The connections to other members, if there are any yet.
    pub fn transport(&self) -> Option<&Transport> {
        self.transport.get()
    }

    /// Tells the transport who is a member, if that is not as it was.
    fn tell_members(&self) {
        let Some(transport) = self.transport.get() else {
            return;
        };
        let mut told = lock(&self.told);
        let facts = self.shared.facts();
        let is_known = |told: &Arc<Facts>| Arc::ptr_eq(told, &facts) || told.members == facts.members;
        if told.as_ref().is_some_and(is_known) {
            return;
        }
        let members = facts.members.iter();
        transport.set_members(members.map(|member| (member.id, &member.peer_urls[..])));
        *told = Some(facts);
    }

    /// Begins the orderly stop; its end is `Event::Stopped`.
    pub fn stop(&self) {
        self.decide.push(ToDecide::Stop, true);
        let until = self.clock.now() + self.patience;
        self.persist.push(ToPersist::Stopping { until }, true);
        self.settle();
    }

    /// Ends the threads and lets go of the member's files. After `Event::Stopped`.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(transport) = self.transport.get() {
            transport.stop();
        }
        self.workers.close();
        self.reads.close();
        self.long.close();
        if let Some(timer) = self.timer.get() {
            timer.unpark();
        }
        self.decide.remove();
        self.persist.remove();
        self.apply.remove();
        self.committer.remove();
    }

    /// Hands over what a front thread wants, and settles.
    pub fn ask(&self, decide: Vec<AskDecide>, apply: Vec<AskApply>) {
        if !decide.is_empty() {
            self.decide.push(ToDecide::Ask(decide), true);
        }
        if !apply.is_empty() {
            self.apply.push(ToApply::Ask(apply), true);
        }
        self.settle();
    }

    /// Runs a front's job on a pool thread.
    pub fn front_job(&self, work: impl FnOnce() + Send + 'static) {
        self.reads.run(Box::new(work));
    }

    /// Does what may be done here and now, and wakes workers for the rest. To be called after
    /// anything was put into a queue, by threads that are no workers.
    pub fn settle(&self) {
        self.run_decide();
        self.call_workers(0);
    }

    fn run_decide(&self) {
        self.decide.run_ready(|decide, batch| {
            self.peer_room.leave(batch);
            decide.handle(batch, self.clock.now(), self);
        });
    }

    /// Takes the message of a snapshot whose data file has come.
    pub fn deliver_snapshot(&self, message: raft::Message) {
        self.peer_room.push_in(&message);
        self.decide.push(ToDecide::Peer(Box::new(message)), true);
        self.settle();
    }

    /// Takes messages of other members. Those for which there is no room are left in `messages`.
    pub fn deliver(&self, messages: &mut Vec<raft::Message>) {
        for message in std::mem::take(messages) {
            match self.peer_room.enter(&message) {
                true => self.decide.push(ToDecide::Peer(Box::new(message)), true),
                false => messages.push(message),
            }
        }
        self.settle();
    }

    /// Wakes a worker for each stage with work but for `kept` of them.
    fn call_workers(&self, kept: usize) {
        let runnable = [
            self.persist.is_runnable(),
            self.apply.is_runnable(),
            self.committer.is_runnable(),
        ];
        let count = runnable.into_iter().filter(|runnable| *runnable).count();
        for _ in kept..count {
            self.workers.wake_one();
        }
    }

    fn has_work(&self) -> bool {
        self.persist.is_runnable()
            || self.apply.is_runnable()
            || self.committer.is_runnable()
            || self.decide.is_runnable()
    }

    fn work(&self) {
        loop {
            self.run_decide();
            // In the order in which somebody waits for it.
            let ran = self.run_persist() || self.run_apply() || self.run_committer();
            if !ran && !self.workers.sleep_unless(|| self.has_work()) {
                return;
            }
        }
    }

    /// After a batch: decide follows at once. If this stage has more to do, others take over what
    /// else there is; if not, this thread goes on with one of them.
    fn follow_up(&self, has_more: bool) {
        self.run_decide();
        self.call_workers(usize::from(!has_more));
    }

    fn run_persist(&self) -> bool {
        self.persist.run_ready(|persist, batch| {
            persist.handle(batch, self.clock.now(), self);
            self.hurry_timer(self.persist_wake.set(persist.next_wake()));
            self.follow_up(self.persist.has_more());
        })
    }

    fn run_apply(&self) -> bool {
        self.apply.run_ready(|apply, batch| {
            apply.handle(batch, self.clock.now(), self);
            self.hurry_timer(self.apply_wake.set(apply.next_wake()));
            self.tell_members();
            if self.shared.is_ready() && !self.announced.swap(true, Ordering::SeqCst) {
                let _ = self.events.send(Event::Ready);
            }
            self.follow_up(self.apply.has_more());
        })
    }

    fn run_committer(&self) -> bool {
        self.committer.run_ready(|committer, batch| {
            committer.handle(batch, self);
            self.follow_up(self.committer.has_more());
        })
    }

    /// Wakes the timer if it would sleep beyond `at`.
    fn hurry_timer(&self, at: u64) {
        if at < self.timer_wake.load(Ordering::SeqCst)
            && let Some(timer) = self.timer.get()
        {
            timer.unpark();
        }
    }

    /// A front found the member broken.
    pub fn broken(&self, fatal: Fatal) {
        let _ = self.events.send(Event::Fatal(fatal));
    }
}
