package main

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// load writes until told to stop (SIGTERM, -ops or -seconds) and keeps the account.
// A member that goes away is not an error: what was in flight stays "begun" in the account.
func load(args []string) error {
	c := newCommon("load")
	path := c.flags.String("account", "account.jsonl", "file of the account")
	workers := c.flags.Int("workers", 8, "concurrent workers")
	ops := c.flags.Int64("ops", 1<<62, "stop after so many acknowledged operations")
	seconds := c.flags.Int("seconds", 3600, "stop after so long")
	seed := c.flags.Int64("seed", 1, "seed of the operations")
	compactions := c.flags.Bool("compact", true, "compact now and then")
	prefix := c.flags.String("prefix", "load", "prefix of all keys")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	acct, err := openAccount(*path)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	defer client.Close()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	var halt atomic.Bool
	go func() {
		select {
		case <-stop:
		case <-time.After(time.Duration(*seconds) * time.Second):
		}
		halt.Store(true)
	}()

	var acked atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, *workers)
	for w := 0; w < *workers; w++ {
		group.Add(1)
		go func(w int) {
			defer group.Done()
			worker := worker{client: client, acct: acct, prefix: fmt.Sprintf("%s/%d", *prefix, w),
				random: rand.New(rand.NewSource(*seed*1000 + int64(w))), compacts: *compactions && w == 0}
			for !halt.Load() && acked.Load() < *ops {
				ok, err := worker.step()
				if err != nil {
					failures <- err
					return
				}
				if ok {
					acked.Add(1)
				}
			}
		}(w)
	}
	group.Wait()
	close(failures)
	fmt.Printf("acknowledged %d\n", acked.Load())
	return <-failures
}

type worker struct {
	client   *clientv3.Client
	acct     *account
	prefix   string
	random   *rand.Rand
	leases   []clientv3.LeaseID
	compacts bool
}

const keysPerWorker = 40

func (w *worker) key() string { return fmt.Sprintf("%s/%03d", w.prefix, w.random.Intn(keysPerWorker)) }

// step does one operation; false if its outcome is not known or it was refused.
func (w *worker) step() (bool, error) {
	ctx, cancel := within(3 * time.Second)
	defer cancel()
	var op record
	var run func(op *record) (int64, error)
	value := fmt.Sprintf("%x-", w.random.Int63())
	for n := w.random.Intn(12); n > 0; n-- {
		value += fmt.Sprintf("%016x", w.random.Int63())
	}
	switch dice := w.random.Intn(100); {
	case dice < 55:
		op = record{Kind: "put", Keys: []string{w.key()}, Value: value}
		run = func(*record) (int64, error) {
			r, err := w.client.Put(ctx, op.Keys[0], op.Value)
			if err != nil {
				return 0, err
			}
			return r.Header.Revision, nil
		}
	case dice < 75:
		a, b := w.key(), w.key()
		if a == b {
			return false, nil
		}
		op = record{Kind: "txn", Keys: []string{a, b}, Value: value}
		run = func(*record) (int64, error) {
			r, err := w.client.Txn(ctx).
				If(clientv3.Compare(clientv3.CreateRevision(a), ">", -1)).
				Then(clientv3.OpPut(a, value), clientv3.OpGet(a), clientv3.OpPut(b, value)).Commit()
			if err != nil {
				return 0, err
			}
			return r.Header.Revision, nil
		}
	case dice < 88:
		op = record{Kind: "delete", Keys: []string{w.key()}}
		run = func(*record) (int64, error) {
			r, err := w.client.Delete(ctx, op.Keys[0])
			if err != nil {
				return 0, err
			}
			return r.Header.Revision, nil
		}
	case dice < 92:
		op = record{Kind: "lease", TTL: 3600 + int64(w.random.Intn(1000))}
		run = func(op *record) (int64, error) {
			r, err := w.client.Grant(ctx, op.TTL)
			if err != nil {
				return 0, err
			}
			op.Lease, op.TTL = int64(r.ID), r.TTL
			w.leases = append(w.leases, r.ID)
			return r.Revision, nil
		}
	case dice < 96 && len(w.leases) > 0:
		lease := w.leases[w.random.Intn(len(w.leases))]
		op = record{Kind: "put", Keys: []string{w.key()}, Value: value, Lease: int64(lease)}
		run = func(*record) (int64, error) {
			r, err := w.client.Put(ctx, op.Keys[0], op.Value, clientv3.WithLease(lease))
			if err != nil {
				return 0, err
			}
			return r.Header.Revision, nil
		}
	case dice < 98 && w.compacts:
		op = record{Kind: "compact"}
		run = func(*record) (int64, error) {
			r, err := w.client.Get(ctx, "x", clientv3.WithSerializable())
			if err != nil {
				return 0, err
			}
			at := r.Header.Revision - 200
			if at < 1 {
				return r.Header.Revision, nil
			}
			_, err = w.client.Compact(ctx, at)
			if errors.Is(err, rpctypes.ErrCompacted) {
				err = nil
			}
			return at, err
		}
	default:
		return false, nil
	}
	op, err := w.acct.begin(op)
	if err != nil {
		return false, err
	}
	rev, err := run(&op)
	if err == nil {
		return true, w.acct.done(op, rev, "")
	}
	if definite(err) {
		return false, w.acct.done(op, 0, err.Error())
	}
	time.Sleep(20 * time.Millisecond) // the member is away: do not spin
	return false, nil
}

// definite tells whether the error says that nothing was written.
func definite(err error) bool {
	for _, e := range []error{rpctypes.ErrNoSpace, rpctypes.ErrLeaseNotFound, rpctypes.ErrTooManyRequests} {
		if errors.Is(err, e) {
			return true
		}
	}
	switch status.Code(err) {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.NotFound:
		return true
	}
	return false
}
