// Makes transcript-3.7.bin: random requests sent to a real etcd, each with the exact bytes of its answer.
//
//	etcd --data-dir $(mktemp -d) &      # a fresh member at the default addresses, version 3.7.1
//	go run . localhost:2379 ../transcript-3.7.bin
//
// A record is: kind (1 byte), status code (1 byte), request length (u32, big endian), request, answer length (u32),
// answer: the encoded response, or the text of the error.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                       { return "proto" }

var methods = []string{
	"KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact",
	"Lease/LeaseGrant", "Lease/LeaseRevoke", "Maintenance/Alarm", "Maintenance/HashKV",
}

const (
	kRange = iota
	kPut
	kDelete
	kTxn
	kCompact
	kGrant
	kRevoke
	kAlarm
	kHash
)

// What only the front of a member checks: the log never sees such a request.
var front = map[string]bool{
	"etcdserver: duplicate key given in txn request": true,
	"etcdserver: key is not provided":                true,
	"etcdserver: value is provided":                  true,
	"etcdserver: lease is provided":                  true,
	"etcdserver: too many operations in txn request": true,
	"etcdserver: invalid sort option":                true,
}

type gen struct {
	*rand.Rand
	rev, compacted int64
	leases         []int64
}

// Twelve keys, since Go sorts more than twelve pairs in an order of its own where they are equal.
func (g *gen) key() []byte { return []byte(fmt.Sprintf("k%02d", g.Intn(12))) }

func (g *gen) end(key []byte) []byte {
	switch g.Intn(5) {
	case 0:
		return []byte{0}
	case 1:
		return g.key()
	case 2:
		return append(key[:len(key)-1:len(key)-1], key[len(key)-1]+byte(1+g.Intn(3)))
	}
	return nil
}

func (g *gen) value() []byte {
	v := make([]byte, g.Intn(12))
	for i := range v {
		v[i] = "abc"[g.Intn(3)]
	}
	return v
}

func (g *gen) lease() int64 {
	switch {
	case g.Intn(3) > 0 || len(g.leases) == 0:
		return 0
	case g.Intn(12) == 0:
		return 999
	}
	return g.leases[g.Intn(len(g.leases))]
}

func (g *gen) revision() int64 {
	switch g.Intn(8) {
	case 0:
		return g.rev + int64(g.Intn(3))
	case 1:
		return g.compacted - 1 + int64(g.Intn(3))
	case 2, 3:
		return g.compacted + 1 + g.Int63n(g.rev-g.compacted+1)
	}
	return 0
}

func (g *gen) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), PrevKv: g.Intn(3) == 0}
	if g.Intn(8) == 0 {
		r.IgnoreValue = true
	} else {
		r.Value = g.value()
	}
	if g.Intn(8) == 0 {
		r.IgnoreLease = true
	} else {
		r.Lease = g.lease()
	}
	return r
}

func (g *gen) del() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.Intn(2) == 0}
	if g.Intn(3) == 0 {
		r.RangeEnd = g.end(r.Key)
	}
	return r
}

func (g *gen) ranged() *pb.RangeRequest {
	r := &pb.RangeRequest{Key: g.key(), Revision: g.revision(), Serializable: g.Intn(2) == 0}
	r.RangeEnd = g.end(r.Key)
	r.KeysOnly = g.Intn(5) == 0
	r.CountOnly = g.Intn(8) == 0
	if g.Intn(3) == 0 {
		r.Limit = int64(g.Intn(6))
	}
	if g.Intn(3) == 0 {
		r.SortOrder = pb.RangeRequest_SortOrder(g.Intn(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.Intn(5))
	}
	bound := func() int64 {
		if g.Intn(8) == 0 {
			return 1 + g.Int63n(g.rev)
		}
		return 0
	}
	r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = bound(), bound(), bound(), bound()
	return r
}

func (g *gen) compare() *pb.Compare {
	c := &pb.Compare{Key: g.key(), Result: pb.Compare_CompareResult(g.Intn(4)), Target: pb.Compare_CompareTarget(g.Intn(5))}
	if g.Intn(3) == 0 {
		c.RangeEnd = g.end(c.Key)
	}
	number := g.Int63n(4)
	if g.Intn(2) == 0 {
		number = 1 + g.Int63n(g.rev)
	}
	switch kind := c.Target; {
	case g.Intn(20) == 0: // no target at all
	case kind == pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: number}
	case kind == pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number}
	case kind == pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: number}
	case kind == pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case kind == pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.lease()}
	}
	return c
}

