//! What is true: the log that the cluster has committed, its meaning, and who has led. Each member's
//! word is held against it as soon as it is given.

use std::collections::{BTreeMap, BTreeSet};

use api::etcdserverpb as pb;
use bytes::Bytes;
use mvcc::Wait;
use prost::Message;

use crate::model::{Aside, Effect, Model};

/// See the module.
#[derive(Default)]
pub struct Truth {
    entries: Vec<(u64, raft::EntryKind, Bytes)>,
    /// The term in which each entry was known to be committed, at the latest.
    committed_in: Vec<u64>,
    /// The requests of all entries.
    requests: BTreeSet<u64>,
    /// The meaning of the entries.
    pub model: Model,
    pub(crate) leaders: BTreeMap<u64, u64>,
    /// Hashes that members told, by the revision hashed and the compaction before it.
    hashes: BTreeMap<(i64, i64), u32>,
    /// The newest revision that a client has seen in an answer that is linearizable: whoever asks
    /// from now on must see at least this.
    pub floor: i64,
}

impl Truth {
    /// No request gets into the log twice: whoever waits for it is answered once.
    fn check_once(&mut self, entry: &raft::Entry) -> Result<(), String> {
        let request = match entry.kind {
            raft::EntryKind::Normal => pb::InternalRaftRequest::decode(&entry.data[..]).ok(),
            _ => None,
        };
        let id = request
            .and_then(|request| request.header)
            .map_or(0, |header| header.id);
        match id == 0 || self.requests.insert(id) {
            true => Ok(()),
            false => Err(format!(
                "request {id:x} is in the log again, as entry {}",
                entry.index
            )),
        }
    }

    /// Entries that a member's raft says, in a term, are committed (state machine safety: no index ever has two). What
    /// those did that were not known, with their terms.
    pub fn committed(
        &mut self,
        who: u64,
        term: u64,
        entries: &[raft::Entry],
    ) -> Result<Vec<(u64, Effect)>, String> {
        let mut effects = Vec::new();
        for entry in entries {
            let place = usize::try_from(entry.index).unwrap_or(usize::MAX);
            let known = self.entries.len();
            if place > known + 1 {
                return Err(format!(
                    "member {who:x} commits entry {place}, but nobody has committed {}",
                    known + 1
                ));
            }
            if place <= known {
                let (term, kind, data) = &self.entries[place - 1];
                if (*term, *kind, data) != (entry.term, entry.kind, &entry.data) {
                    return Err(format!(
                        "member {who:x} commits entry {place} of term {}, which was committed with term {term}",
                        entry.term
                    ));
                }
                continue;
            }
            self.check_once(entry)?;
            self.entries.push((entry.term, entry.kind, entry.data.clone()));
            self.committed_in.push(term.max(entry.term));
            effects.push((entry.term, self.model.apply(entry.kind, &entry.data)));
        }
        Ok(effects)
    }

    /// The term of a committed entry, and a term in which it was committed.
    pub fn entry_terms(&self, index: u64) -> Option<(u64, u64)> {
        let place = usize::try_from(index).ok()?.checked_sub(1)?;
        Some((self.entries.get(place)?.0, self.committed_in[place]))
    }

    /// A member leads in a term (election safety: no term has two leaders).
    pub fn leads(&mut self, who: u64, term: u64) -> Result<bool, String> {
        let known = self.leaders.insert(term, who);
        match known {
            Some(other) if other != who => Err(format!("{other:x} and {who:x} both lead in term {term}")),
            Some(_) => Ok(false),
            None => Ok(true),
        }
    }

