package main

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// A history is all that happened to a store since its first revision, put together from what
// watchers of everything were told. Every revision changes something, so it has no gaps.
type history struct {
	mutex sync.Mutex
	// The changes of revision n+2; revision 1 is the empty store.
	revisions []change
	keys      map[string][]version
}

// A change is what one revision did.
type change struct {
	events []*mvccpb.Event
	// When the first watcher told of it.
	heard time.Time
}

// A version is what a key held from a revision on; nil: nothing.
type version struct {
	revision int64
	kv       *mvccpb.KeyValue
}

func newHistory() *history { return &history{keys: map[string][]version{}} }

func (h *history) last() int64 {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return int64(len(h.revisions)) + 1
}

// at is what a key held at a revision.
func (h *history) at(key string, revision int64) *mvccpb.KeyValue {
	versions := h.keys[key]
	n := sort.Search(len(versions), func(i int) bool { return versions[i].revision > revision })
	if n == 0 {
		return nil
	}
	return versions[n-1].kv
}

// all is what the store held at a revision, by key.
func (h *history) all(revision int64) []*mvccpb.KeyValue {
	var held []*mvccpb.KeyValue
	for key := range h.keys {
		if kv := h.at(key, revision); kv != nil {
			held = append(held, kv)
		}
	}
	slices.SortFunc(held, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return held
}

// tell takes what a watcher was told of one revision: the first one's word is held against what was
// before it, everybody else's against the first one's.
func (h *history) tell(revision int64, events []*mvccpb.Event) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	known := int64(len(h.revisions)) + 1
	if revision > known+1 {
		return fmt.Errorf("revision %d comes after %d", revision, known)
	}
	if revision <= known {
		told := h.revisions[revision-2].events
		if !slices.EqualFunc(told, events, func(a, b *mvccpb.Event) bool { return proto.Equal(a, b) }) {
			return fmt.Errorf("revision %d was told as %v and as %v", revision, told, events)
		}
		return nil
	}
	for _, event := range events {
		if err := h.fits(revision, event); err != nil {
			return fmt.Errorf("revision %d: %w: %v", revision, err, event)
		}
	}
	h.revisions = append(h.revisions, change{events, time.Now()})
	for _, event := range events {
		kv := event.Kv
		if event.Type == mvccpb.Event_DELETE {
			kv = nil
		}
		key := string(event.Kv.Key)
		h.keys[key] = append(h.keys[key], version{revision, kv})
	}
	return nil
}

// fits tells whether an event can follow what the key held, and tells that truly.
func (h *history) fits(revision int64, event *mvccpb.Event) error {
	before := h.at(string(event.Kv.Key), revision-1)
	if !proto.Equal(before, event.PrevKv) && (before != nil || event.PrevKv != nil) {
		return fmt.Errorf("the key held %v", before)
	}
	if event.Kv.ModRevision != revision {
		return fmt.Errorf("mod_revision %d", event.Kv.ModRevision)
	}
	created, count := revision, int64(1)
	switch {
	case event.Type == mvccpb.Event_DELETE && before == nil:
		return fmt.Errorf("nothing was there to delete")
	case event.Type == mvccpb.Event_DELETE:
		return nil
	case before != nil:
		created, count = before.CreateRevision, before.Version+1
	}
	if event.Kv.CreateRevision != created || event.Kv.Version != count {
		return fmt.Errorf("created at %d, version %d expected", created, count)
	}
	return nil
}

// A fact is what an answer said of the store at a revision; it is looked at when the history of that
// revision is known.
type fact struct {
	revision int64
	holds    func(h *history) error
}

// held is the fact that a key held something.
func held(key string, revision int64, kv *mvccpb.KeyValue) fact {
	return fact{revision, func(h *history) error {
		if before := h.at(key, revision); !sameKey(before, kv) {
			return fmt.Errorf("%s at %d was answered as %v, it held %v", key, revision, kv, before)
		}
		return nil
	}}
}

// heldAll is the fact that the store held just these.
func heldAll(revision int64, kvs []*mvccpb.KeyValue) fact {
	return fact{revision, func(h *history) error {
		if all := h.all(revision); !slices.EqualFunc(all, kvs, sameKey) {
			return fmt.Errorf("all at %d was answered with %d keys, there were %d:\n%v\n%v",
				revision, len(kvs), len(all), kvs, all)
		}
		return nil
	}}
}

// wrote is the fact that a revision did just what an operation asked for.
func wrote(o *operation, revision int64) fact {
	return fact{revision, func(h *history) error {
		if !o.did(h.revisions[revision-2].events) {
			return fmt.Errorf("operation %d (%s of %v) was acknowledged at %d, which did %v",
				o.number, o.kind, o.keys, revision, h.revisions[revision-2].events)
		}
		return nil
	}}
}

