package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// How long the crowd may take to arrive, and to hear of everything.
const crowdWait = 5 * time.Minute

// A happening is an event as far as both sides can compare it.
type happening struct {
	revision int64
	previous int64 // mod_revision of what was there before, 0 for nothing
	deleted  bool
}

// crowd opens many connections with many watches each, as Kubernetes' API servers do, writes, and
// holds against what was acknowledged that each watch got each of its events once, in order, with
// the value before it, and that no progress notification overtook an event.
func crowd(args []string) error {
	c := newCommon("crowd")
	connections := c.flags.Int("connections", 2000, "connections")
	watches := c.flags.Int("watches", 70, "watches a connection, each of a prefix")
	groups := c.flags.Int("groups", 20, "sets of prefixes; each connection watches one set")
	writes := c.flags.Int("writes", 5000, "writes while all are watching")
	writers := c.flags.Int("writers", 16, "writes at the same time")
	seed := c.flags.Int64("seed", 1, "what is written")
	pid := c.flags.Int("pid", 0, "the server, whose memory is told")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	started := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var crowd []*onlooker
	for n := range *connections {
		one, err := arrive(ctx, *c.endpoint, n%*groups, *watches)
		if err != nil {
			return fmt.Errorf("connection %d: %w", n, err)
		}
		crowd = append(crowd, one)
	}
	for _, one := range crowd {
		if err := one.until("its watches are created", func() bool { return int(one.created.Load()) == *watches }); err != nil {
			return err
		}
	}
	arrived := memory(*pid)
	happened, last, err := writeAll(c, *groups, *watches, *writes, *writers, *seed)
	if err != nil {
		return err
	}
	events := 0
	for _, one := range crowd {
		if err := one.askUntil(last); err != nil {
			return err
		}
		heard, err := one.compare(happened[one.group])
		if err != nil {
			return err
		}
		events += heard
	}
	for _, one := range crowd {
		if err := one.until("each watch has a progress notification", func() bool { return one.notified(last) }); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"connections": *connections, "watches": *connections * *watches, "writes": *writes, "events": events,
		"seconds": time.Since(started).Seconds(), "arrived_kilobytes": arrived, "end_kilobytes": memory(*pid),
	})
}

// memory is the server's own, in kB.
func memory(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	kilobytes := 0
	fmt.Sscan(rest, &kilobytes)
	return kilobytes
}

func prefix(group, resource int) string {
	return fmt.Sprintf("/registry/g%03d/r%03d/", group, resource)
}

// writeAll makes creations, changes and deletions; what happened below each prefix of each group.
func writeAll(c common, groups, resources, writes, writers int, seed int64) ([][][]happening, int64, error) {
	client, err := c.client()
	if err != nil {
		return nil, 0, err
	}
	defer client.Close()
	happened := make([][][]happening, groups)
	for group := range happened {
		happened[group] = make([][]happening, resources)
	}
	var mutex sync.Mutex
	var last int64
	var failure error
	var wait sync.WaitGroup
	for writer := range writers {
		chance := rand.New(rand.NewSource(seed + int64(writer)))
		wait.Go(func() {
			for range writes / writers {
				group, resource := chance.Intn(groups), chance.Intn(resources)
				key := prefix(group, resource) + fmt.Sprint(chance.Intn(4))
				one, err := writeOne(client, key, chance)
				mutex.Lock()
				if err != nil {
					failure = errors.Join(failure, err)
				} else if one != nil {
					happened[group][resource] = append(happened[group][resource], *one)
					last = max(last, one.revision)
				}
				mutex.Unlock()
			}
		})
	}
	wait.Wait()
	for _, group := range happened {
		for _, events := range group {
			slices.SortFunc(events, func(a, b happening) int { return int(a.revision - b.revision) })
		}
	}
	return happened, last, failure
}

func writeOne(client *clientv3.Client, key string, chance *rand.Rand) (*happening, error) {
	ctx, cancel := within(30 * time.Second)
	defer cancel()
	if chance.Intn(5) == 0 {
		answer, err := client.Delete(ctx, key, clientv3.WithPrevKV())
		if err != nil || answer.Deleted == 0 {
			return nil, err
		}
		return &happening{answer.Header.Revision, answer.PrevKvs[0].ModRevision, true}, nil
	}
	value := strings.Repeat("v", 200+chance.Intn(600))
	answer, err := client.Put(ctx, key, value, clientv3.WithPrevKV())
	if err != nil {
		return nil, err
	}
	one := &happening{revision: answer.Header.Revision}
	if answer.PrevKv != nil {
		one.previous = answer.PrevKv.ModRevision
	}
	return one, nil
}

