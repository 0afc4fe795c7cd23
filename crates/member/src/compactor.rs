//! Automatic compaction: says when to propose which revision, by time or by number of revisions
//! (etcd: etcdserver/api/v3compactor). Never proposes itself, never reads a clock; does nothing
//! while this member is not the leader, but goes on noting revisions.

use std::collections::VecDeque;
use std::time::Duration;

use api::clock::Instant;

/// How often the revision mode looks.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The longest time between two compactions of the periodic mode.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);
/// Into how many steps the periodic mode divides its period.
const STEPS: u32 = 10;

/// An automatic compactor.
#[derive(Debug)]
pub struct Compactor {
    mode: Mode,
    is_paused: bool,
    /// When to look next; unused while a compaction is proposed.
    next: Instant,
    /// The revision that is proposed and not yet answered.
    proposed: Option<i64>,
    /// The last revision compacted to.
    last: i64,
}

#[derive(Debug)]
enum Mode {
    Periodic {
        period: Duration,
        /// The revisions at the last steps; the first is as old as the period once it is full.
        revisions: VecDeque<i64>,
        last_success: Instant,
        /// How long after the last success the next compaction is due.
        base: Duration,
    },
    Revision {
        retention: i64,
    },
}

impl Compactor {
    /// Keeps the history of a period. `revision` is the store's current one.
    pub fn periodic(period: Duration, revision: i64, now: Instant) -> Compactor {
        let mode = Mode::Periodic {
            period,
            revisions: VecDeque::new(),
            last_success: now,
            base: period,
        };
        Compactor::start(mode, revision, now)
    }

    /// Keeps a number of revisions.
    pub fn revision(retention: i64, revision: i64, now: Instant) -> Compactor {
        Compactor::start(Mode::Revision { retention }, revision, now)
    }

    fn start(mode: Mode, revision: i64, now: Instant) -> Compactor {
        let mut compactor = Compactor {
            mode,
            is_paused: true,
            next: now,
            proposed: None,
            last: 0,
        };
        compactor.next_step(revision, now);
        compactor
    }

    /// This member is no leader: nothing is proposed until [`Compactor::resume`]. How it starts.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// This member leads.
    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// When [`Compactor::poll`] has something to do; `None` while a compaction is proposed.
    pub fn next_wake(&self) -> Option<Instant> {
        self.proposed.is_none().then_some(self.next)
    }

    /// The revision to propose a compaction to now, if any. `revision` is the store's current one.
    /// What it asked for must be reported by [`Compactor::finished`], be it that it timed out.
    pub fn poll(&mut self, revision: i64, now: Instant) -> Option<i64> {
        if self.proposed.is_some() || now < self.next {
            return None;
        }
        let due = if self.is_paused {
            None
        } else {
            self.due(revision, now)
        };
        match due {
            Some(target) => self.proposed = Some(target),
            None => self.next_step(revision, now),
        }
        due
    }

    /// A proposed compaction was made or refused. `is_ok` also if the revision was compacted
    /// already. `revision` is the store's current one.
    pub fn finished(&mut self, is_ok: bool, revision: i64, now: Instant) {
        let Some(target) = self.proposed.take() else {
            return;
        };
        if is_ok {
            self.last = target;
            if let Mode::Periodic { last_success, .. } = &mut self.mode {
                *last_success = now;
            }
        }
        self.next_step(revision, now);
    }

    fn due(&mut self, revision: i64, now: Instant) -> Option<i64> {
        match &mut self.mode {
            Mode::Periodic {
                period,
                revisions,
                last_success,
                base,
            } => {
                let target = *revisions.front()?;
                if now - *last_success < *base || target == self.last {
                    return None;
                }
                // The first time all of the period is waited for, later at most an hour.
                *base = (*period).min(PERIOD_MAX);
                Some(target)
            }
            Mode::Revision { retention } => {
                let target = revision.saturating_sub(*retention);
                (target > 0 && target != self.last).then_some(target)
            }
        }
    }

