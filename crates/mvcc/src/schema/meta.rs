//! The bucket `meta`: what the file contains of the log, and how far it is compacted.

use serde::Deserialize;

use super::{META, Rows, decode_u64};
use crate::{Backend, Error, RevKey};

pub(crate) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(crate) const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
/// Revision of the newest compaction that was asked for.
pub(crate) const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
/// Revision of the newest compaction that is done.
pub(crate) const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";

/// The raft configuration as of the consistent index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConfState {
    /// Voters.
    pub voters: Vec<u64>,
    /// Learners.
    pub learners: Vec<u64>,
    /// Voters of the outgoing half of a joint configuration.
    pub voters_outgoing: Vec<u64>,
    /// Voters that become learners when a joint configuration is left.
    pub learners_next: Vec<u64>,
    /// Whether a joint configuration is left by itself.
    pub auto_leave: bool,
}

/// How far the file is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compactions {
    /// Revision of the newest compaction that was asked for.
    pub scheduled: Option<i64>,
    /// Revision of the newest compaction that is done.
    pub finished: Option<i64>,
}

/// Raft index and term of the last entry that the file contains; 0 where there is none yet.
pub fn consistent_index(rows: &impl Rows) -> Result<(u64, u64), Error> {
    let number = |key: &'static [u8]| match rows.row(META, key)? {
        None => Ok(0),
        Some(value) => decode_u64(META, key, &value),
    };
    let index = number(CONSISTENT_INDEX)?;
    // A term without an index is nothing that etcd regards: schema/cindex.go.
    Ok(if index == 0 {
        (0, 0)
    } else {
        (index, number(TERM)?)
    })
}

/// Sets the index and term by hand, for offline tools; a running store does it at each commit.
pub fn put_consistent_index(backend: &mut Backend, index: u64, term: u64) {
    // 0 means "not known yet" and is never written.
    if index > 0 {
        backend.put(META, CONSISTENT_INDEX, &index.to_be_bytes());
        if term > 0 {
            backend.put(META, TERM, &term.to_be_bytes());
        }
    }
}

/// The raft configuration, if it was ever stored.
pub fn conf_state(rows: &impl Rows) -> Result<Option<ConfState>, Error> {
    let Some(value) = rows.row(META, CONF_STATE)? else {
        return Ok(None);
    };
    let state = serde_json::from_slice(&value)
        .map_err(|error| Error::corrupt(META, CONF_STATE, error.to_string()))?;
    Ok(Some(state))
}

/// Stores the raft configuration, after each change of it.
pub fn put_conf_state(backend: &mut Backend, state: &ConfState) {
    backend.put(META, CONF_STATE, encode_conf_state(state).as_bytes());
}

/// The configuration in the form of 3.6: empty lists left out, `auto_leave` always there.
pub fn encode_conf_state(state: &ConfState) -> String {
    let mut out = String::from("{");
    let lists = [
        ("voters", &state.voters),
        ("learners", &state.learners),
        ("voters_outgoing", &state.voters_outgoing),
        ("learners_next", &state.learners_next),
    ];
    for (name, ids) in lists.into_iter().filter(|(_, ids)| !ids.is_empty()) {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        out.push_str(&format!("\"{name}\":[{}],", ids.join(",")));
    }
    out.push_str(&format!("\"auto_leave\":{}}}", state.auto_leave));
    out
}

/// How far the file is compacted.
pub fn compactions(rows: &impl Rows) -> Result<Compactions, Error> {
    let revision = |key: &'static [u8]| match rows.row(META, key)? {
        None => Ok(None),
        Some(value) => match RevKey::decode(&value) {
            Ok(key) => Ok(Some(key.rev.main)),
            Err(_) => Err(Error::corrupt(META, key, "not a revision")),
        },
    };
    Ok(Compactions {
        scheduled: revision(SCHEDULED_COMPACT)?,
        finished: revision(FINISHED_COMPACT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_the_form_of_3_6() {
        let check = |state: ConfState, text: &str| {
            assert_eq!(encode_conf_state(&state), text);
            assert_eq!(serde_json::from_str::<ConfState>(text).unwrap(), state);
        };
        check(ConfState::default(), r#"{"auto_leave":false}"#);
        check(
            ConfState {
                voters: vec![1, 2],
                learners: vec![3],
                ..ConfState::default()
            },
            r#"{"voters":[1,2],"learners":[3],"auto_leave":false}"#,
        );
        check(
            ConfState {
                voters: vec![u64::MAX],
                learners: vec![],
                voters_outgoing: vec![4, 5],
                learners_next: vec![6],
                auto_leave: true,
            },
            r#"{"voters":[18446744073709551615],"voters_outgoing":[4,5],"learners_next":[6],"auto_leave":true}"#,
        );
    }
}
