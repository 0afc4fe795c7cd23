package main

import "slices"

// storage is a log as the driver describes it. Its snapshot is always the state of now.
type storage struct {
	term, vote, commit uint64
	members            members
	applied            uint64
	base, baseTerm     uint64
	entries            []entry
}

func (s *storage) FirstIndex() (uint64, error) { return s.base + 1, nil }
func (s *storage) LastIndex() (uint64, error)  { return s.last(), nil }
func (s *storage) last() uint64                { return s.base + uint64(len(s.entries)) }

// limited are entries [lo, hi): at least one, then as many as weigh at most maxSize together.
func (s *storage) limited(lo, hi, maxSize uint64) []entry {
	entries := s.entries[lo-s.base-1 : hi-s.base-1]
	var size uint64
	for i, e := range entries {
		size += weight(e)
		if i > 0 && size > maxSize {
			return entries[:i]
		}
	}
	return entries
}

// termAt is the term of an entry that is there.
func (s *storage) termAt(i uint64) uint64 {
	if i == s.base {
		return s.baseTerm
	}
	return s.entries[i-s.base-1].term
}

// write makes one append request durable.
func (s *storage) write(m message) {
	if m.snap != nil {
		s.base, s.baseTerm, s.entries = m.snap.index, m.snap.term, nil
		s.members = m.snap.members
		s.applied = m.snap.index
	}
	if len(m.entries) > 0 {
		s.entries = append(slices.Clip(s.entries[:m.entries[0].index-s.base-1]), m.entries...)
	}
}

func (s *storage) compact(to uint64) {
	if to <= s.base {
		return
	}
	term := s.termAt(to)
	s.entries = slices.Clone(s.entries[to-s.base:])
	s.base, s.baseTerm = to, term
}
