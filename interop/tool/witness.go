package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// How long members that are up may take until they agree and have told everything.
const witnessWait = 60 * time.Second

// A witness makes load on all members of a cluster, watches all of them from the first revision on,
// and judges what it is told: for as long as members come and go, it is the one that stays.
type witness struct {
	endpoints []string
	clients   []*clientv3.Client
	history   *history

	mutex   sync.Mutex
	ledger  *ledger
	facts   []fact
	counter int64
	// The highest revision that any answer or event has shown.
	seen atomic.Int64

	// No leases are granted or revoked, so that members can be compared.
	noLeases atomic.Bool
	halt     atomic.Bool
	acked    atomic.Int64
	reads    atomic.Int64
	failed   chan error
	watchers []*observer
}

// endurance runs a witness. It takes commands on its input, one a line, and answers each with a line:
// "check": all members are up and must agree; "wait N": N more operations were acknowledged through
// each member; "end": stops the load, checks a last time, and ends.
func endurance(args []string) error {
	c := newCommon("endurance")
	workers := c.flags.Int("workers", 2, "workers on each member")
	pause := c.flags.Duration("pause", 8*time.Millisecond, "pause of a worker after each operation")
	seed := c.flags.Int64("seed", 1, "what is written")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	w := &witness{endpoints: strings.Split(*c.endpoint, ","), history: newHistory(), ledger: newLedger(),
		failed: make(chan error, 100)}
	w.seen.Store(1)
	for _, endpoint := range w.endpoints {
		client, err := patient(endpoint)
		if err != nil {
			return err
		}
		defer client.Close()
		w.clients = append(w.clients, client)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for n := range w.endpoints {
		for _, leader := range []bool{false, true} {
			one := &observer{witness: w, member: n, needsLeader: leader}
			w.watchers = append(w.watchers, one)
			go one.run(ctx)
		}
		go w.keepAlive(ctx, n)
	}
	var load sync.WaitGroup
	var members []*laborer
	for n := range w.endpoints {
		for range *workers {
			one := newLaborer(w, n, *seed*1000+int64(len(members)), *pause)
			members = append(members, one)
			load.Go(func() { one.work(ctx) })
		}
	}
	return w.obey(ctx, members, &load)
}

// patient is a client of one member that looks for it again at once when it has been away.
func patient(endpoint string) (*clientv3.Client, error) {
	soon := backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond}
	return clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint},
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: time.Second}),
		},
		MaxCallRecvMsgSize: 1 << 30,
	})
}

func (w *witness) obey(ctx context.Context, members []*laborer, load *sync.WaitGroup) error {
	commands := make(chan string)
	go func() {
		defer close(commands)
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			commands <- lines.Text()
		}
	}()
	for {
		var command string
		select {
		case err := <-w.failed:
			return err
		case command = <-commands:
		}
		var err error
		var count int64
		switch _, scan := fmt.Sscanf(command, "wait %d", &count); {
		case scan == nil:
			err = w.wait(members, count)
		case command == "check":
			err = w.check(ctx)
		case command == "end":
			w.halt.Store(true)
			load.Wait()
			if err = w.mortals(ctx); err == nil {
				err = w.check(ctx)
			}
		default:
			return fmt.Errorf("no command %q", command)
		}
		if err != nil {
			return err
		}
		told := map[string]any{"revision": w.history.last(), "acknowledged": w.acked.Load(), "reads": w.reads.Load()}
		if err := json.NewEncoder(os.Stdout).Encode(told); err != nil || command == "end" {
			return err
		}
	}
}

// fail tells of a violation: the first one ends the witness.
func (w *witness) fail(err error) {
	select {
	case w.failed <- err:
	default:
	}
}

// see raises what has been seen.
func (w *witness) see(revision int64) {
	for {
		old := w.seen.Load()
		if revision <= old || w.seen.CompareAndSwap(old, revision) {
			return
		}
	}
}

