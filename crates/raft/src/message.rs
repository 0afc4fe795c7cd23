//! What members say to each other and what they write down: plain data, no rules.
//!
//! Field by field these are the messages of etcd's raftpb, so that the transport can carry them to Go members; the
//! encoding is not known here. Entry data are [`Bytes`] and are never copied.

use bytes::Bytes;

/// The id that no member has: "no leader", "no vote", "no change".
pub const NONE: u64 = 0;

/// What an entry means to the core (raftpb.EntryType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum EntryKind {
    /// Data of the application; empty data is the entry with which a leader opens its term.
    #[default]
    Normal,
    /// One change of the membership, which the caller decodes and gives to [`crate::Raft::apply_conf_change`].
    ConfChange,
    /// A change of etcd's second format. No etcd writes it; meeting one is fatal ([`crate::Fatal::JointConsensus`]).
    ConfChangeV2,
}

impl EntryKind {
    /// The number on the wire and in the log.
    pub fn wire(self) -> u8 {
        self as u8
    }

    /// The kind with this number on the wire and in the log, if there is one.
    pub fn from_wire(number: u64) -> Option<EntryKind> {
        match number {
            0 => Some(EntryKind::Normal),
            1 => Some(EntryKind::ConfChange),
            2 => Some(EntryKind::ConfChangeV2),
            _ => None,
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// What the data are.
    pub kind: EntryKind,
    /// The term of the leader that appended it; 0 while it is a forwarded proposal.
    pub term: u64,
    /// The place in the log, from 1; 0 while it is a forwarded proposal.
    pub index: u64,
    /// The payload, shared and never copied.
    pub data: Bytes,
}

impl Entry {
    /// What the entry weighs against size limits: its size in protobuf, as Go counts it.
    pub fn encoded_bytes(&self) -> u64 {
        let field = |number: u64| if number == 0 { 0 } else { 1 + varint_bytes(number) };
        let data = self.data.len() as u64;
        let data = if data == 0 {
            0
        } else {
            1 + varint_bytes(data) + data
        };
        field(u64::from(self.kind.wire())) + field(self.term) + field(self.index) + data
    }
}

/// The bytes that a number takes as a protobuf varint.
fn varint_bytes(number: u64) -> u64 {
    u64::from((64 - (number | 1).leading_zeros()).div_ceil(7))
}

/// What a member must not forget, apart from its log (raftpb.HardState).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The latest term that the member has seen.
    pub term: u64,
    /// Whom it voted for in that term; [`NONE`] if for nobody.
    pub vote: u64,
    /// How far the log is known to be committed. It may lag: it is written, but not synced for its own sake.
    pub commit: u64,
}

/// The membership at a place in the log (raftpb.ConfState). The lists are sorted and without duplicates where they
/// come from this crate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfState {
    /// Members that vote and count.
    pub voters: Vec<u64>,
    /// Members that only follow.
    pub learners: Vec<u64>,
    /// Only in a joint configuration, which no etcd has: must be empty.
    pub voters_outgoing: Vec<u64>,
    /// Only in a joint configuration, which no etcd has: must be empty.
    pub learners_next: Vec<u64>,
    /// Only in a joint configuration, which no etcd has: must be false.
    pub auto_leave: bool,
}

impl ConfState {
    /// Whether this is a configuration of two overlapping quorums, which is not supported.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty() || !self.learners_next.is_empty() || self.auto_leave
    }

    /// Whether the member takes part, as voter or learner.
    pub fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }
}

/// What a membership change does (raftpb.ConfChangeType, with its numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ConfChangeKind {
    /// Makes the member a voter; promotes it if it is a learner.
    #[default]
    AddNode,
    /// Takes the member out.
    RemoveNode,
    /// Changes only what the application knows of the member: nothing for the core.
    UpdateNode,
    /// Makes the member a learner.
    AddLearnerNode,
}

impl ConfChangeKind {
    /// The number on the wire.
    pub fn wire(self) -> u8 {
        self as u8
    }

    /// The kind with this number on the wire, if there is one.
    pub fn from_wire(number: u64) -> Option<ConfChangeKind> {
        match number {
            0 => Some(ConfChangeKind::AddNode),
            1 => Some(ConfChangeKind::RemoveNode),
            2 => Some(ConfChangeKind::UpdateNode),
            3 => Some(ConfChangeKind::AddLearnerNode),
            _ => None,
        }
    }
}

/// A membership change that the caller decoded from a committed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfChange {
    /// What it does.
    pub kind: ConfChangeKind,
    /// To whom; [`NONE`] makes the change a no-op (the application refused it when it was applied).
    pub node_id: u64,
}

/// A state of the application at a place in the log (raftpb.Snapshot).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The last entry that it contains.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The membership after that entry.
    pub conf_state: ConfState,
    /// What the application put in; the core only carries it.
    pub data: Bytes,
}

