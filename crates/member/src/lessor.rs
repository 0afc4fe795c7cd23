//! The part of leases that depends on time: which have expired, on the one member that says so
//! (the leader). What it decides goes through the log and comes back by [`Lessor::granted`],
//! [`Lessor::revoked`] and [`Lessor::checkpointed`], so that all members keep the same leases.
//! Rules of etcd: server/lease/lessor.go. Never reads a clock, never proposes itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use api::clock::Instant;

/// How often expired leases and due checkpoints are looked for.
const BEAT: Duration = Duration::from_millis(500);
/// How many leases may be revoked in a second.
const REVOKES_PER_SECOND: usize = 1000;
/// How many revocations may be on their way through the log at a time.
const REVOKES_IN_FLIGHT_MAX: usize = 16;
/// How many expired leases may wait for their turn; what is beyond is found again later.
const EXPIRED_MAX: usize = 16 * REVOKES_PER_SECOND / 2;
/// How many checkpoints one entry of the log holds.
const CHECKPOINTS_PER_ENTRY: usize = 1000;
/// How many entries of checkpoints one beat makes.
const CHECKPOINT_ENTRIES_PER_BEAT: usize = 500;

/// The time between two records of a lease's remaining time, unless configured otherwise.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The shortest time to live that a lease gets, in whole seconds: one and a half election timeouts.
pub fn min_ttl_seconds(election_ticks: u32, heartbeat: Duration) -> i64 {
    let least = heartbeat.saturating_mul(election_ticks.saturating_mul(3) / 2);
    let whole = i64::try_from(least.as_secs()).unwrap_or(i64::MAX);
    whole.saturating_add(i64::from(least.subsec_nanos() > 0))
}

/// Settings of a lessor.
#[derive(Clone, Debug)]
pub struct LessorConfig {
    /// Whether remaining times are recorded in the log (feature gate LeaseCheckpoint).
    pub checkpoint: bool,
    /// The time between two records of a lease ([`CHECKPOINT_INTERVAL`]).
    pub checkpoint_interval: Duration,
    /// How long a revocation may take before the lease is offered again: the request timeout.
    pub retry_interval: Duration,
}

/// What came of a request to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lives for this many seconds from now.
    Renewed(i64),
    /// There is no such lease.
    NotFound,
    /// This member does not decide about leases: ask the leader.
    NotPrimary,
    /// It has expired, and nothing brings it back: [`Lessor::wait`] for its revocation.
    Expired,
    /// Propose a checkpoint of 0 for it, and renew again when that is applied. Otherwise the next
    /// leader would count from the time recorded before.
    ClearFirst,
}

/// Why a waiter is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The lease it waited for is gone.
    Revoked,
    /// This member no longer decides about leases.
    Demoted,
}

/// A lease's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds left; may be negative when it has expired and is not revoked yet.
    pub remaining_seconds: i64,
    /// The seconds it was granted.
    pub granted_seconds: i64,
}

/// What to propose now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    /// Leases to revoke, an entry each. Report every one by [`Lessor::revoke_finished`].
    pub revokes: Vec<i64>,
    /// Remaining seconds of leases to record, an entry each list.
    pub checkpoints: Vec<Vec<(i64, i64)>>,
}

struct Lease {
    ttl: i64,
    remaining: i64,
    /// Never, on a member that does not decide.
    expiry: Option<Instant>,
    /// When to look at it next: its expiry, or after that the end of a retry interval.
    look: Option<Instant>,
}

