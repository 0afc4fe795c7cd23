package main

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A write is what an operation of the account did, or may have done, to one key.
type write struct {
	op    record
	acked bool
	rev   int64
}

// verify reads everything back and compares it with the account: every acknowledged write is
// there, nothing is there that nobody wrote, no revision was given twice, a transaction's keys
// changed together, and the history since the last compaction tells the same.
func verify(args []string) error {
	c := newCommon("verify")
	path := c.flags.String("account", "account.jsonl", "file of the account")
	prefix := c.flags.String("prefix", "load", "prefix of all keys")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	records, err := readAccount(*path)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()

	begun := map[int64]record{}
	done := map[int64]record{}
	var order []record
	for _, r := range records {
		if r.Done {
			done[r.N] = r
		} else {
			begun[r.N] = r
			order = append(order, r)
		}
	}
	byKey := map[string][]write{}
	revisions := map[int64]int64{}
	for _, op := range order {
		end, acked := done[op.N]
		if acked && end.Code != "" {
			continue
		}
		for _, key := range op.Keys {
			byKey[key] = append(byKey[key], write{op, acked, end.Rev})
		}
		if acked && (op.Kind == "put" || op.Kind == "txn") {
			if other, ok := revisions[end.Rev]; ok {
				return fmt.Errorf("revision %d was given to operations %d and %d", end.Rev, other, op.N)
			}
			revisions[end.Rev] = op.N
		}
	}
	ctx, cancel := within(60 * time.Second)
	defer cancel()
	now, err := client.Get(ctx, *prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	current := map[string]string{}
	modified := map[string]int64{}
	leased := map[string]int64{}
	for _, kv := range now.Kvs {
		current[string(kv.Key)] = string(kv.Value)
		modified[string(kv.Key)] = kv.ModRevision
		leased[string(kv.Key)] = kv.Lease
		if _, ok := byKey[string(kv.Key)]; !ok {
			return fmt.Errorf("key %s was never written", kv.Key)
		}
	}
	for key, writes := range byKey {
		if err := verifyKey(key, writes, current, modified, leased, now.Header.Revision); err != nil {
			return err
		}
	}
	if err := verifyLeases(client, order, done); err != nil {
		return err
	}
	events, err := verifyHistory(client, *prefix, now.Header.Revision, begun, done, byKey)
	if err != nil {
		return err
	}
	fmt.Printf("verified %d acknowledged operations, %d keys, %d events of history, revision %d\n",
		len(done), len(byKey), events, now.Header.Revision)
	return nil
}

// verifyKey holds a key's present value against the last acknowledged write and those begun since.
func verifyKey(key string, writes []write, current map[string]string, modified, leased map[string]int64, header int64) error {
	last := -1
	for i, w := range writes {
		if w.acked {
			last = i
		}
	}
	value, present := current[key]
	matches := func(w write) bool {
		if w.op.Kind == "delete" {
			return !present
		}
		return present && w.op.Value == value && leased[key] == w.op.Lease
	}
	if last == -1 && !present {
		return nil
	}
	if last >= 0 && matches(writes[last]) {
		w := writes[last]
		if w.op.Kind != "delete" && modified[key] != w.rev {
			return fmt.Errorf("key %s: acknowledged at revision %d, stored at %d", key, w.rev, modified[key])
		}
		if w.rev > header {
			return fmt.Errorf("key %s: acknowledged at revision %d, the store is at %d", key, w.rev, header)
		}
		return nil
	}
	for _, w := range writes[last+1:] {
		if matches(w) {
			return nil
		}
	}
	if last >= 0 {
		w := writes[last]
		return fmt.Errorf("key %s: operation %d (%s %q at revision %d) was acknowledged, found present=%v %q at %d",
			key, w.op.N, w.op.Kind, w.op.Value, w.rev, present, value, modified[key])
	}
	return fmt.Errorf("key %s: holds %q, which no operation wrote", key, value)
}

func verifyLeases(client *clientv3.Client, order []record, done map[int64]record) error {
	ctx, cancel := within(30 * time.Second)
	defer cancel()
	list, err := client.Leases(ctx)
	if err != nil {
		return err
	}
	have := map[int64]bool{}
	for _, l := range list.Leases {
		have[int64(l.ID)] = true
	}
	checked := 0
	for _, op := range order {
		end, acked := done[op.N]
		if op.Kind != "lease" || !acked || end.Code != "" {
			continue
		}
		if !have[end.Lease] {
			return fmt.Errorf("lease %x was granted and is gone", end.Lease)
		}
		if checked++; checked > 20 {
			continue
		}
		ttl, err := client.TimeToLive(ctx, clientv3.LeaseID(end.Lease))
		if err != nil {
			return err
		}
		if ttl.GrantedTTL != end.TTL {
			return fmt.Errorf("lease %x was granted %d s, has %d", end.Lease, end.TTL, ttl.GrantedTTL)
		}
		if ttl.TTL <= 0 || ttl.TTL > ttl.GrantedTTL+1 {
			return fmt.Errorf("lease %x of %d s has %d s left", end.Lease, ttl.GrantedTTL, ttl.TTL)
		}
	}
	return nil
}

// verifyHistory watches from the compacted revision on.
func verifyHistory(client *clientv3.Client, prefix string, upto int64, begun, done map[int64]record, byKey map[string][]write) (int, error) {
	from := int64(1)
	byRev := map[int64]record{}
	for n, end := range done {
		if op := begun[n]; end.Code == "" && (op.Kind == "put" || op.Kind == "txn") {
			byRev[end.Rev] = op
		}
	}
	ctx, cancel := within(60 * time.Second)
	defer cancel()
	count := 0
	seen := map[int64]int{}
	lastRev := int64(0)
again:
	for lastRev < upto {
		watch := client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(),
			clientv3.WithRev(from), clientv3.WithProgressNotify())
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for lastRev < upto {
			select {
			case <-ctx.Done():
				return count, fmt.Errorf("history ended at revision %d, wanted %d", lastRev, upto)
			case <-ticker.C:
				_ = client.RequestProgress(clientv3.WithRequireLeader(ctx))
			case answer, ok := <-watch:
				if !ok {
					return count, errors.New("the watch closed")
				}
				if answer.CompactRevision != 0 {
					from = answer.CompactRevision
					continue again
				}
				if err := answer.Err(); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
					return count, err
				}
				if answer.IsProgressNotify() {
					lastRev = max(lastRev, answer.Header.Revision)
					continue
				}
				for _, e := range answer.Events {
					if e.Kv.ModRevision < lastRev {
						return count, fmt.Errorf("event of revision %d after %d", e.Kv.ModRevision, lastRev)
					}
					lastRev = e.Kv.ModRevision
					seen[lastRev]++
					count++
					if op, ok := byRev[lastRev]; ok && e.Type == clientv3.EventTypePut && op.Value != string(e.Kv.Value) {
						return count, fmt.Errorf("revision %d: event value differs from operation %d", lastRev, op.N)
					}
					if _, ok := byKey[string(e.Kv.Key)]; !ok {
						return count, fmt.Errorf("event of key %s that nobody wrote", e.Kv.Key)
					}
				}
			}
		}
	}
	for rev, op := range byRev {
		if rev < from || rev > upto {
			continue
		}
		if seen[rev] != len(op.Keys) {
			return count, fmt.Errorf("operation %d at revision %d wrote %d keys, history shows %d events", op.N, rev, len(op.Keys), seen[rev])
		}
	}
	return count, nil
}