/// The kinds of messages that travel between members, with the numbers of raftpb.MessageType in [`MessageKind::wire`].
/// Go's local kinds (hup, beat, storage threads, ...) are method calls here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// A proposal on its way to the leader; no term, entries without term and index.
    Propose,
    /// Entries after (`index`, `log_term`), and how far the leader has committed.
    Append,
    /// The log matches up to `index`; or `reject`, with a hint.
    AppendResponse,
    /// Asks for a vote in `term`; the candidate's log ends in (`index`, `log_term`).
    Vote,
    /// Grants or rejects a vote.
    VoteResponse,
    /// A snapshot, because the log no longer reaches back far enough.
    Snapshot,
    /// The leader lives; `context` must come back in the response.
    Heartbeat,
    /// Echo of a heartbeat.
    HeartbeatResponse,
    /// Asks the leader to hand over to `from`.
    TransferLeader,
    /// The leader asks a follower to campaign at once.
    TimeoutNow,
    /// Asks the leader for an index at which a linearizable read may be served; the context is in `entries[0].data`.
    ReadIndex,
    /// Answers [`MessageKind::ReadIndex`].
    ReadIndexResponse,
    /// Asks whether a vote would be granted in `term`.
    PreVote,
    /// Answers [`MessageKind::PreVote`].
    PreVoteResponse,
}

impl MessageKind {
    /// All kinds, in the order of their numbers on the wire.
    pub const ALL: [MessageKind; 14] = [
        MessageKind::Propose,
        MessageKind::Append,
        MessageKind::AppendResponse,
        MessageKind::Vote,
        MessageKind::VoteResponse,
        MessageKind::Snapshot,
        MessageKind::Heartbeat,
        MessageKind::HeartbeatResponse,
        MessageKind::TransferLeader,
        MessageKind::TimeoutNow,
        MessageKind::ReadIndex,
        MessageKind::ReadIndexResponse,
        MessageKind::PreVote,
        MessageKind::PreVoteResponse,
    ];

    /// The number on the wire.
    pub fn wire(self) -> u8 {
        match self {
            MessageKind::Propose => 2,
            MessageKind::Append => 3,
            MessageKind::AppendResponse => 4,
            MessageKind::Vote => 5,
            MessageKind::VoteResponse => 6,
            MessageKind::Snapshot => 7,
            MessageKind::Heartbeat => 8,
            MessageKind::HeartbeatResponse => 9,
            MessageKind::TransferLeader => 13,
            MessageKind::TimeoutNow => 14,
            MessageKind::ReadIndex => 15,
            MessageKind::ReadIndexResponse => 16,
            MessageKind::PreVote => 17,
            MessageKind::PreVoteResponse => 18,
        }
    }

    /// The name in raftpb, which log lines show.
    pub fn name(self) -> &'static str {
        match self {
            MessageKind::Propose => "MsgProp",
            MessageKind::Append => "MsgApp",
            MessageKind::AppendResponse => "MsgAppResp",
            MessageKind::Vote => "MsgVote",
            MessageKind::VoteResponse => "MsgVoteResp",
            MessageKind::Snapshot => "MsgSnap",
            MessageKind::Heartbeat => "MsgHeartbeat",
            MessageKind::HeartbeatResponse => "MsgHeartbeatResp",
            MessageKind::TransferLeader => "MsgTransferLeader",
            MessageKind::TimeoutNow => "MsgTimeoutNow",
            MessageKind::ReadIndex => "MsgReadIndex",
            MessageKind::ReadIndexResponse => "MsgReadIndexResp",
            MessageKind::PreVote => "MsgPreVote",
            MessageKind::PreVoteResponse => "MsgPreVoteResp",
        }
    }

    /// The kind with this number on the wire; `None` for local kinds and unknown numbers, which must be dropped.
    pub fn from_wire(number: u64) -> Option<MessageKind> {
        MessageKind::ALL
            .into_iter()
            .find(|kind| u64::from(kind.wire()) == number)
    }

    /// Whether it answers something that this member asked; such messages count only from known members.
    pub fn is_response(self) -> bool {
        matches!(
            self,
            MessageKind::AppendResponse
                | MessageKind::VoteResponse
                | MessageKind::HeartbeatResponse
                | MessageKind::ReadIndexResponse
                | MessageKind::PreVoteResponse
        )
    }
}

/// One message between members (raftpb.Message). Fields that a kind does not use are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// The receiver.
    pub to: u64,
    /// The sender; for [`MessageKind::TransferLeader`] the member that shall lead.
    pub from: u64,
    /// The sender's term, the term asked for in votes, 0 in proposals and read requests.
    pub term: u64,
    /// Term of the entry at `index`; in a rejection the term of the entry at `reject_hint`.
    pub log_term: u64,
    /// A place in the log; see the kinds.
    pub index: u64,
    /// Entries to append, to propose, or one that holds the context of a read.
    pub entries: Vec<Entry>,
    /// How far the receiver may commit.
    pub commit: u64,
    /// Only in [`MessageKind::Snapshot`]. As it leaves the core it names the least place and no membership: the caller
    /// replaces it by a state of the application at that place or a later one.
    pub snapshot: Option<Snapshot>,
    /// Whether a response says no.
    pub reject: bool,
    /// In a rejected append: where the two logs may still agree.
    pub reject_hint: u64,
    /// Of heartbeats and their echoes; of votes that a leadership transfer forces.
    pub context: Bytes,
}

impl Message {
    /// A message with everything else zero.
    pub fn new(kind: MessageKind, to: u64, from: u64, term: u64) -> Message {
        Message {
            kind,
            to,
            from,
            term,
            log_term: 0,
            index: 0,
            entries: Vec::new(),
            commit: 0,
            snapshot: None,
            reject: false,
            reject_hint: 0,
            context: Bytes::new(),
        }
    }
}