    fn next_step(&mut self, revision: i64, now: Instant) {
        let step = match &mut self.mode {
            Mode::Revision { .. } => REVISION_INTERVAL,
            Mode::Periodic {
                period, revisions, ..
            } => {
                // Never none: a step of no length would be a loop without end.
                let step = ((*period).min(PERIOD_MAX) / STEPS).max(Duration::from_millis(1));
                let kept = period.as_nanos() / step.as_nanos() + 1;
                revisions.push_back(revision);
                if revisions.len() as u128 > kept {
                    revisions.pop_front();
                }
                step
            }
        };
        self.next = now + step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Runs a compactor to `end` while the revision is the minute that has passed, plus one.
    /// Proposals succeed unless `fails` says otherwise. Tells (minute, target) of each.
    fn run(mut compactor: Compactor, end: u64, fails: impl Fn(u64) -> bool) -> Vec<(u64, i64)> {
        let mut seen = Vec::new();
        while let Some(now) = compactor.next_wake() {
            let minute = now.since_start().as_secs() / 60;
            if minute > end {
                break;
            }
            let revision = minute as i64 + 1;
            if let Some(target) = compactor.poll(revision, now) {
                seen.push((minute, target));
                assert_eq!(compactor.next_wake(), None);
                assert_eq!(compactor.poll(revision, now), None);
                compactor.finished(!fails(minute), revision, now);
            }
        }
        seen
    }

    fn started(mut compactor: Compactor) -> Compactor {
        compactor.resume();
        compactor
    }

    fn periodic(minutes: u32) -> Compactor {
        started(Compactor::periodic(MINUTE * minutes, 1, Instant::default()))
    }

    #[test]
    fn a_short_period_is_also_the_interval() {
        // To the revision of nine steps before: etcd's own test says so (TestPeriodicMinutes).
        let seen = run(periodic(10), 40, |_| false);
        assert_eq!(seen, [(10, 1), (20, 10), (30, 20), (40, 30)]);
    }

    #[test]
    fn a_long_period_compacts_every_hour() {
        let seen = run(periodic(120), 300, |_| false);
        assert_eq!(seen, [(120, 1), (180, 55), (240, 115), (300, 175)]);
    }

    #[test]
    fn a_failure_is_retried_a_step_later() {
        let seen = run(periodic(60), 140, |minute| minute == 60);
        assert_eq!(seen, [(60, 1), (66, 1), (126, 61)]);
    }

    #[test]
    fn nothing_is_proposed_twice() {
        let mut compactor = periodic(10);
        let mut targets = Vec::new();
        for minute in 1..=50 {
            let now = Instant::from_start(MINUTE * minute);
            if let Some(target) = compactor.poll(5, now) {
                targets.push(target);
                compactor.finished(true, 5, now);
            }
        }
        assert_eq!(targets, [1, 5]);
    }

    #[test]
    fn a_paused_compactor_notes_revisions() {
        let mut compactor = Compactor::periodic(MINUTE * 10, 1, Instant::default());
        for minute in 1..=30 {
            assert_eq!(
                compactor.poll(minute + 1, Instant::from_start(MINUTE * minute as u32)),
                None
            );
        }
        compactor.resume();
        assert_eq!(compactor.poll(32, Instant::from_start(MINUTE * 31)), Some(21));
        compactor.pause();
        compactor.finished(false, 32, Instant::from_start(MINUTE * 31));
        assert_eq!(compactor.poll(33, Instant::from_start(MINUTE * 32)), None);
    }

    #[test]
    fn the_revision_mode_looks_every_five_minutes() {
        let compactor = started(Compactor::revision(10, 1, Instant::default()));
        let seen = run(compactor, 25, |minute| minute == 15);
        assert_eq!(seen, [(10, 1), (15, 6), (20, 11), (25, 16)]);
        let mut idle = started(Compactor::revision(10, 1, Instant::default()));
        let mut targets = Vec::new();
        for minute in (5..=30).step_by(5) {
            let now = Instant::from_start(MINUTE * minute);
            if let Some(target) = idle.poll(15, now) {
                targets.push(target);
                idle.finished(true, 15, now);
            }
        }
        assert_eq!(targets, [5]);
    }

    #[test]
    fn a_period_of_nothing_does_not_spin() {
        let compactor = started(Compactor::periodic(Duration::ZERO, 1, Instant::default()));
        assert!(compactor.next_wake() > Some(Instant::default()));
    }
}
