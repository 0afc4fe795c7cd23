package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// overwrite writes keys anew, again and again, by many clients at once: until told to stop (SIGTERM) or
// for so many writes. An error ends it.
func overwrite(args []string) error {
	c := newCommon("overwrite")
	clients := c.flags.Int("clients", 64, "clients, each with a connection of its own")
	keys := c.flags.Int("keys", 10000, "keys")
	size := c.flags.Int("size", 1024, "bytes of a value")
	batch := c.flags.Int("batch", 1, "keys written by one request")
	writes := c.flags.Int64("writes", 1<<62, "stop after so many writes")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var written atomic.Int64
	var group sync.WaitGroup
	failures := make(chan error, *clients)
	for n := range *clients {
		client, err := c.client()
		if err != nil {
			return err
		}
		defer client.Close()
		chance := rand.New(rand.NewSource(int64(n)))
		group.Go(func() {
			for ctx.Err() == nil && written.Add(int64(*batch)) <= *writes {
				value := strings.Repeat(string(rune('a'+chance.Intn(26))), *size)
				var puts []clientv3.Op
				first := chance.Intn(*keys)
				for at := range *batch {
					puts = append(puts, clientv3.OpPut(fmt.Sprintf("over/%06d", (first+at)%*keys), value))
				}
				if _, err := client.Txn(context.Background()).Then(puts...).Commit(); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failures)
	fmt.Fprintf(os.Stdout, "%d\n", written.Load())
	return <-failures
}
