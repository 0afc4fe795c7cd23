//! The end of a world: faults end, the cluster has to serve again, and everything is held against the log.

use std::time::Duration;

use api::etcdserverpb::AlarmType;
use bytes::Bytes;

use crate::client::Op;
use crate::world::World;

impl World {
    /// All faults end; the cluster must serve again, and all must agree.
    pub(crate) fn settle_and_judge(&mut self) {
        self.calm = true;
        crate::faults::end_all(self);
        self.trace.tell(self.now, "all faults end".to_owned());
        let places: Vec<usize> = (0..self.nodes.len()).collect();
        for &place in &places {
            self.start(place);
        }
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
