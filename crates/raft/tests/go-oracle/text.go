package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/raft/v3/raftpb"
)

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func ids(list []uint64) string {
	var parts []string
	for _, id := range list {
		parts = append(parts, fmt.Sprint(id))
	}
	return strings.Join(parts, "+")
}

func parseIDs(text string) (list []uint64) {
	for _, part := range strings.Split(text, "+") {
		if part != "" {
			list = append(list, number(part))
		}
	}
	return list
}

// kind:term:index:hex, joined by commas; "-" for none.
func entriesText(ents []*pb.Entry) string {
	if len(ents) == 0 {
		return "-"
	}
	var parts []string
	for _, e := range ents {
		parts = append(parts, fmt.Sprintf("%d:%d:%d:%x", e.GetType(), e.GetTerm(), e.GetIndex(), e.GetData()))
	}
	return strings.Join(parts, ",")
}

func parseEntries(text string) (ents []*pb.Entry) {
	if text == "-" {
		return nil
	}
	for _, part := range strings.Split(text, ",") {
		f := strings.Split(part, ":")
		e := &pb.Entry{}
		if f[0] != "0" {
			e.Type = pb.EntryType(number(f[0])).Enum()
		}
		if n := number(f[1]); n > 0 {
			e.Term = new(n)
		}
		if n := number(f[2]); n > 0 {
			e.Index = new(n)
		}
		if data, err := hex.DecodeString(f[3]); err != nil {
			panic(err)
		} else if len(data) > 0 {
			e.Data = data
		}
		ents = append(ents, e)
	}
	return ents
}

// type from to term logterm index commit reject hint context snapshot entries
func messageText(m *pb.Message) string {
	snap := "-"
	if s := m.GetSnapshot(); s != nil && s.GetMetadata().GetIndex() > 0 {
		meta := s.GetMetadata()
		conf := meta.GetConfState()
		snap = fmt.Sprintf("%d:%d:%s:%s", meta.GetIndex(), meta.GetTerm(), ids(conf.GetVoters()), ids(conf.GetLearners()))
	}
	reject := 0
	if m.GetReject() {
		reject = 1
	}
	context := "-"
	if len(m.GetContext()) > 0 {
		context = hex.EncodeToString(m.GetContext())
	}
	return fmt.Sprintf("%d %d %d %d %d %d %d %d %d %s %s %s", m.GetType(), m.GetFrom(), m.GetTo(), m.GetTerm(),
		m.GetLogTerm(), m.GetIndex(), m.GetCommit(), reject, m.GetRejectHint(), context, snap, entriesText(m.GetEntries()))
}

func parseMessage(f []string) *pb.Message {
	m := &pb.Message{
		Type: pb.MessageType(number(f[0])).Enum(), From: new(number(f[1])), To: new(number(f[2])),
		LogTerm: new(number(f[4])), Index: new(number(f[5])), Commit: new(number(f[6])),
		Reject: new(f[7] == "1"), RejectHint: new(number(f[8])), Entries: parseEntries(f[11]),
	}
	if term := number(f[3]); term > 0 {
		m.Term = new(term)
	}
	if f[9] != "-" {
		m.Context, _ = hex.DecodeString(f[9])
	}
	if f[10] != "-" {
		s := strings.Split(f[10], ":")
		conf := &pb.ConfState{Voters: parseIDs(s[2]), Learners: parseIDs(s[3]), AutoLeave: new(false)}
		m.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
			Index: new(number(s[0])), Term: new(number(s[1])), ConfState: conf,
		}}
	}
	return m
}
