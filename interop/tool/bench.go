package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"
)

// A measure is what one scenario cost. CPU is the server's alone, from /proc.
type measure struct {
	Scenario string  `json:"scenario"`
	Ops      int64   `json:"ops"`
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_us_per_op"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
}

type scenario struct {
	clients int
	ops     int64
	prepare func(b *bencher) error
	one     func(b *bencher, ctx context.Context, client *clientv3.Client, n int64) error
}

const connectionsMax = 32

type bencher struct {
	clients []*clientv3.Client
	pids    []string
	leases  []clientv3.LeaseID
	events  atomic.Int64
}

var value256 = strings.Repeat("v", 256)

func putOne(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
	_, err := c.Put(ctx, fmt.Sprintf("bench/%08d", n%100000), value256)
	return err
}

func kubernetesKey(n int64) string { return fmt.Sprintf("/registry/pods/default/pod-%06d", n) }

// fill writes keys of a list, once.
func fill(prefix string, keys int) func(b *bencher) error {
	return func(b *bencher) error {
		ctx := context.Background()
		var group sync.WaitGroup
		errs := make(chan error, 16)
		for w := 0; w < 16; w++ {
			group.Add(1)
			go func(w int) {
				defer group.Done()
				for i := w; i < keys; i += 16 {
					if _, err := b.clients[w%len(b.clients)].Put(ctx, fmt.Sprintf("%s%08d", prefix, i), value256); err != nil {
						errs <- err
						return
					}
				}
			}(w)
		}
		group.Wait()
		close(errs)
		return <-errs
	}
}

var scenarios = map[string]scenario{
	"put-1":   {clients: 1, ops: 3000, one: putOne},
	"put-64":  {clients: 64, ops: 60000, one: putOne},
	"put-512": {clients: 512, ops: 100000, one: putOne},
	"kubernetes-txn-256": {clients: 256, ops: 60000,
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
			key := kubernetesKey(n)
			_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).
				Then(clientv3.OpPut(key, value256)).Else(clientv3.OpGet(key)).Commit()
			return err
		}},
	"get-linearizable-256": {clients: 256, ops: 100000, prepare: fill("bench/", 10000),
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
			_, err := c.Get(ctx, fmt.Sprintf("bench/%08d", n*7919%10000))
			return err
		}},
	"get-serializable-256": {clients: 256, ops: 100000, prepare: fill("bench/", 10000),
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
			_, err := c.Get(ctx, fmt.Sprintf("bench/%08d", n*7919%10000), clientv3.WithSerializable())
			return err
		}},
	"list-10000": {clients: 2, ops: 150, prepare: fill("list/", 10000),
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, _ int64) error {
			r, err := c.Get(ctx, "list/", clientv3.WithPrefix(), clientv3.WithLimit(10000))
			if err == nil && len(r.Kvs) != 10000 {
				err = fmt.Errorf("list of %d keys", len(r.Kvs))
			}
			return err
		}},
	"list-500": {clients: 4, ops: 2000, prepare: fill("list/", 10000),
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, _ int64) error {
			_, err := c.Get(ctx, "list/", clientv3.WithPrefix(), clientv3.WithLimit(500))
			return err
		}},
	"watch-200": {clients: 1, ops: 3000, prepare: watchers(200),
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
			before := b.events.Load()
			if _, err := c.Put(ctx, "watched/key", value256); err != nil {
				return err
			}
			for b.events.Load() < before+200 {
				time.Sleep(20 * time.Microsecond)
			}
			return nil
		}},
	"put-lease-64": {clients: 64, ops: 60000,
		prepare: func(b *bencher) error {
			for i := 0; i < 64; i++ {
				r, err := b.clients[0].Grant(context.Background(), 3600)
				if err != nil {
					return err
				}
				b.leases = append(b.leases, r.ID)
			}
			return nil
		},
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
			_, err := c.Put(ctx, fmt.Sprintf("leased/%08d", n%10000), value256, clientv3.WithLease(b.leases[n%64]))
			return err
		}},
	// The data set of the memory and restart rows: 200,000 values of 1 KiB and 100,000 overwrites.
	"fill-300000": {clients: 64, ops: 300000,
		one: func(b *bencher, ctx context.Context, c *clientv3.Client, n int64) error {
			_, err := c.Put(ctx, fmt.Sprintf("fill/%08d", n%200000), strings.Repeat("x", 1024))
			return err
		}},
}

