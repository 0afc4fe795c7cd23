package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// How often an observer asks for progress.
const observerAsks = time.Second

// An observer watches everything on one member from the first revision on. When its member goes, it
// comes back and goes on after the last revision that it heard of.
type observer struct {
	witness     *witness
	member      int
	needsLeader bool
	// Where it ends; 0: never.
	upto int64
	// The last revision that it heard of.
	heard atomic.Int64
}

// A violation is what no member may ever say.
type violation struct{ text string }

func (v violation) Error() string { return v.text }

func (o *observer) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := o.listen(ctx)
		if bad := (violation{}); errors.As(err, &bad) {
			o.witness.fail(fmt.Errorf("a watcher on member %d (%v): %w", o.member, o.needsLeader, err))
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // the member is away: do not spin
		}
	}
}

// listen opens one stream and takes what comes until it ends.
func (o *observer) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.needsLeader {
		ctx = clientv3.WithRequireLeader(ctx)
	}
	stream, err := pb.NewWatchClient(o.witness.clients[o.member].ActiveConnection()).Watch(ctx, grpc.WaitForReady(true),
		grpc.MaxCallRecvMsgSize(1<<30))
	if err != nil {
		return err
	}
	o.heard.CompareAndSwap(0, 1)
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: o.heard.Load() + 1,
		PrevKv: true, ProgressNotify: true}
	if o.heard.Load() == 1 {
		create.StartRevision = 1
	}
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	if err := stream.Send(request); err != nil {
		return err
	}
	go func() {
		ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
		for stream.Send(ask) == nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(observerAsks):
			}
		}
	}()
	for {
		answer, err := stream.Recv()
		if err != nil {
			return hungUp(err)
		}
		if err := o.take(answer); err != nil {
			return err
		}
		if o.upto != 0 && o.heard.Load() >= o.upto {
			return nil
		}
	}
}

// hungUp tells apart how a stream may end (its member goes, or has no leader) from how it may not.
func hungUp(err error) error {
	if errors.Is(err, io.EOF) {
		return violation{"the stream ended as if all was said"}
	}
	return fmt.Errorf("%s: %w", status.Code(err), err)
}

func (o *observer) take(answer *pb.WatchResponse) error {
	heard := o.heard.Load()
	switch {
	case answer.Canceled:
		return violation{fmt.Sprintf("canceled after %d: %v", heard, answer)}
	case answer.Created:
		return nil
	case len(answer.Events) == 0 && answer.Header.Revision > heard:
		return violation{fmt.Sprintf("progress to %d was told after the events of %d", answer.Header.Revision, heard)}
	}
	for from := 0; from < len(answer.Events); {
		revision, upto := answer.Events[from].Kv.ModRevision, from+1
		for upto < len(answer.Events) && answer.Events[upto].Kv.ModRevision == revision {
			upto++
		}
		if err := o.hear(answer, revision, answer.Events[from:upto]); err != nil {
			return err
		}
		from = upto
	}
	return nil
}

// hear takes the events of one revision.
func (o *observer) hear(answer *pb.WatchResponse, revision int64, events []*mvccpb.Event) error {
	if heard := o.heard.Load(); revision != heard+1 {
		return violation{fmt.Sprintf("the events of %d came after those of %d: %v", revision, heard, events)}
	}
	if answer.Header.Revision < revision {
		return violation{fmt.Sprintf("a header of %d has events of %d", answer.Header.Revision, revision)}
	}
	if err := o.witness.history.tell(revision, events); err != nil {
		return violation{err.Error()}
	}
	o.heard.Store(revision)
	o.witness.see(revision)
	return nil
}