// An onlooker is one connection with one stream of watches; watch n has the ID n+1.
type onlooker struct {
	group   int
	stream  pb.Watch_WatchClient
	created atomic.Int64
	changed chan struct{}

	mutex    sync.Mutex
	failure  error
	heard    [][]happening
	progress []int64 // by watch, the revision last told
	all      int64   // the revision last told for all watches
}

func arrive(ctx context.Context, endpoint string, group, watches int) (*onlooker, error) {
	conn, err := grpc.NewClient(strings.TrimPrefix(endpoint, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return nil, err
	}
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return nil, err
	}
	one := &onlooker{group: group, stream: stream, changed: make(chan struct{}, 1),
		heard: make([][]happening, watches), progress: make([]int64, watches)}
	go one.listen()
	for n := range watches {
		key := prefix(group, n)
		create := &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(key)),
			WatchId: int64(n + 1), PrevKv: true, ProgressNotify: true}
		request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
		if err := stream.Send(request); err != nil {
			return nil, err
		}
	}
	return one, nil
}

func (o *onlooker) listen() {
	for {
		answer, err := o.stream.Recv()
		o.mutex.Lock()
		if err == nil {
			err = o.take(answer)
		}
		if err != nil && o.failure == nil {
			o.failure = err
		}
		o.mutex.Unlock()
		select {
		case o.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (o *onlooker) take(answer *pb.WatchResponse) error {
	watch := answer.WatchId - 1
	switch {
	case answer.Canceled:
		return fmt.Errorf("watch %d was canceled: %s", watch, answer.CancelReason)
	case answer.Created:
		o.created.Add(1)
	case answer.WatchId == -1:
		o.all = answer.Header.Revision
	case watch < 0 || watch >= int64(len(o.heard)):
		return fmt.Errorf("there is no watch %d", watch)
	case len(answer.Events) == 0:
		o.progress[watch] = answer.Header.Revision
	}
	for _, event := range answer.Events {
		one := happening{revision: event.Kv.ModRevision, deleted: event.Type == mvccpb.Event_DELETE}
		if event.PrevKv != nil {
			one.previous = event.PrevKv.ModRevision
		}
		if told := max(o.all, o.progress[watch]); one.revision <= told {
			return fmt.Errorf("watch %d: progress to %d was told before the event of %d", watch, told, one.revision)
		}
		if !strings.HasPrefix(string(event.Kv.Key), prefix(o.group, int(watch))) {
			return fmt.Errorf("watch %d got the key %q", watch, event.Kv.Key)
		}
		o.heard[watch] = append(o.heard[watch], one)
	}
	return nil
}

// until waits until the condition holds; it is looked at whenever something came.
func (o *onlooker) until(what string, holds func() bool) error {
	deadline := time.After(crowdWait)
	for {
		o.mutex.Lock()
		done, failure := holds(), o.failure
		o.mutex.Unlock()
		if failure != nil || done {
			return failure
		}
		select {
		case <-o.changed:
		case <-deadline:
			return fmt.Errorf("after %s still not: %s", crowdWait, what)
		}
	}
}

// askUntil asks for progress until the server has told that all up to the revision was sent: while
// a watch lags, it may leave the question unanswered.
func (o *onlooker) askUntil(revision int64) error {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		for {
			if o.stream.Send(request) != nil {
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	return o.until("progress is told", func() bool { return o.all >= revision })
}

func (o *onlooker) notified(revision int64) bool {
	return !slices.ContainsFunc(o.progress, func(told int64) bool { return told < revision })
}

func (o *onlooker) compare(happened [][]happening) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	events := 0
	for watch, heard := range o.heard {
		if !slices.Equal(heard, happened[watch]) {
			return 0, fmt.Errorf("watch of %s: %d events heard, %d happened: %v, not %v",
				prefix(o.group, watch), len(heard), len(happened[watch]), heard, happened[watch])
		}
		events += len(heard)
	}
	return events, nil
}
