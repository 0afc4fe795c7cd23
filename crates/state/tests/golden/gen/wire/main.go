// Makes wire-3.7.txt: random InternalRaftRequests with fields of wrong wire types and unknown ones at every level, each
// beside what Go's protobuf makes of it, encoded anew without what it does not know.
//
//	go run ./wire > ../wire-3.7.txt
//
// A line is two words of hexadecimal digits.
package main

import (
	"fmt"
	"math/rand"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	cases    = 300
	depthMax = 7
)

var dice = rand.New(rand.NewSource(1))

// payload appends a payload of a wire type that holds nothing in particular.
func payload(out []byte, number protowire.Number, wire protowire.Type, depth int) []byte {
	switch wire {
	case protowire.VarintType:
		return protowire.AppendVarint(out, dice.Uint64()>>dice.Intn(64))
	case protowire.Fixed32Type:
		return protowire.AppendFixed32(out, dice.Uint32())
	case protowire.Fixed64Type:
		return protowire.AppendFixed64(out, dice.Uint64())
	case protowire.BytesType:
		return protowire.AppendBytes(out, []byte("abcdef")[:dice.Intn(6)])
	}
	if depth < 3 && dice.Intn(2) == 0 {
		out = unknown(out, 1+protowire.Number(dice.Intn(5)), depth+1)
	}
	return protowire.AppendTag(out, number, protowire.EndGroupType)
}

// unknown appends a field of any wire type.
func unknown(out []byte, number protowire.Number, depth int) []byte {
	wires := []protowire.Type{protowire.VarintType, protowire.Fixed32Type, protowire.Fixed64Type, protowire.BytesType,
		protowire.StartGroupType}
	wire := wires[dice.Intn(len(wires))]
	return payload(protowire.AppendTag(out, number, wire), number, wire, depth)
}

func wireOf(field protoreflect.FieldDescriptor) protowire.Type {
	switch field.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	}
	return protowire.VarintType
}

// message appends random fields of a message, known ones mostly.
func message(out []byte, kind protoreflect.MessageDescriptor, depth int) []byte {
	fields := kind.Fields()
	count := dice.Intn(6)
	if depth == 0 {
		count = 1
	}
	for ; count > 0 && fields.Len() > 0; count-- {
		field := fields.Get(dice.Intn(fields.Len()))
		for depth == 0 && field.Number() == 1 {
			field = fields.Get(dice.Intn(fields.Len()))
		}
		// Txns are what nests.
		if txn := kind.Fields().ByName("txn"); txn != nil && dice.Intn(3) == 0 {
			field = txn
		}
		switch {
		case dice.Intn(6) == 0:
			out = unknown(out, field.Number(), 0)
		case dice.Intn(12) == 0:
			out = unknown(out, 500+protowire.Number(dice.Intn(1<<28)), 0)
		case field.Kind() != protoreflect.MessageKind:
			wire := wireOf(field)
			out = payload(protowire.AppendTag(out, field.Number(), wire), field.Number(), wire, 0)
		case depth < depthMax:
			out = protowire.AppendTag(out, field.Number(), protowire.BytesType)
			out = protowire.AppendBytes(out, message(nil, field.Message(), depth+1))
		}
	}
	return out
}

func main() {
	kind := (&pb.InternalRaftRequest{}).ProtoReflect().Descriptor()
	for made := 0; made < cases; {
		data := message(nil, kind, 0)
		if dice.Intn(8) == 0 {
			// Fields of one number make one message.
			data = message(data, kind, 0)
		}
		var request pb.InternalRaftRequest
		err := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, &request)
		if err != nil || len(data) < 8 || len(data) > 300 {
			continue
		}
		known, err := proto.MarshalOptions{Deterministic: true}.Marshal(&request)
		if err != nil {
			panic(err)
		}
		if len(known) == len(data) {
			continue
		}
		fmt.Printf("%x %x\n", data, known)
		made++
	}
}