impl Lease {
    /// What it lives from a renewal on: what was recorded last, else all.
    fn seconds(&self) -> i64 {
        if self.remaining > 0 {
            self.remaining
        } else {
            self.ttl
        }
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

/// The leases of a member with their times. `W` names who waits for a renewal.
pub struct Lessor<W> {
    config: LessorConfig,
    leases: BTreeMap<i64, Lease>,
    is_primary: bool,
    looks: BTreeSet<(Instant, i64)>,
    checkpoints: BTreeSet<(Instant, i64)>,
    next_beat: Instant,
    /// Found expired, not yet offered.
    expired: VecDeque<i64>,
    in_flight: BTreeSet<i64>,
    /// Who waits for the revocation of a lease.
    waiters: BTreeMap<i64, Vec<W>>,
    /// How many they are.
    waiting: usize,
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl<W> Lessor<W> {
    /// A lessor that does not decide yet, with leases as `(id, granted seconds, recorded
    /// remaining seconds)`.
    pub fn new(config: LessorConfig, leases: impl IntoIterator<Item = (i64, i64, i64)>) -> Lessor<W> {
        let mut lessor = Lessor {
            config,
            leases: BTreeMap::new(),
            is_primary: false,
            looks: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            next_beat: Instant::default(),
            expired: VecDeque::new(),
            in_flight: BTreeSet::new(),
            waiters: BTreeMap::new(),
            waiting: 0,
        };
        for (id, ttl, remaining) in leases {
            lessor.insert(id, ttl, remaining);
        }
        lessor
    }

    fn insert(&mut self, id: i64, ttl: i64, remaining: i64) {
        let lease = Lease {
            ttl,
            remaining,
            expiry: None,
            look: None,
        };
        self.leases.insert(id, lease);
    }

    /// Whether this member decides which leases have expired.
    pub fn is_primary(&self) -> bool {
        self.is_primary
    }

    /// A lease was granted (applied from the log).
    pub fn granted(&mut self, id: i64, ttl: i64, now: Instant) {
        self.insert(id, ttl, 0);
        if self.is_primary {
            self.refresh(id, Duration::ZERO, now);
            self.schedule_checkpoint(id, now);
        }
    }

    /// A lease was revoked (applied from the log). Returns who waited for it.
    #[must_use]
    pub fn revoked(&mut self, id: i64) -> Vec<W> {
        self.in_flight.remove(&id);
        let Some(lease) = self.leases.remove(&id) else {
            return Vec::new();
        };
        if let Some(look) = lease.look {
            self.looks.remove(&(look, id));
        }
        let woken = self.waiters.remove(&id).unwrap_or_default();
        self.waiting -= woken.len();
        woken
    }

    /// A lease's remaining time was recorded (applied from the log). It counts from the next
    /// promotion or renewal on.
    pub fn checkpointed(&mut self, id: i64, remaining: i64, now: Instant) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        lease.remaining = remaining;
        if self.is_primary {
            self.schedule_checkpoint(id, now);
        }
    }

    /// This member decides from now on. Every lease gets all its time (or what was recorded of
    /// it) once more, and `extend`, the election timeout, during which it could not be renewed.
    /// Expiries that pile up are spread so that revocations keep up.
    pub fn promote(&mut self, now: Instant, extend: Duration) {
        self.is_primary = true;
        self.next_beat = now;
        let ids: Vec<i64> = self.leases.keys().copied().collect();
        for &id in &ids {
            self.refresh(id, extend, now);
            self.schedule_checkpoint(id, now);
        }
        if ids.len() >= REVOKES_PER_SECOND {
            self.spread(now, extend);
        }
    }

    /// Moves expiries so that about three quarters of what may be revoked expire in any second.
    fn spread(&mut self, now: Instant, extend: Duration) {
        const SECOND: i128 = 1_000_000_000;
        let per_second = (3 * REVOKES_PER_SECOND / 4) as i128;
        let remaining = |lease: &Lease| lease.expiry.map_or(0, |at| (at - now).as_nanos() as i128);
        let mut order: Vec<(i128, i64)> = self
            .leases
            .iter()
            .map(|(&id, lease)| (remaining(lease), id))
            .collect();
        order.sort_unstable();
        let mut window = order.first().map_or(0, |&(first, _)| first);
        let mut next_window = window + SECOND;
        let mut expires = 0i128;
        for (remaining, id) in order {
            if remaining > next_window {
                window = remaining;
                next_window = window + SECOND;
                expires = 1;
                continue;
            }
            expires += 1;
            if expires <= per_second {
                continue;
            }
            // A lease that expires later in the window anyway is moved by that much less.
            let delay = SECOND * expires / per_second - (remaining - window);
            next_window = window + delay;
            let delay = Duration::from_nanos(u64::try_from(delay).unwrap_or(0));
            self.refresh(id, delay.saturating_add(extend), now);
        }
    }

    /// This member decides no longer. Returns who waited for a revocation.
    #[must_use]
    pub fn demote(&mut self) -> Vec<W> {
        self.is_primary = false;
        self.looks.clear();
        self.checkpoints.clear();
        self.expired.clear();
        self.in_flight.clear();
        for lease in self.leases.values_mut() {
            lease.expiry = None;
            lease.look = None;
        }
        self.waiting = 0;
        std::mem::take(&mut self.waiters)
            .into_values()
            .flatten()
            .collect()
    }

    /// Gives a lease all its time again.
    pub fn renew(&mut self, id: i64, now: Instant) -> Renewal {
        if !self.is_primary {
            return Renewal::NotPrimary;
        }
        let Some(lease) = self.leases.get(&id) else {
            return Renewal::NotFound;
        };
        if lease.is_expired(now) {
            return Renewal::Expired;
        }
        if self.config.checkpoint && lease.remaining > 0 {
            return Renewal::ClearFirst;
        }
        let ttl = lease.ttl;
        self.refresh(id, Duration::ZERO, now);
        Renewal::Renewed(ttl)
    }

    /// Keeps who got [`Renewal::Expired`] until [`Lessor::revoked`] or [`Lessor::demote`] gives it
    /// back. Gives it back at once if neither can come.
    pub fn wait(&mut self, id: i64, waiter: W) -> Option<W> {
        if !self.is_primary || !self.leases.contains_key(&id) {
            return Some(waiter);
        }
        self.waiters.entry(id).or_default().push(waiter);
        self.waiting += 1;
        None
    }

    /// How many wait for revocations.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Forgets those who wait for revocations and are not to be kept.
    pub fn keep_waiting(&mut self, keep: impl Fn(&W) -> bool) {
        self.waiters.retain(|_, waiters| {
            waiters.retain(&keep);
            !waiters.is_empty()
        });
        self.waiting = self.waiters.values().map(Vec::len).sum();
    }

    /// Whether a lease exists here.
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// A lease's times; `None` if there is none, or if this member does not decide, and so does
    /// not know (see [`Lessor::is_primary`]).
    pub fn time_to_live(&self, id: i64, now: Instant) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        let expiry = lease.expiry?;
        let left = (expiry - now).as_secs();
        let over = (now - expiry).as_secs();
        let remaining_seconds = i64::try_from(left).unwrap_or(i64::MAX) - i64::try_from(over).unwrap_or(0);
        Some(TimeToLive {
            remaining_seconds,
            granted_seconds: lease.ttl,
        })
    }

    /// The ids of all leases: those that expire first come first, those that never do last.
    pub fn list(&self) -> Vec<i64> {
        let mut order: Vec<(bool, Option<Instant>, i64)> = Vec::with_capacity(self.leases.len());
        order.extend(
            self.leases
                .iter()
                .map(|(&id, lease)| (lease.expiry.is_none(), lease.expiry, id)),
        );
        order.sort_unstable();
        order.into_iter().map(|(_, _, id)| id).collect()
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// What to propose now. Call at [`Lessor::next_wake`], and after [`Lessor::revoke_finished`].
    pub fn poll(&mut self, now: Instant) -> Proposals {
        let mut proposals = Proposals::default();
        if !self.is_primary {
            return proposals;
        }
        if now >= self.next_beat {
            self.next_beat = now + BEAT;
            self.find_expired(now);
            proposals.checkpoints = self.due_checkpoints(now);
        }
        while self.in_flight.len() < REVOKES_IN_FLIGHT_MAX {
            let Some(id) = self.expired.pop_front() else {
                break;
            };
            // A client may have revoked it while it waited here, and granted its ID anew.
            let is_expired = self.leases.get(&id).is_some_and(|lease| lease.is_expired(now));
            if is_expired && self.in_flight.insert(id) {
                proposals.revokes.push(id);
            }
        }
        proposals
    }

    /// A revocation was refused, dropped or timed out, or was applied (which [`Lessor::revoked`]
    /// says too): the next one may go. If the lease is still there it is offered again later.
    pub fn revoke_finished(&mut self, id: i64) {
        self.in_flight.remove(&id);
    }

    /// When [`Lessor::poll`] has something to do; `None` if only an input can change that.
    pub fn next_wake(&self) -> Option<Instant> {
        if !self.is_primary {
            return None;
        }
        let can_offer = !self.expired.is_empty() && self.in_flight.len() < REVOKES_IN_FLIGHT_MAX;
        if can_offer {
            return Some(Instant::default());
        }
        let first = |set: &BTreeSet<(Instant, i64)>| set.first().map(|&(at, _)| at);
        let next = [first(&self.looks), first(&self.checkpoints)]
            .into_iter()
            .flatten()
            .min()?;
        // Things are looked for at beats only, so that those of half a second go together.
        Some(next.max(self.next_beat))
    }

    fn refresh(&mut self, id: i64, extend: Duration, now: Instant) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let expiry = now + extend + seconds(lease.seconds());
        lease.expiry = Some(expiry);
        self.look_at(id, expiry);
    }

    fn look_at(&mut self, id: i64, at: Instant) {
        if let Some(lease) = self.leases.get_mut(&id) {
            if let Some(before) = lease.look.replace(at) {
                self.looks.remove(&(before, id));
            }
            self.looks.insert((at, id));
        }
    }

    fn find_expired(&mut self, now: Instant) {
        let mut found = 0;
        while found < REVOKES_PER_SECOND / 2 && self.expired.len() < EXPIRED_MAX {
            let Some(&(at, id)) = self.looks.first() else {
                return;
            };
            if at > now {
                return;
            }
            // It is offered again if it is still there then: its revocation may have failed.
            self.look_at(id, now + self.config.retry_interval);
            if self.leases.get(&id).is_some_and(|lease| lease.is_expired(now)) {
                self.expired.push_back(id);
                found += 1;
            }
        }
    }

    fn schedule_checkpoint(&mut self, id: i64, now: Instant) {
        let interval = self.config.checkpoint_interval;
        let Some(lease) = self.leases.get(&id).filter(|_| self.config.checkpoint) else {
            return;
        };
        if seconds(lease.seconds()) > Duration::from_secs(interval.as_secs()) {
            self.checkpoints.insert((now + interval, id));
        }
    }

    fn due_checkpoints(&mut self, now: Instant) -> Vec<Vec<(i64, i64)>> {
        let mut entries: Vec<Vec<(i64, i64)>> = Vec::new();
        while let Some(&(at, id)) = self.checkpoints.first() {
            let is_full = entries
                .last()
                .is_some_and(|entry| entry.len() == CHECKPOINTS_PER_ENTRY);
            if at > now || (is_full && entries.len() == CHECKPOINT_ENTRIES_PER_BEAT) {
                break;
            }
            self.checkpoints.pop_first();
            let Some(lease) = self.leases.get(&id).filter(|lease| !lease.is_expired(now)) else {
                continue;
            };
            let left = lease.expiry.map_or(Duration::ZERO, |expiry| expiry - now);
            let remaining = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            let remaining = remaining.saturating_add(i64::from(left.subsec_nanos() > 0));
            if remaining >= lease.ttl {
                continue;
            }
            if is_full || entries.is_empty() {
                entries.push(Vec::new());
            }
            let entry = entries.last_mut().expect("an entry was pushed if there was none");
            entry.push((id, remaining));
        }
        entries
    }
}

#[cfg(test)]
mod tests;
