//! The end of a world: faults end, the cluster has to serve again, and everything is held against the log.

use std::time::Duration;

use api::etcdserverpb::AlarmType;
use bytes::Bytes;

use crate::client::Op;
use crate::linear::Found;
use crate::world::World;

/// How long after all faults ended and the last leader came, and its time to live, a lease that nobody renews may be
/// there: each leader gives it all its time again.
const LEASE_PATIENCE: Duration = Duration::from_secs(9);

impl World {
    /// All faults end; the cluster must serve again, and all must agree.
    pub(crate) fn settle_and_judge(&mut self) {
        self.calm = true;
        self.calm_since = self.now;
        crate::faults::end_all(self);
        self.trace.tell(self.now, "all faults end".to_owned());
        let places: Vec<usize> = (0..self.nodes.len()).collect();
        for &place in &places {
            self.lift_quota(place);
            self.start(place);
        }
        crate::damage::settle(self);
        let rest = self.now + Duration::from_secs(15);
        self.run_until(rest);
        for client in 0..self.clients.len() {
            self.give_up(client);
        }
        if self.violation.is_none() {
            self.judge_liveness();
        }
        let rest = self.now + Duration::from_secs(5);
        self.run_until(rest);
        if self.violation.is_none() {
            self.judge_agreement();
        }
        if self.violation.is_none() {
            self.judge_leases();
        }
        if self.violation.is_none() {
            self.judge_histories();
        }
        self.resolve_unknown_fates();
        for place in places {
            self.harvest(place);
        }
        if self.violation.is_none() {
            self.judge_flip();
        }
    }

    /// What the dead held has gone.
    fn judge_leases(&mut self) {
        let leases = &self.truth.model.aside.leases;
        let since = self.calm_since.max(self.led_since);
        let overdue = self.lessees.iter().find_map(|lessee| {
            let (id, at) = lessee.overdue(since, LEASE_PATIENCE)?;
            (at <= self.now && leases.contains_key(&id)).then_some((id, at))
        });
        if let Some((id, at)) = overdue {
            let late = self.now - at;
            self.wrong(format!(
                "lease {id} of a client that died is still there {late:?} after it should have gone"
            ));
        }
    }

    /// There is an order of the calls to each key that explains what they answered.
    fn judge_histories(&mut self) {
        let mut wrong = None;
        for (key, found) in self.histories.judge() {
            self.trace.count(match found {
                Found::Order => "histories of a key searched",
                Found::TooLong => "histories of a key too long to search",
                Found::Nothing => {
                    let key = crate::truth::text(key);
                    wrong.get_or_insert(format!("no order of the calls to {key} explains their answers"));
                    "histories of a key without an order"
                }
            });
        }
        if let Some(what) = wrong {
            self.wrong(what);
        }
    }

    /// The log knows what nobody was told.
    fn resolve_unknown_fates(&mut self) {
        for (key, value) in std::mem::take(&mut self.unknown_fates) {
            let happened = self.truth.model.ever_had(&key, &value);
            self.trace.count(match happened {
                true => "writes of unknown fate that happened",
                false => "writes of unknown fate that never did",
            });
        }
    }

    /// A small quota would not let the cluster serve: the operator starts each member without.
    fn lift_quota(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        if node.config.quota_backend_bytes > 0 {
            node.config.quota_backend_bytes = -1;
            if node.is_up() {
                self.crash(place, None);
            }
        }
    }

    /// A write through every member succeeds in bounded time.
    pub(crate) fn judge_liveness(&mut self) {
        for place in 0..self.nodes.len() {
            let Some(running) = &self.nodes[place].running else {
                continue;
            };
            if running.member.shared.pulse.is_learner() {
                continue;
            }
            let deadline = self.now + Duration::from_secs(30);
            let before = self.trace.counts.get("answers").copied();
            let mut served = false;
            while self.now < deadline && !served && self.violation.is_none() {
                self.clients[0].at = (place, 0);
                let put = api::etcdserverpb::PutRequest {
                    key: Bytes::from_static(b"alive"),
                    value: format!("{place}").into_bytes().into(),
                    ..api::etcdserverpb::PutRequest::default()
                };
                if self.clients[0].waiting.is_none() {
                    self.ask(0, Op::Put(put));
                }
                let soon = self.now + Duration::from_millis(100);
                self.run_until(soon);
                served = self.trace.counts.get("answers").copied() != before;
            }
            if !served && self.nodes[place].is_up() {
                return self.wrong(format!("m{place} does not serve 45 s after all faults ended"));
            }
        }
    }

    pub(crate) fn judge_agreement(&mut self) {
        let mut facts = Vec::new();
        for place in 0..self.nodes.len() {
            let Some(running) = &mut self.nodes[place].running else {
                continue;
            };
            let shared = running.member.shared.clone();
            let view = running.member.views.load();
            if let Err(what) = self.truth.check_content(shared.member_id, &view) {
                return self.wrong(what);
            }
            if view.revision != self.truth.model.revision {
                let (has, all) = (view.revision, self.truth.model.revision);
                return self.wrong(format!("m{place} has come to revision {has} of {all} at the end"));
            }
            let broken = running.member.check_file();
            if let Some(violation) = broken.first() {
                return self.wrong(format!("m{place}: data file: {violation}"));
            }
            facts.push((place, shared.facts()));
        }
        // No fault so far changes what a store holds.
        let corrupt = |alarm: &&member::Alarm| alarm.kind == AlarmType::Corrupt as i32;
        let mut alarms = facts.iter().flat_map(|(_, facts)| &facts.alarms);
        if let Some(alarm) = alarms.find(corrupt) {
            return self.wrong(format!("the data of {:x} is taken for corrupt", alarm.member_id));
        }
        if let Some((first, one)) = facts.first() {
            for (place, other) in &facts {
                if one.members != other.members || one.alarms != other.alarms {
                    let what =
                        format!("m{first} and m{place} disagree about members or alarms: {one:?} {other:?}");
                    return self.wrong(what);
                }
            }
        }
        let revision = self.truth.model.revision;
        let late = self
            .watchers
            .iter()
            .find(|watcher| !watcher.is_complete(&self.truth, revision));
        if let Some(watcher) = late {
            let what = format!("a watcher never saw all up to {revision}: {}", watcher.tell());
            self.wrong(what);
        }
    }
}
