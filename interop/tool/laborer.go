package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// Few keys, so that those who work at the same time meet.
	laborerKeys = 60
	// etcd itself gives up a write after 7 s: what a leader that is replaced was told is often lost.
	laborerWait = 10 * time.Second
	// Every other laborer gives up sooner, so that the load goes on.
	laborerHurry = time.Second
	// A lease that is kept alive; it outlives an election, and ends if renewals do not get through.
	keptTTL = 20
	// A lease that nobody keeps alive.
	mortalTTL = 3
	// Leases that a laborer holds before it begins to revoke them.
	leasesMax = 10
)

// A laborer writes and reads through one member, one operation after another, and hands every answer
// to the witness.
type laborer struct {
	witness *witness
	member  int
	random  *rand.Rand
	pause   time.Duration
	wait    time.Duration
	leases  []int64
	acked   atomic.Int64
}

func newLaborer(w *witness, member int, seed int64, pause time.Duration) *laborer {
	l := &laborer{witness: w, member: member, random: rand.New(rand.NewSource(seed)), pause: pause, wait: laborerWait}
	if seed%2 == 1 {
		l.wait = laborerHurry
	}
	return l
}

func (l *laborer) client() *clientv3.Client { return l.witness.clients[l.member] }

func (l *laborer) key() string { return fmt.Sprintf("load/%03d", l.random.Intn(laborerKeys)) }

func (l *laborer) work(ctx context.Context) {
	for !l.witness.halt.Load() {
		ctx, cancel := context.WithTimeout(ctx, l.wait)
		err := l.step(ctx)
		cancel()
		if err == nil {
			l.acked.Add(1)
			l.witness.acked.Add(1)
		}
		time.Sleep(l.pause)
	}
}

// step does one operation.
func (l *laborer) step(ctx context.Context) error {
	switch dice := l.random.Intn(100); {
	case dice < 40:
		return l.put(ctx, l.key(), 0)
	case dice < 55:
		return l.swap(ctx)
	case dice < 65:
		return l.delete(ctx)
	case dice < 80:
		return l.read(ctx)
	case dice < 84:
		return l.readAll(ctx)
	case dice < 90 && len(l.leases) > 0:
		return l.put(ctx, l.key(), l.leases[l.random.Intn(len(l.leases))])
	case dice < 93 && !l.witness.noLeases.Load():
		return l.lease(ctx)
	case dice < 94 && !l.witness.noLeases.Load():
		return l.mortal(ctx)
	default:
		return l.put(ctx, l.key(), 0)
	}
}

// begin puts an operation into the ledger.
func (w *witness) begin(kind string, lease int64, keys ...string) *operation {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.counter++
	o := &operation{number: w.counter, kind: kind, keys: keys, lease: lease, begun: time.Now(), floor: w.seen.Load()}
	switch kind {
	case "put":
		o.value = fmt.Sprintf("%d-%s", o.number, strings.Repeat("v", int(o.number*7919%400)))
		w.ledger.byValue[o.value] = o
	case "delete":
		w.ledger.deletes[keys[0]] = append(w.ledger.deletes[keys[0]], o)
	case "revoke":
		w.ledger.leases[lease].revoked = true
	}
	return o
}

// end notes what became of an operation. A refusal for good means that nothing happened; after any other
// error it may have happened, or may happen yet.
func (w *witness) end(o *operation, revision int64, err error, facts ...fact) {
	if err == nil {
		if revision <= o.floor {
			w.fail(fmt.Errorf("operation %d (%s of %v) was acknowledged at %d; it began after %d was seen",
				o.number, o.kind, o.keys, revision, o.floor))
		}
		w.see(revision)
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	switch {
	case err == nil:
		o.acknowledged = revision
		w.facts = append(w.facts, wrote(o, revision))
	case definite(err):
		o.refused = true
	}
	w.facts = append(w.facts, facts...)
}

func (l *laborer) put(ctx context.Context, key string, lease int64) error {
	o := l.witness.begin("put", lease, key)
	answer, err := l.client().Put(ctx, key, o.value, clientv3.WithPrevKV(), clientv3.WithLease(clientv3.LeaseID(lease)))
	if err != nil {
		l.witness.end(o, 0, err)
		return err
	}
	revision := answer.Header.Revision
	l.witness.end(o, revision, nil, held(key, revision-1, answer.PrevKv))
	return nil
}

// swap writes two keys if the first is as it was just read.
func (l *laborer) swap(ctx context.Context) error {
	a, b := l.key(), l.key()
	if a == b {
		return nil
	}
	before, err := l.client().Get(ctx, a, clientv3.WithSerializable())
	if err != nil {
		return err
	}
	var modified int64
	for _, kv := range before.Kvs {
		modified = kv.ModRevision
	}
	o := l.witness.begin("put", 0, a, b)
	answer, err := l.client().Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(a), "=", modified)).
		Then(clientv3.OpPut(a, o.value), clientv3.OpPut(b, o.value)).Else(clientv3.OpGet(a)).Commit()
	switch {
	case err != nil:
		l.witness.end(o, 0, err)
		return err
	case answer.Succeeded:
		revision := answer.Header.Revision
		l.witness.end(o, revision, nil, fact{revision, func(h *history) error {
			if was := h.at(a, revision-1).GetModRevision(); was != modified {
				return fmt.Errorf("a transaction at %d took %s to be of %d, it was of %d", revision, a, modified, was)
			}
			return nil
		}})
	default:
		l.refuse(o, answer.Header.Revision)
		got := answer.Responses[0].GetResponseRange().Kvs
		if len(got) == 1 && got[0].ModRevision == modified || len(got) == 0 && modified == 0 {
			l.witness.fail(fmt.Errorf("a transaction failed since %s was not of %d, and read %v", a, modified, got))
		}
		l.witness.record(held(a, answer.Header.Revision, only(got)))
	}
	return nil
}

