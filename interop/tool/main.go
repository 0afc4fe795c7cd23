// Command tool drives any etcd-compatible member with the official Go client: it makes load and
// keeps account of what was acknowledged, verifies such accounts, prints what clients can see of
// a member's state, asks raw questions, and measures. Both real etcd and Mainstay are its subjects.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var commands = map[string]func(args []string) error{
	"load":      load,
	"verify":    verify,
	"state":     state,
	"bench":     bench,
	"check":     check,
	"call":      call,
	"edges":     edges,
	"crowd":     crowd,
	"endurance": endurance,
	"overwrite": overwrite,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tool load|verify|state|bench|check|call|edges|crowd|endurance|overwrite [flags]")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "tool %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

type common struct {
	flags    *flag.FlagSet
	endpoint *string
}

func newCommon(name string) common {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	return common{flags, flags.String("endpoint", "http://127.0.0.1:2379", "client URLs, comma separated")}
}

func (c common) client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(*c.endpoint, ","),
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	})
}

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
