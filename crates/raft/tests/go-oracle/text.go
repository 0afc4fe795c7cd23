package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// What raftpb says, without its types.
type (
	entry struct {
		kind, term, index uint64
		data              []byte
	}
	members  struct{ voters, learners []uint64 }
	snapshot struct {
		index, term uint64
		members     members
	}
	message struct {
		kind, from, to, term, logTerm, index, commit uint64
		reject                                       bool
		hint                                         uint64
		context                                      []byte
		snap                                         *snapshot
		entries                                      []entry
	}
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
		parts = append(parts, strconv.FormatUint(id, 10))
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
func entriesText(entries []entry) string {
	if len(entries) == 0 {
		return "-"
	}
	var parts []string
	for _, e := range entries {
		parts = append(parts, fmt.Sprintf("%d:%d:%d:%x", e.kind, e.term, e.index, e.data))
	}
	return strings.Join(parts, ",")
}

func parseEntries(text string) (entries []entry) {
	if text == "-" {
		return nil
	}
	for _, part := range strings.Split(text, ",") {
		f := strings.Split(part, ":")
		data, err := hex.DecodeString(f[3])
		if err != nil {
			panic(err)
		}
		entries = append(entries, entry{number(f[0]), number(f[1]), number(f[2]), data})
	}
	return entries
}

// type from to term logterm index commit reject hint context snapshot entries
func messageText(m message) string {
	snap := "-"
	if s := m.snap; s != nil {
		snap = fmt.Sprintf("%d:%d:%s:%s", s.index, s.term, ids(s.members.voters), ids(s.members.learners))
	}
	reject := 0
	if m.reject {
		reject = 1
	}
	context := "-"
	if len(m.context) > 0 {
		context = hex.EncodeToString(m.context)
	}
	return fmt.Sprintf("%d %d %d %d %d %d %d %d %d %s %s %s", m.kind, m.from, m.to, m.term, m.logTerm, m.index, m.commit,
		reject, m.hint, context, snap, entriesText(m.entries))
}

func parseMessage(f []string) message {
	m := message{
		kind: number(f[0]), from: number(f[1]), to: number(f[2]), term: number(f[3]), logTerm: number(f[4]),
		index: number(f[5]), commit: number(f[6]), reject: f[7] == "1", hint: number(f[8]), entries: parseEntries(f[11]),
	}
	if f[9] != "-" {
		m.context, _ = hex.DecodeString(f[9])
	}
	if f[10] != "-" {
		s := strings.Split(f[10], ":")
		m.snap = &snapshot{number(s[0]), number(s[1]), members{parseIDs(s[2]), parseIDs(s[3])}}
	}
	return m
}