func sameKey(a, b *mvccpb.KeyValue) bool {
	return a == nil && b == nil || a != nil && b != nil && proto.Equal(a, b)
}

// An operation is something that may have changed the store.
type operation struct {
	number int64
	kind   string // put (of one or more keys, in this order), delete, revoke
	keys   []string
	value  string // of all keys; no other operation writes it
	lease  int64
	begun  time.Time
	// The highest revision that anybody had seen then: the operation comes later.
	floor int64
	// Refused for good, or told that there was nothing to do: it must not have happened.
	refused bool
	// The revision of the answer, if one came.
	acknowledged int64
}

// did tells whether these events are what the operation does.
func (o *operation) did(events []*mvccpb.Event) bool {
	if o.kind == "revoke" {
		return !slices.ContainsFunc(events, func(e *mvccpb.Event) bool {
			return e.Type != mvccpb.Event_DELETE || e.PrevKv.Lease != o.lease
		})
	}
	return slices.EqualFunc(o.keys, events, func(key string, e *mvccpb.Event) bool {
		if string(e.Kv.Key) != key {
			return false
		}
		if o.kind == "delete" {
			return e.Type == mvccpb.Event_DELETE
		}
		return e.Type == mvccpb.Event_PUT && string(e.Kv.Value) == o.value && e.Kv.Lease == o.lease
	})
}

// A ledger is all operations that were begun. It must explain all that happened.
type ledger struct {
	byValue map[string]*operation
	deletes map[string][]*operation
	leases  map[int64]*tenure
	// Whose effect was seen, and where.
	effects map[int64]int64
	// Up to here all is explained.
	explained int64
}

// A tenure is a lease as its owner knows it.
type tenure struct {
	granted time.Time // when it was asked for
	ttl     time.Duration
	// Its owner asked to end it, or lets it end.
	mortal, revoked bool
}

func newLedger() *ledger {
	return &ledger{map[string]*operation{}, map[string][]*operation{}, map[int64]*tenure{}, map[int64]int64{}, 1}
}

// explain finds the operation behind each revision up to the given one, and for none two.
func (l *ledger) explain(h *history, upto int64) error {
	for ; l.explained < upto; l.explained++ {
		revision := l.explained + 1
		change := h.revisions[revision-2]
		o, err := l.cause(change)
		if err != nil {
			return fmt.Errorf("revision %d: %w: %v", revision, err, change.events)
		}
		if o == nil {
			continue
		}
		if other, ok := l.effects[o.number]; ok {
			return fmt.Errorf("operation %d happened twice, at %d and %d: %v", o.number, other, revision, change.events)
		}
		if o.refused || revision <= o.floor {
			return fmt.Errorf("operation %d (refused: %v) began after revision %d and happened at %d", o.number, o.refused, o.floor, revision)
		}
		l.effects[o.number] = revision
	}
	return nil
}

// cause is the operation that a change came from; nil for the end of a lease.
func (l *ledger) cause(c change) (*operation, error) {
	first := c.events[0]
	if first.Type == mvccpb.Event_PUT {
		if o := l.byValue[string(first.Kv.Value)]; o != nil && o.did(c.events) {
			return o, nil
		}
		return nil, fmt.Errorf("nobody asked for that")
	}
	lease := first.PrevKv.Lease
	if o := l.delete(c); o != nil {
		return o, nil
	}
	tenure := l.leases[lease]
	switch {
	case lease == 0 || tenure == nil || !(&operation{kind: "revoke", lease: lease}).did(c.events):
		return nil, fmt.Errorf("nobody asked for that deletion")
	case !tenure.mortal && !tenure.revoked:
		return nil, fmt.Errorf("lease %x was kept alive and ended", lease)
	case !tenure.revoked && c.heard.Before(tenure.granted.Add(tenure.ttl)):
		return nil, fmt.Errorf("lease %x ended after %s", lease, c.heard.Sub(tenure.granted))
	}
	return nil, nil
}

// delete is a deletion of the changed key that may have happened then, and is not known to have happened
// at another time.
func (l *ledger) delete(c change) *operation {
	if len(c.events) != 1 {
		return nil
	}
	revision := c.events[0].Kv.ModRevision
	var may *operation
	for _, o := range l.deletes[string(c.events[0].Kv.Key)] {
		if _, used := l.effects[o.number]; used || o.refused || !o.did(c.events) {
			continue
		}
		if o.acknowledged == revision {
			return o
		}
		if o.acknowledged == 0 && o.floor < revision {
			may = o
		}
	}
	return may
}
