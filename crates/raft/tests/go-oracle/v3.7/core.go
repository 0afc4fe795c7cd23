// The types of go.etcd.io/raft/v3 v3.7: pointers, and fields that may be missing.
package main

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

type wire = *pb.Message

func kindOf(m wire) uint64      { return uint64(m.GetType()) }
func responsesOf(m wire) []wire { return m.GetResponses() }
func hasSnapshot(m wire) bool   { return m.GetSnapshot().GetMetadata().GetIndex() > 0 }
func weight(e entry) uint64     { return uint64(proto.Size(toEntry(e))) }
func hardState(s raft.BasicStatus) (term, vote, commit uint64) {
	return s.GetTerm(), s.GetVote(), s.GetCommit()
}

// splitResponses takes those responses out that are chosen by kind and receiver.
func splitResponses(m wire, chosen func(kind, to uint64) bool) (taken []wire, rest wire) {
	var kept []wire
	for _, r := range m.GetResponses() {
		if chosen(kindOf(r), r.GetTo()) {
			taken = append(taken, r)
		} else {
			kept = append(kept, r)
		}
	}
	m.Responses = kept
	return taken, m
}

func optional(n uint64) *uint64 {
	if n == 0 {
		return nil
	}
	return &n
}

// toEntry leaves out what is zero, as etcd does when it proposes.
func toEntry(e entry) *pb.Entry {
	to := &pb.Entry{Term: optional(e.term), Index: optional(e.index)}
	if e.kind != 0 {
		to.Type = pb.EntryType(e.kind).Enum()
	}
	if len(e.data) > 0 {
		to.Data = e.data
	}
	return to
}

func toEntries(from []entry) (to []*pb.Entry) {
	for _, e := range from {
		to = append(to, toEntry(e))
	}
	return to
}

func toConfState(m members) *pb.ConfState {
	return &pb.ConfState{Voters: m.voters, Learners: m.learners, AutoLeave: new(false)}
}

func toSnapshot(s snapshot) *pb.Snapshot {
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index: new(s.index), Term: new(s.term), ConfState: toConfState(s.members),
	}}
}

func toWire(m message) wire {
	to := &pb.Message{
		Type: pb.MessageType(m.kind).Enum(), From: new(m.from), To: new(m.to), Term: optional(m.term),
		LogTerm: new(m.logTerm), Index: new(m.index), Commit: new(m.commit), Reject: new(m.reject), RejectHint: new(m.hint),
		Context: m.context, Entries: toEntries(m.entries),
	}
	if m.snap != nil {
		to.Snapshot = toSnapshot(*m.snap)
	}
	return to
}

func fromWire(m wire) message {
	from := message{
		kind: kindOf(m), from: m.GetFrom(), to: m.GetTo(), term: m.GetTerm(), logTerm: m.GetLogTerm(), index: m.GetIndex(),
		commit: m.GetCommit(), reject: m.GetReject(), hint: m.GetRejectHint(), context: m.GetContext(),
	}
	if hasSnapshot(m) {
		meta := m.GetSnapshot().GetMetadata()
		conf := meta.GetConfState()
		from.snap = &snapshot{meta.GetIndex(), meta.GetTerm(), members{conf.GetVoters(), conf.GetLearners()}}
	}
	for _, e := range m.GetEntries() {
		from.entries = append(from.entries, entry{uint64(e.GetType()), e.GetTerm(), e.GetIndex(), e.GetData()})
	}
	return from
}

func applyChange(rn *raft.RawNode, kind, target uint64) members {
	conf := rn.ApplyConfChange(&pb.ConfChange{Type: pb.ConfChangeType(kind).Enum(), NodeId: new(target)})
	return members{conf.GetVoters(), conf.GetLearners()}
}

func (s *storage) InitialState() (*pb.HardState, *pb.ConfState, error) {
	hard := &pb.HardState{Term: new(s.term), Vote: new(s.vote), Commit: new(s.commit)}
	return hard, toConfState(s.members), nil
}

func (s *storage) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
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

func (s *storage) Snapshot() (*pb.Snapshot, error) {
	if s.applied < s.base || s.applied > s.last() {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return toSnapshot(snapshot{s.applied, s.termAt(s.applied), s.members}), nil
}
