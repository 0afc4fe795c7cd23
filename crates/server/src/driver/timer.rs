//! The thread that tells the member that time has passed. Never waits for anything but time: of
//! the stages it runs decide alone, which does no I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use api::clock::Instant;
use member::ToDecide;

use super::Driver;

/// A moment as one number.
pub(super) fn nanos(at: Instant) -> u64 {
    u64::try_from(at.since_start().as_nanos()).unwrap_or(u64::MAX)
}

/// When a stage wants to run although nothing comes in.
pub(super) struct Alarm(AtomicU64);

impl Alarm {
    pub(super) fn off() -> Alarm {
        Alarm(AtomicU64::new(u64::MAX))
    }

    /// Sets or clears it, and says its nanoseconds.
    pub(super) fn set(&self, at: Option<Instant>) -> u64 {
        let at = at.map_or(u64::MAX, nanos);
        self.0.store(at, Ordering::SeqCst);
        at
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether it is time; then it is off.
    fn is_due(&self, now: Instant) -> bool {
        let due = self.get() <= nanos(now);
        if due {
            self.0.store(u64::MAX, Ordering::SeqCst);
        }
        due
    }
}

/// Starts the thread.
pub(super) fn start(driver: Arc<Driver>, tick: Duration) -> std::io::Result<()> {
    let timer = driver.clone();
    let thread = thread::Builder::new()
        .name("timer".into())
        .spawn(move || run(&driver, tick))?;
    let _ = timer.timer.set(thread.thread().clone());
    Ok(())
}

fn run(driver: &Driver, tick: Duration) {
    let mut next_tick = driver.clock.now() + tick;
    while !driver.closed.load(Ordering::SeqCst) {
        let now = driver.clock.now();
        if now >= next_tick {
            driver.decide.push(ToDecide::Tick, true);
            // What nobody waits for is written now.
            driver.persist.make_ready_if_queued();
            // After a pause of the process one tick is enough: a burst would be an election.
            next_tick = (next_tick + tick).max(now);
        }
        if driver.apply_wake.is_due(now) {
            driver.apply.make_ready();
        }
        if driver.persist_wake.is_due(now) {
            driver.persist.make_ready();
        }
        driver.settle();
        let planned = nanos(next_tick);
        driver.timer_wake.store(planned, Ordering::SeqCst);
        let until = planned
            .min(driver.apply_wake.get())
            .min(driver.persist_wake.get());
        let now = nanos(driver.clock.now());
        if until > now {
            thread::park_timeout(Duration::from_nanos(until - now));
        }
    }
}
