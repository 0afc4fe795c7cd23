//! States of a cluster that are worth having been in: a simulation that never gets there shows nothing about them.

use std::collections::BTreeMap;

/// The names under which they are counted. What makes the count is where the thing happens. What comes less than once in
/// thirty worlds is counted and told, but not among these ("states overtaken while they were opened", "states received over
/// changes of members that were not applied").
pub const STATES: &[&str] = &[
    "terms with a leader",
    "leaders that took over from another",
    "leaders that handed over",
    "leaders cut off",
    "pre-votes refused",
    "votes refused",
    "appends refused",
    "entries that lost their place to others",
    "snapshots installed",
    "snapshots cut off",
    "installations that took long",
    "snapshots whose fate was told late",
    "stages that stood still",
    "writes without room",
    "entries read from the log for others",
    "learners added",
    "learners promoted",
    "members updated",
    "members removed",
    "leaders removed",
    "torn tails repaired",
    "received files recovered",
    "starts with a log ahead of the data file",
    "machines that died within a write",
    "reads asked again",
    "requests that had no answer in time",
    "writes of unknown fate that happened",
    "writes of unknown fate that never did",
    "leases expired",
    "leases expired under another leader",
    "leases kept over a change of the leader",
    "leases of the dead that expired",
    "watchers overtaken by compactions",
    "watchers that went on over an installed state",
    "compactions",
    "defragmentations",
    "voters killed after their vote",
    "snapshots copied by clients",
    "ranges streamed",
    "histories of a key searched",
    "flipped values found",
    "NOSPACE raised",
    "NOSPACE disarmed",
    "members that refused to start from a damaged disk",
    "members that stopped because their disk was damaged",
    "damaged members that were replaced",
    "damage that did no harm",
];

/// Those that were not reached.
pub fn missing(counts: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    let reached = |state: &&&str| counts.get(**state).is_none_or(|count| *count == 0);
    STATES.iter().filter(reached).copied().collect()
}
