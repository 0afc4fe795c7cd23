// The types of go.etcd.io/raft/v3 v3.6: values.
package main

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

type wire = pb.Message

func kindOf(m wire) uint64      { return uint64(m.Type) }
func responsesOf(m wire) []wire { return m.Responses }
func hasSnapshot(m wire) bool   { return m.Snapshot != nil && m.Snapshot.Metadata.Index > 0 }
func hardState(s raft.BasicStatus) (term, vote, commit uint64) {
	return s.Term, s.Vote, s.Commit
}

func weight(e entry) uint64 {
	to := toEntry(e)
	return uint64(to.Size())
}

// splitResponses takes those responses out that are chosen by kind and receiver.
func splitResponses(m wire, chosen func(kind, to uint64) bool) (taken []wire, rest wire) {
	var kept []wire
	for _, r := range m.Responses {
		if chosen(kindOf(r), r.To) {
			taken = append(taken, r)
		} else {
			kept = append(kept, r)
		}
	}
	m.Responses = kept
	return taken, m
}

func toEntry(e entry) pb.Entry {
	to := pb.Entry{Type: pb.EntryType(e.kind), Term: e.term, Index: e.index}
	if len(e.data) > 0 {
		to.Data = e.data
	}
	return to
}

func toEntries(from []entry) (to []pb.Entry) {
	for _, e := range from {
		to = append(to, toEntry(e))
	}
	return to
}

func toConfState(m members) pb.ConfState {
	return pb.ConfState{Voters: m.voters, Learners: m.learners}
}

func toSnapshot(s snapshot) pb.Snapshot {
	return pb.Snapshot{Metadata: pb.SnapshotMetadata{Index: s.index, Term: s.term, ConfState: toConfState(s.members)}}
}

func toWire(m message) wire {
	to := pb.Message{
		Type: pb.MessageType(m.kind), From: m.from, To: m.to, Term: m.term, LogTerm: m.logTerm, Index: m.index,
		Commit: m.commit, Reject: m.reject, RejectHint: m.hint, Context: m.context, Entries: toEntries(m.entries),
	}
	if m.snap != nil {
		snap := toSnapshot(*m.snap)
		to.Snapshot = &snap
	}
	return to
}

func fromWire(m wire) message {
	from := message{
		kind: kindOf(m), from: m.From, to: m.To, term: m.Term, logTerm: m.LogTerm, index: m.Index, commit: m.Commit,
		reject: m.Reject, hint: m.RejectHint, context: m.Context,
	}
	if hasSnapshot(m) {
		meta := m.Snapshot.Metadata
		from.snap = &snapshot{meta.Index, meta.Term, members{meta.ConfState.Voters, meta.ConfState.Learners}}
	}
	for _, e := range m.Entries {
		from.entries = append(from.entries, entry{uint64(e.Type), e.Term, e.Index, e.Data})
	}
	return from
}

func applyChange(rn *raft.RawNode, kind, target uint64) members {
	conf := rn.ApplyConfChange(pb.ConfChange{Type: pb.ConfChangeType(kind), NodeID: target})
	return members{conf.Voters, conf.Learners}
}

func (s *storage) InitialState() (pb.HardState, pb.ConfState, error) {
	return pb.HardState{Term: s.term, Vote: s.vote, Commit: s.commit}, toConfState(s.members), nil
}

func (s *storage) Entries(lo, hi, maxSize uint64) ([]pb.Entry, error) {
	if lo <= s.base {
		return nil, raft.ErrCompacted
	}
	if hi > s.last()+1 {
		return nil, raft.ErrUnavailable
	}
	return toEntries(s.limited(lo, hi, maxSize)), nil
}

func (s *storage) Term(i uint64) (uint64, error) {
	if i < s.base {
		return 0, raft.ErrCompacted
	}
	if i > s.last() {
		return 0, raft.ErrUnavailable
	}
	return s.termAt(i), nil
}

func (s *storage) Snapshot() (pb.Snapshot, error) {
	if s.applied < s.base || s.applied > s.last() {
		return pb.Snapshot{}, raft.ErrSnapshotTemporarilyUnavailable
	}
	return toSnapshot(snapshot{s.applied, s.termAt(s.applied), s.members}), nil
}