func (g *gen) ops(depth int) (ops []*pb.RequestOp) {
	for n := g.Intn(4); n > 0; n-- {
		op := &pb.RequestOp{}
		switch kind := g.Intn(10); {
		case kind < 4:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: g.put()}
		case kind < 6:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.del()}
		case kind < 8 || depth == 0:
			op.Request = &pb.RequestOp_RequestRange{RequestRange: g.ranged()}
		default:
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}
		}
		ops = append(ops, op)
	}
	return ops
}

func (g *gen) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for n := g.Intn(3); n > 0; n-- {
		t.Compare = append(t.Compare, g.compare())
	}
	t.Success, t.Failure = g.ops(depth), g.ops(depth)
	return t
}

func (g *gen) next() (int, proto.Message) {
	switch n := g.Intn(100); {
	case n < 25:
		return kPut, g.put()
	case n < 33:
		return kDelete, g.del()
	case n < 68:
		return kTxn, g.txn(3)
	case n < 84:
		return kRange, g.ranged()
	case n < 86:
		return kCompact, &pb.CompactionRequest{Revision: g.compacted + g.Int63n(g.rev-g.compacted+3), Physical: g.Intn(2) == 0}
	case n < 92:
		id := int64(g.Intn(20))
		if id == 0 { // chosen by the member, so not the same twice
			id = 1
		}
		ttl := int64(100000 + g.Intn(1000))
		if g.Intn(15) == 0 {
			ttl = 9000000001
		}
		return kGrant, &pb.LeaseGrantRequest{ID: id, TTL: ttl}
	case n < 95:
		return kRevoke, &pb.LeaseRevokeRequest{ID: int64(1 + g.Intn(20))}
	case n < 98:
		return kHash, &pb.HashKVRequest{}
	}
	alarm := pb.AlarmType_NOSPACE
	if g.Intn(3) == 0 {
		alarm = pb.AlarmType_CORRUPT
	}
	return kAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_AlarmAction(g.Intn(3)), MemberID: 7, Alarm: alarm}
}

func main() {
	conn, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		panic(err)
	}
	g := &gen{Rand: rand.New(rand.NewSource(1)), rev: 1}
	alarmed := 0
	var out bytes.Buffer
	counts := map[string]int{}
	for records := 0; records < 1500; {
		kind, request := g.next()
		if kind == kAlarm && request.(*pb.AlarmRequest).Action == pb.AlarmRequest_ACTIVATE {
			alarmed = 12
		} else if alarmed > 0 {
			if alarmed--; alarmed == 1 {
				kind, request = kAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 7, Alarm: pb.AlarmType_NOSPACE}
			} else if alarmed == 0 {
				kind, request = kAlarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 7, Alarm: pb.AlarmType_CORRUPT}
			}
		}
		data, _ := proto.MarshalOptions{Deterministic: true}.Marshal(request)
		var answer []byte
		err := conn.Invoke(context.Background(), "/etcdserverpb."+methods[kind], data, &answer)
		s, _ := status.FromError(err)
		if err != nil {
			answer = []byte(s.Message())
		}
		if front[s.Message()] {
			continue
		}
		counts[methods[kind]+" "+s.Message()]++
		g.follow(kind, request, answer, err)
		out.WriteByte(byte(kind))
		out.WriteByte(byte(s.Code()))
		for _, part := range [][]byte{data, answer} {
			binary.Write(&out, binary.BigEndian, uint32(len(part)))
			out.Write(part)
		}
		records++
	}
	if err := os.WriteFile(os.Args[2], out.Bytes(), 0o644); err != nil {
		panic(err)
	}
	for what, n := range counts {
		fmt.Printf("%5d %s\n", n, what)
	}
}

// Keeps up with revisions and leases, so that most requests make sense.
func (g *gen) follow(kind int, request proto.Message, answer []byte, err error) {
	if err != nil {
		return
	}
	switch kind {
	case kPut, kDelete, kTxn, kRevoke:
		response := &pb.PutResponse{} // the header is field 1 of all
		if proto.Unmarshal(answer[:2+int(answer[1])], response) == nil {
			g.rev = max(g.rev, response.Header.Revision)
		}
	case kCompact:
		g.compacted = request.(*pb.CompactionRequest).Revision
	}
	switch kind {
	case kGrant:
		g.leases = append(g.leases, request.(*pb.LeaseGrantRequest).ID)
	case kRevoke:
		for i, id := range g.leases {
			if id == request.(*pb.LeaseRevokeRequest).ID {
				g.leases = append(g.leases[:i:i], g.leases[i+1:]...)
				break
			}
		}
	}
}
