//go:build etcd37

package main

import (
	"fmt"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

type appender struct{ wal *wal.WAL }

func p[T any](value T) *T { return &value }

func confState() *raftpb.ConfState {
	return &raftpb.ConfState{Voters: []uint64{1, 2}, AutoLeave: p(false)}
}

func setSegmentBytes(n int64) { wal.SegmentSizeBytes = n }

func create(dir string) (*appender, error) {
	w, err := wal.Create(zap.NewNop(), dir, []byte("metadata"))
	return &appender{w}, err
}

func open(dir string, index, term uint64) (*appender, error) {
	w, err := wal.Open(zap.NewNop(), dir, &walpb.Snapshot{Index: &index, Term: &term})
	if err != nil {
		return nil, err
	}
	_, _, _, err = w.ReadAll()
	return &appender{w}, err
}

func (a *appender) save(term, first uint64, count, size int, commit uint64) error {
	var entries []*raftpb.Entry
	for i := range count {
		index := first + uint64(i)
		entry := &raftpb.Entry{Term: p(term), Index: p(index), Data: payload(index, size)}
		if i%3 == 1 {
			entry.Type = p(raftpb.EntryConfChangeV2)
		}
		entries = append(entries, entry)
	}
	return a.wal.Save(&raftpb.HardState{Term: p(term), Vote: p(uint64(1)), Commit: p(commit)}, entries)
}

func (a *appender) mark(term, index uint64) error {
	return a.wal.SaveSnapshot(&walpb.Snapshot{Index: &index, Term: &term, ConfState: confState()})
}

func dump(dir string, index, term uint64) error {
	start := &walpb.Snapshot{Index: &index, Term: &term}
	for repaired := false; ; repaired = true {
		w, err := wal.Open(zap.NewNop(), dir, start)
		if err != nil {
			return err
		}
		metadata, state, entries, err := w.ReadAll()
		if err != nil {
			w.Close()
			if repaired || !isTorn(err) || !wal.Repair(zap.NewNop(), dir) {
				return err
			}
			fmt.Println("repaired")
			continue
		}
		fmt.Printf("metadata %x\n", metadata)
		fmt.Printf("state %d %d %d\n", state.GetTerm(), state.GetVote(), state.GetCommit())
		for _, entry := range entries {
			printEntry(int(entry.GetType()), entry.GetTerm(), entry.GetIndex(), entry.Data)
		}
		return w.Close()
	}
}

func marks(dir string) error {
	valid, err := wal.ValidSnapshotEntries(zap.NewNop(), dir)
	for _, mark := range valid {
		fmt.Printf("mark %d %d %v\n", mark.GetTerm(), mark.GetIndex(), mark.GetConfState().GetVoters())
	}
	return err
}

func printSnap(path string) error {
	s, err := snap.Read(zap.NewNop(), path)
	if err != nil {
		return err
	}
	m := s.Metadata
	printSnapshot(m.GetTerm(), m.GetIndex(), m.GetConfState().GetVoters(), s.Data)
	return nil
}

func saveSnap(dir string, term, index uint64, data string) error {
	return snap.New(zap.NewNop(), dir).SaveSnap(&raftpb.Snapshot{
		Data:     []byte(data),
		Metadata: &raftpb.SnapshotMetadata{ConfState: confState(), Index: &index, Term: &term},
	})
}
