package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type seen struct {
	Revision int64                        `json:"revision"`
	At       map[string]map[string]string `json:"at"` // by revision: reads, hashes
	Leases   map[string]string            `json:"leases"`
	Alarms   []string                     `json:"alarms"`
	Members  []string                     `json:"members"`
}

// state prints as JSON what clients can see of a member: pinned reads and HashKV at the given
// revisions (and now), leases with granted TTLs and keys, alarms, members.
func state(args []string) error {
	c := newCommon("state")
	revs := c.flags.String("revs", "", "revisions to read at, comma separated; those compacted say so")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := within(60 * time.Second)
	defer cancel()

	head, err := client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	out := seen{Revision: head.Header.Revision, At: map[string]map[string]string{}, Leases: map[string]string{}}
	wanted := []int64{head.Header.Revision}
	for _, text := range strings.FieldsFunc(*revs, func(r rune) bool { return r == ',' }) {
		rev, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		wanted = append(wanted, rev)
	}
	for _, rev := range wanted {
		out.At[fmt.Sprint(rev)] = at(client, *c.endpoint, rev)
	}
	leases, err := client.Leases(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases.Leases {
		ttl, err := client.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			return err
		}
		keys := make([]string, 0, len(ttl.Keys))
		for _, k := range ttl.Keys {
			keys = append(keys, string(k))
		}
		sort.Strings(keys)
		out.Leases[fmt.Sprintf("%x", int64(l.ID))] = fmt.Sprintf("%d %v", ttl.GrantedTTL, keys)
	}
	alarms, err := client.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms.Alarms {
		out.Alarms = append(out.Alarms, a.String())
	}
	members, err := client.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range members.Members {
		out.Members = append(out.Members, m.String())
	}
	sort.Strings(out.Alarms)
	sort.Strings(out.Members)
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	return encoder.Encode(out)
}

func at(client *clientv3.Client, endpoint string, rev int64) map[string]string {
	ctx, cancel := within(60 * time.Second)
	defer cancel()
	facts := map[string]string{}
	all, err := client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev), clientv3.WithLimit(0))
	if err != nil {
		facts["read"] = err.Error()
	} else {
		sum := sha256.New()
		for _, kv := range all.Kvs {
			fmt.Fprintf(sum, "%q %q %d %d %d %d\n", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
		}
		facts["read"] = fmt.Sprintf("%d keys %s", all.Count, hex.EncodeToString(sum.Sum(nil))[:16])
	}
	hash, err := client.HashKV(ctx, endpoint, rev)
	if err != nil {
		facts["hashkv"] = err.Error()
	} else {
		facts["hashkv"] = fmt.Sprintf("%d compacted %d", hash.Hash, hash.CompactRevision)
	}
	return facts
}