// watchers opens n watches of one key, spread over the connections.
func watchers(n int) func(b *bencher) error {
	return func(b *bencher) error {
		for i := 0; i < n; i++ {
			// A key of its own in the metadata gives each watch a stream of its own.
			ctx := metadata.AppendToOutgoingContext(context.Background(), "stream", fmt.Sprint(i))
			ch := b.clients[i%len(b.clients)].Watch(ctx, "watched/key", clientv3.WithCreatedNotify())
			<-ch
			go func() {
				for answer := range ch {
					b.events.Add(int64(len(answer.Events)))
				}
			}()
		}
		return nil
	}
}

func bench(args []string) error {
	c := newCommon("bench")
	name := c.flags.String("scenario", "put-64", "what to measure")
	pids := c.flags.String("pid", "", "processes whose CPU counts, comma separated")
	scale := c.flags.Float64("scale", 1, "factor on the number of operations")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	s, ok := scenarios[*name]
	if !ok {
		return fmt.Errorf("no scenario %q", *name)
	}
	b := &bencher{pids: strings.Split(*pids, ",")}
	connections := min(max(s.clients, 4), connectionsMax)
	for i := 0; i < connections; i++ {
		client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*c.endpoint, ","), DialTimeout: 5 * time.Second,
			Logger: zap.NewNop(), MaxCallRecvMsgSize: 1 << 30})
		if err != nil {
			return err
		}
		defer client.Close()
		b.clients = append(b.clients, client)
	}
	if s.prepare != nil {
		if err := s.prepare(b); err != nil {
			return err
		}
	}
	total := int64(float64(s.ops) * *scale)
	warm := total / 10
	if err := b.run(s, warm, 0, nil); err != nil {
		return err
	}
	latencies := make([]time.Duration, total)
	cpu, start := cpuMicros(b.pids), time.Now()
	if err := b.run(s, total, warm, latencies); err != nil {
		return err
	}
	elapsed, spent := time.Since(start), cpuMicros(b.pids)-cpu
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	micros := func(q float64) float64 {
		return float64(latencies[min(int(q*float64(total)), int(total)-1)]) / float64(time.Microsecond)
	}
	return json.NewEncoder(os.Stdout).Encode(measure{*name, total, elapsed.Seconds(), spent / float64(total), micros(0.5), micros(0.99)})
}

func (b *bencher) run(s scenario, total, offset int64, latencies []time.Duration) error {
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, s.clients)
	for w := 0; w < s.clients; w++ {
		group.Add(1)
		go func(client *clientv3.Client) {
			defer group.Done()
			ctx := context.Background()
			for {
				n := next.Add(1) - 1
				if n >= total {
					return
				}
				start := time.Now()
				if err := s.one(b, ctx, client, offset+n); err != nil {
					errs <- err
					return
				}
				if latencies != nil {
					latencies[n] = time.Since(start)
				}
			}
		}(b.clients[w%len(b.clients)])
	}
	group.Wait()
	close(errs)
	return <-errs
}

// cpuMicros is the user and system time that processes have used together, in µs.
func cpuMicros(pids []string) float64 {
	var sum float64
	for _, pid := range pids {
		// schedstat counts in ns, of each thread; stat only in ticks of 10 ms.
		dir := fmt.Sprintf("/proc/%s/task", pid)
		threads, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, t := range threads {
			text, err := os.ReadFile(dir + "/" + t.Name() + "/schedstat")
			if err != nil {
				continue
			}
			var ns, wait, slices int64
			if _, err := fmt.Sscan(string(text), &ns, &wait, &slices); err == nil {
				sum += float64(ns) / 1000
			}
		}
	}
	return sum
}