    /// A member has told the hash up to a revision that it was asked for: equal revisions of equal compactions
    /// have equal ones, whoever tells them.
    pub fn hashed(&mut self, asked: i64, answer: &api::etcdserverpb::HashKvResponse) -> Result<(), String> {
        // Members of 3.5 do not say up to which revision it is.
        let revision = answer.hash_revision.max(asked);
        if revision == 0 {
            return Ok(());
        }
        let of = (revision, answer.compact_revision);
        let before = *self.hashes.entry(of).or_insert(answer.hash);
        match before == answer.hash {
            true => Ok(()),
            false => Err(format!(
                "the hash of {} after the compaction at {} is {:08x}, another answer had {before:08x}",
                of.0, of.1, answer.hash
            )),
        }
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// Entries committed so far.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Whether a member that has applied up to the view's index is at the right revision.
    pub fn check_revision(&self, who: u64, view: &mvcc::View) -> Result<(), String> {
        let place = usize::try_from(view.applied_index).unwrap_or(usize::MAX);
        match self.model.revision_at.get(place) {
            Some(&revision) if revision == view.revision => Ok(()),
            Some(&revision) => Err(format!(
                "member {who:x} is at revision {} after entry {place}, the log says {revision}",
                view.revision
            )),
            None => Err(format!(
                "member {who:x} has applied entry {place}, which nobody committed"
            )),
        }
    }

    /// Whether a member's leases, alarms and members are what the log says after an entry.
    pub fn check_aside(
        &self,
        who: u64,
        index: u64,
        facts: &member::Facts,
        leases: &state::Leases,
    ) -> Result<(), String> {
        let Some(wanted) = self.model.aside_at(index) else {
            return Err(format!(
                "member {who:x} has applied entry {index}, which nobody committed"
            ));
        };
        same_aside(wanted, facts, leases)
            .map_err(|what| format!("member {who:x} after entry {index}: {what}"))
    }

    /// Whether the keys that changed after the revision `from` are what the log says.
    pub fn check_changes(&self, who: u64, from: i64, view: &mvcc::View) -> Result<(), String> {
        for (_, key) in self.model.events(&[0], &[0], from + 1, view.revision) {
            let options = mvcc::RangeOptions {
                key,
                ..mvcc::RangeOptions::default()
            };
            let Ok(found) = view.range(&options, Wait::Yes) else {
                // Faults of the disk are another judge's.
                return Ok(());
            };
            let kvs = found.kvs.iter().map(|kv| prost::Message::decode(kv.clone()));
            let kvs: Result<Vec<_>, prost::DecodeError> = kvs.collect();
            let kvs = kvs.map_err(|error| format!("member {who:x}: {error}"))?;
            self.same_keys(&kvs, key, b"", view.revision)
                .map_err(|what| format!("member {who:x} at revision {}: {what}", view.revision))?;
        }
        Ok(())
    }

    /// Whether a member holds exactly the keys that the log says.
    pub fn check_content(&self, who: u64, view: &mvcc::View) -> Result<(), String> {
        let options = mvcc::RangeOptions {
            key: &[0],
            range_end: &[0],
            ..mvcc::RangeOptions::default()
        };
        let found = view
            .range(&options, Wait::Yes)
            .map_err(|error| format!("member {who:x} cannot read its keys: {error}"))?;
        let kvs: Result<Vec<api::mvccpb::KeyValue>, _> = found
            .kvs
            .iter()
            .map(|kv| prost::Message::decode(kv.clone()))
            .collect();
        let kvs = kvs.map_err(|error| format!("member {who:x}: {error}"))?;
        self.same_keys(&kvs, &[0], &[0], view.revision)
            .map_err(|difference| format!("member {who:x} at revision {}: {difference}", view.revision))
    }

    /// Whether these are exactly the keys of a range as of a revision.
    pub fn same_keys(
        &self,
        kvs: &[api::mvccpb::KeyValue],
        key: &[u8],
        end: &[u8],
        revision: i64,
    ) -> Result<(), String> {
        let wanted = self.model.range(key, end, revision);
        for (place, (key, version)) in wanted.iter().enumerate() {
            let Some(kv) = kvs.get(place) else {
                return Err(format!("{} is missing", text(key)));
            };
            let same = kv.key.as_ref() == *key
                && version.value.as_deref() == Some(kv.value.as_ref())
                && (kv.mod_revision, kv.create_revision, kv.version, kv.lease)
                    == (version.revision, version.create, version.version, version.lease);
            if !same {
                return Err(format!("{kv:?} instead of {} {version:?}", text(key)));
            }
        }
        match kvs.get(wanted.len()) {
            Some(kv) => Err(format!("{kv:?} should not be there")),
            None => Ok(()),
        }
    }
}

fn same_aside(wanted: &Aside, facts: &member::Facts, leases: &state::Leases) -> Result<(), String> {
    wanted.roster.same(facts)?;
    let alarms: Vec<(i32, u64)> = facts
        .alarms
        .iter()
        .map(|alarm| (alarm.kind, alarm.member_id))
        .collect();
    if !alarms.iter().eq(wanted.alarms.iter()) {
        return Err(format!("alarms {alarms:?} instead of {:?}", wanted.alarms));
    }
    let same = leases.len() == wanted.leases.len()
        && leases
            .iter()
            .zip(wanted.leases.iter())
            .all(|((id, is), (other, lease))| {
                let keys = is.keys.iter().map(|key| key.as_ref());
                id == *other && is.ttl == lease.ttl && keys.eq(lease.keys.iter().map(Vec::as_slice))
            });
    match same {
        true => Ok(()),
        false => {
            let is: Vec<_> = leases.iter().collect();
            Err(format!("leases {is:?} instead of {:?}", wanted.leases))
        }
    }
}

/// Bytes for people.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
