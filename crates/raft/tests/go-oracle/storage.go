package main

import (
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// storage is a log as the driver describes it. Its snapshot is always the state of now.
type storage struct {
	hard    *pb.HardState
	conf    *pb.ConfState
	applied uint64
	base    uint64
	term    uint64
	entries []*pb.Entry
}

func (s *storage) InitialState() (*pb.HardState, *pb.ConfState, error) { return s.hard, s.conf, nil }
func (s *storage) FirstIndex() (uint64, error)                         { return s.base + 1, nil }
func (s *storage) LastIndex() (uint64, error)                          { return s.base + uint64(len(s.entries)), nil }

func (s *storage) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	if lo <= s.base {
		return nil, raft.ErrCompacted
	}
	if hi > s.base+uint64(len(s.entries))+1 {
		return nil, raft.ErrUnavailable
	}
	ents := s.entries[lo-s.base-1 : hi-s.base-1]
	var size uint64
	for i, e := range ents {
		size += uint64(proto.Size(e))
		if i > 0 && size > maxSize {
			ents = ents[:i]
			break
		}
	}
	return slices.Clone(ents), nil
}

func (s *storage) Term(i uint64) (uint64, error) {
	switch {
	case i < s.base:
		return 0, raft.ErrCompacted
	case i == s.base:
		return s.term, nil
	case i > s.base+uint64(len(s.entries)):
		return 0, raft.ErrUnavailable
	}
	return s.entries[i-s.base-1].GetTerm(), nil
}

func (s *storage) Snapshot() (*pb.Snapshot, error) {
	term, err := s.Term(s.applied)
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	conf := proto.Clone(s.conf).(*pb.ConfState)
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(s.applied), Term: new(term), ConfState: conf}}, nil
}

// write makes one append request durable.
func (s *storage) write(m *pb.Message) {
	if snap := m.GetSnapshot(); snap != nil && snap.GetMetadata().GetIndex() > 0 {
		meta := snap.GetMetadata()
		s.base, s.term, s.entries = meta.GetIndex(), meta.GetTerm(), nil
		s.conf = meta.GetConfState()
		s.applied = meta.GetIndex()
	}
	if ents := m.GetEntries(); len(ents) > 0 {
		s.entries = append(slices.Clip(s.entries[:ents[0].GetIndex()-s.base-1]), ents...)
	}
}

func (s *storage) compact(to uint64) {
	if to <= s.base {
		return
	}
	term, err := s.Term(to)
	if err != nil {
		panic(err)
	}
	s.entries = slices.Clone(s.entries[to-s.base:])
	s.base, s.term = to, term
}
