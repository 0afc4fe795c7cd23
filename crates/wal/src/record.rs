//! The records of the log as values.

use bytes::Bytes;

/// The configuration of a cluster as raft stores it.
pub type ConfState = api::raftpb::ConfState;

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// A request, or nothing (a new leader's first entry).
    Normal = 0,
    /// A change of one member.
    ConfChange = 1,
    /// A change of several members.
    ConfChangeV2 = 2,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it carries.
    pub kind: EntryKind,
    /// The term in which it was proposed.
    pub term: u64,
    /// Its place in the log.
    pub index: u64,
    /// Its payload.
    pub data: Bytes,
}

/// What a member must remember of its votes and of what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term seen.
    pub term: u64,
    /// For whom it voted in that term; 0 if for nobody.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

/// A snapshot record: up to here the database holds everything, so reading can begin here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// The last index that the snapshot covers.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The configuration at that index. Always there above index 0, but for records of etcd 3.4.
    pub conf_state: Option<ConfState>,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Who writes this log: an encoded etcdserverpb.Metadata, compared byte by byte.
    Metadata(Bytes),
    /// An entry; a later one at the same index replaces it and all after it.
    Entry(Entry),
    /// The hard state from here on.
    State(HardState),
    /// The running checksum at the end of the segment before.
    Crc(u32),
    /// A snapshot.
    Mark(Mark),
}