// refuse notes that an operation had nothing to do.
func (l *laborer) refuse(o *operation, revision int64) {
	l.witness.mutex.Lock()
	o.refused = true
	l.witness.mutex.Unlock()
	l.saw(o.floor, revision)
}

// saw notes that a linearizable answer, asked for when `floor` had been seen, showed a revision.
func (l *laborer) saw(floor, revision int64) {
	if revision < floor {
		l.witness.fail(fmt.Errorf("member %d answered at %d when %d had been seen", l.member, revision, floor))
	}
	l.witness.see(revision)
}

func (l *laborer) delete(ctx context.Context) error {
	key := l.key()
	o := l.witness.begin("delete", 0, key)
	answer, err := l.client().Delete(ctx, key, clientv3.WithPrevKV())
	if err != nil {
		l.witness.end(o, 0, err)
		return err
	}
	revision := answer.Header.Revision
	if answer.Deleted == 0 {
		l.refuse(o, revision)
		l.witness.record(held(key, revision, nil))
		return nil
	}
	l.witness.end(o, revision, nil, held(key, revision-1, only(answer.PrevKvs)))
	return nil
}

func only[T any](list []*T) *T {
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func (l *laborer) read(ctx context.Context) error {
	key, floor := l.key(), l.witness.seen.Load()
	answer, err := l.client().Get(ctx, key)
	if err != nil {
		return err
	}
	l.saw(floor, answer.Header.Revision)
	l.witness.reads.Add(1)
	l.witness.record(held(key, answer.Header.Revision, only(answer.Kvs)))
	return nil
}

// readAll reads everything, as the member has it.
func (l *laborer) readAll(ctx context.Context) error {
	answer, err := l.client().Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithSerializable())
	if err != nil {
		return err
	}
	l.witness.see(answer.Header.Revision)
	l.witness.reads.Add(1)
	l.witness.record(heldAll(answer.Header.Revision, answer.Kvs))
	return nil
}

// lease grants a lease for long, and revokes one when there are enough.
func (l *laborer) lease(ctx context.Context) error {
	if len(l.leases) >= leasesMax {
		id := l.leases[0]
		l.leases = slices.Delete(l.leases, 0, 1)
		l.witness.begin("revoke", id)
		_, err := l.client().Revoke(ctx, clientv3.LeaseID(id))
		return err
	}
	id, err := l.witness.grant(ctx, l.client(), 3600+l.random.Int63n(1000), false)
	if err == nil {
		l.leases = append(l.leases, id)
	}
	return err
}

func (w *witness) grant(ctx context.Context, client *clientv3.Client, ttl int64, mortal bool) (int64, error) {
	begun := time.Now()
	answer, err := client.Grant(ctx, ttl)
	if err != nil {
		return 0, err
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.ledger.leases[int64(answer.ID)] = &tenure{granted: begun, ttl: time.Duration(answer.TTL) * time.Second, mortal: mortal}
	return int64(answer.ID), nil
}

// mortal writes a key that goes with a lease that nobody keeps alive.
func (l *laborer) mortal(ctx context.Context) error {
	id, err := l.witness.grant(ctx, l.client(), mortalTTL, true)
	if err != nil {
		return err
	}
	return l.put(ctx, fmt.Sprintf("mortal/%d", id), id)
}

// keepAlive holds a lease by renewing it through the members in turn; it must not end as long as that works.
func (w *witness) keepAlive(ctx context.Context, n int) {
	var id int64
	var renewed time.Time // when the last renewal that succeeded was begun
	for turn := n; ctx.Err() == nil; turn++ {
		client := w.clients[turn%len(w.clients)]
		begun := time.Now()
		within, cancel := context.WithTimeout(ctx, laborerWait)
		if id == 0 {
			if granted, err := w.grant(within, client, keptTTL, false); err == nil {
				id, renewed = granted, begun
				o := w.begin("put", id, fmt.Sprintf("kept/%d", n))
				answer, err := client.Put(within, o.keys[0], o.value, clientv3.WithLease(clientv3.LeaseID(id)))
				if err != nil {
					w.end(o, 0, err)
				} else {
					w.end(o, answer.Header.Revision, nil)
				}
			}
		} else if _, err := client.KeepAliveOnce(within, clientv3.LeaseID(id)); err == nil {
			renewed = begun
		} else if errors.Is(err, rpctypes.ErrLeaseNotFound) && time.Since(renewed) < keptTTL*time.Second {
			w.fail(fmt.Errorf("member %d: lease %x, renewed %s ago, is gone", turn%len(w.clients), id, time.Since(renewed)))
		}
		cancel()
		if time.Since(renewed) > keptTTL*time.Second/2 && id != 0 {
			// Too close to its end to judge it: let it go.
			w.mutex.Lock()
			w.ledger.leases[id].mortal = true
			w.mutex.Unlock()
			id = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