// until waits until something holds, or somebody fails.
func (w *witness) until(what string, holds func() (bool, error)) error {
	deadline := time.After(witnessWait)
	var last error
	for {
		done, err := holds()
		if done {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case err := <-w.failed:
			return err
		case <-deadline:
			return fmt.Errorf("after %s still not: %s (%v)", witnessWait, what, last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wait lets the load get on through each of the members.
func (w *witness) wait(members []*laborer, count int64) error {
	start := make([]int64, len(members))
	for n, one := range members {
		start[n] = one.acked.Load()
	}
	return w.until("writes through each member", func() (bool, error) {
		got := make([]int64, len(w.endpoints))
		for n, one := range members {
			got[one.member] += one.acked.Load() - start[n]
		}
		return slices.Min(got) >= count, fmt.Errorf("acknowledged by member: %v", got)
	})
}

// check holds everything that was told against everything else, while the load goes on.
func (w *witness) check(ctx context.Context) error {
	var revision int64
	err := w.until("a linearizable read", func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
		defer cancel()
		floor := w.seen.Load()
		answer, err := w.clients[0].Get(ctx, "x")
		if err != nil {
			return false, err
		}
		if revision = answer.Header.Revision; revision < floor {
			w.fail(fmt.Errorf("a linearizable read at %d after %d was seen", revision, floor))
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	err = w.until("all watchers have heard all", func() (bool, error) {
		var heard []int64
		for _, one := range w.watchers {
			heard = append(heard, one.heard.Load())
		}
		return slices.Min(heard) >= revision, fmt.Errorf("wanted %d: %v", revision, heard)
	})
	if err == nil {
		err = w.settle(revision)
	}
	if err == nil {
		err = w.compare(ctx, revision)
	}
	if err == nil {
		err = w.replay(ctx, revision)
	}
	return err
}

// settle looks at what is now known to have happened.
func (w *witness) settle(revision int64) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.history.mutex.Lock()
	defer w.history.mutex.Unlock()
	if err := w.ledger.explain(w.history, revision); err != nil {
		return err
	}
	var later []fact
	for _, one := range w.facts {
		if one.revision > revision {
			later = append(later, one)
			continue
		}
		if err := one.holds(w.history); err != nil {
			return err
		}
	}
	w.facts = later
	return nil
}

// compare asks all members for what must be equal on them.
func (w *witness) compare(ctx context.Context, revision int64) error {
	hash := func(ctx context.Context, n int) (string, error) {
		answer, err := w.clients[n].HashKV(ctx, w.endpoints[n], revision)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("hash %d compacted %d", answer.Hash, answer.CompactRevision), nil
	}
	list := func(ctx context.Context, n int) (string, error) {
		answer, err := w.clients[n].MemberList(ctx, clientv3.WithSerializable())
		if err != nil {
			return "", err
		}
		slices.SortFunc(answer.Members, func(a, b *pb.Member) int { return strings.Compare(a.Name, b.Name) })
		return fmt.Sprint(answer.Header.ClusterId, answer.Members), nil
	}
	alarms := func(ctx context.Context, n int) (string, error) {
		answer, err := w.clients[n].Status(ctx, w.endpoints[n])
		if err != nil {
			return "", err
		}
		return fmt.Sprint(answer.Errors, answer.IsLearner), nil
	}
	if err := w.same(ctx, "HashKV", hash); err != nil {
		return err
	}
	if err := w.same(ctx, "members", list); err != nil {
		return err
	}
	if err := w.same(ctx, "alarms", alarms); err != nil {
		return err
	}
	return w.compareLeases(ctx)
}

// compareLeases holds the leases of all members against each other, and against what their owners know.
func (w *witness) compareLeases(ctx context.Context) error {
	w.noLeases.Store(true)
	defer w.noLeases.Store(false)
	list := func(ctx context.Context, n int) (string, error) {
		answer, err := w.clients[n].Leases(ctx)
		if err != nil {
			return "", err
		}
		there := map[clientv3.LeaseID]bool{}
		var ids []int64
		for _, one := range answer.Leases {
			there[one.ID] = true
			ids = append(ids, int64(one.ID))
		}
		for _, id := range w.lasting() {
			if !there[id] {
				return "", fmt.Errorf("lease %x is gone", id)
			}
		}
		slices.Sort(ids)
		return fmt.Sprint(ids), nil
	}
	if err := w.same(ctx, "leases", list); err != nil {
		return err
	}
	lasting := w.lasting()
	for _, id := range lasting[max(0, len(lasting)-3):] {
		ttl := func(ctx context.Context, n int) (string, error) {
			answer, err := w.clients[n].TimeToLive(ctx, id)
			if err != nil {
				return "", err
			}
			return fmt.Sprint(answer.GrantedTTL, answer.TTL > 0), nil
		}
		if err := w.same(ctx, "a lease's time", ttl); err != nil {
			return err
		}
	}
	return nil
}

// lasting is the leases that must be there.
func (w *witness) lasting() []clientv3.LeaseID {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	var ids []clientv3.LeaseID
	for id, one := range w.ledger.leases {
		if !one.mortal && !one.revoked {
			ids = append(ids, clientv3.LeaseID(id))
		}
	}
	slices.Sort(ids)
	return ids
}

// same waits until all members say the same.
func (w *witness) same(ctx context.Context, what string, ask func(ctx context.Context, member int) (string, error)) error {
	return w.until("all members say the same: "+what, func() (bool, error) {
		var said []string
		for n := range w.endpoints {
			ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
			one, err := ask(ctx, n)
			cancel()
			if err != nil {
				return false, fmt.Errorf("member %d: %w", n, err)
			}
			said = append(said, one)
		}
		if len(slices.Compact(slices.Clone(said))) > 1 {
			return false, errors.New(strings.Join(said, "\n"))
		}
		return true, nil
	})
}

// replay reads everything at a revision, and watches from the first revision up to it, on each member.
func (w *witness) replay(ctx context.Context, revision int64) error {
	for n := range w.endpoints {
		err := w.until("a member tells all of its history", func() (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, witnessWait)
			defer cancel()
			answer, err := w.clients[n].Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision),
				clientv3.WithSerializable())
			if err != nil {
				return false, err
			}
			w.record(heldAll(revision, answer.Kvs))
			one := &observer{witness: w, member: n, upto: revision}
			if err := one.listen(ctx); one.heard.Load() < revision {
				return false, fmt.Errorf("up to %d: %w", one.heard.Load(), err)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return w.settle(revision)
}

func (w *witness) record(facts ...fact) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.facts = append(w.facts, facts...)
}

// mortals waits until all keys are gone whose leases nobody keeps alive.
func (w *witness) mortals(ctx context.Context) error {
	return w.until("keys of ended leases are gone", func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
		defer cancel()
		answer, err := w.clients[0].Get(ctx, "mortal/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return false, err
		}
		return answer.Count == 0, fmt.Errorf("%d are there", answer.Count)
	})
}
