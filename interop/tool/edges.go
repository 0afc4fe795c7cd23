package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"sort"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// How deep into messages within messages single fields are set.
const edgeDepth = 4

// Milliseconds without an answer that are taken for silence, where silence may be right: a watch
// says nothing to a progress request too many, and who asks for a lock that another has waits.
const silence = 2000

// A request of each method that a server has something to say to, where the empty one is refused
// at once: the edges are tried on both. None of them may hurt a lone member: adding a voter would.
var bases = map[string]string{
	"KV/Range":                 "key: 'k'",
	"KV/RangeStream":           "key: 'k'",
	"KV/Put":                   "key: 'k'",
	"KV/DeleteRange":           "key: 'k'",
	"KV/Compact":               "revision: 1",
	"Watch/Watch":              "create_request: { key: 'k' }",
	"Lease/LeaseGrant":         "TTL: 100",
	"Cluster/MemberAdd":        "peerURLs: 'http://127.0.0.1:1' isLearner: true",
	"Cluster/MemberUpdate":     "ID: 77 peerURLs: 'http://127.0.0.1:1'",
	"Maintenance/Downgrade":    "version: '3.5.0'",
	"Auth/UserAdd":             "name: 'u' password: 'p'",
	"Auth/UserGrantRole":       "user: 'u' role: 'r'",
	"Auth/UserRevokeRole":      "name: 'u' role: 'r'",
	"Auth/RoleAdd":             "name: 'r'",
	"Auth/RoleGrantPermission": "name: 'r' perm: { key: 'k' }",
	"Auth/Authenticate":        "name: 'u' password: 'p'",
	"Lock/Lock":                "name: 'l'",
	"Election/Campaign":        "name: 'e'",
	"Election/Leader":          "name: 'e'",
	"Election/Observe":         "name: 'e'",
}

// Of these real etcd 3.7.1 dies.
var deadly = []string{"Maintenance/Alarm action=-1", "Maintenance/Alarm action=99"}

var edgeServices = []string{
	"etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "v3lockpb.Lock", "v3electionpb.Election",
	"grpc.health.v1.Health", "etcdserverpb.Cluster", "etcdserverpb.Auth", "etcdserverpb.Maintenance",
}

// An edge is a question with the name under which its answers are compared.
type edge struct {
	Label string `json:"label"`
	question
}

// edges prints, a line each, a question for every field of every method and every odd value of it,
// as the descriptors tell them: by gRPC, or for the JSON gateway.
func edges(args []string) error {
	c := newCommon("edges")
	gateway := c.flags.Bool("gateway", false, "for the JSON gateway")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for _, service := range edgeServices {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			return fmt.Errorf("%s: %w", service, err)
		}
		methods := found.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			all, err := edgesOf(methods.Get(i), *gateway)
			if err != nil {
				return fmt.Errorf("%s: %w", methods.Get(i).FullName(), err)
			}
			for _, one := range all {
				if err := out.Encode(one); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func edgesOf(method protoreflect.MethodDescriptor, gateway bool) (all []edge, err error) {
	service := string(method.Parent().FullName())
	name := fmt.Sprintf("%s/%s", method.Parent().Name(), method.Name())
	path := route(method)
	if gateway && path == "" {
		return nil, nil
	}
	requests := map[string]protoreflect.Message{"": dynamicpb.NewMessage(method.Input())}
	vary(dynamicpb.NewMessage(method.Input()), "", edgeDepth, func(label string, m protoreflect.Message) {
		requests[label] = m
	})
	if text := bases[name]; text != "" {
		base := dynamicpb.NewMessage(method.Input())
		if err := prototext.Unmarshal([]byte(text), base); err != nil {
			return nil, err
		}
		requests["good"] = base
		vary(base, "good ", edgeDepth, func(label string, m protoreflect.Message) { requests[label] = m })
	}
	var labels []string
	for label := range requests {
		labels = append(labels, label)
	}
	sort.Strings(labels)
	labels = slices.DeleteFunc(labels, func(label string) bool { return slices.Contains(deadly, name+" "+label) })
	for n, label := range labels {
		q := question{Method: service + "/" + string(method.Name())}
		if method.IsStreamingServer() {
			q.Answers = 1
		}
		if method.IsStreamingServer() || service == "v3lockpb.Lock" || service == "v3electionpb.Election" {
			q.WaitMS = silence
		}
		// Who asks for what another has waits for ever.
		own := method.Input().Fields().ByName("name")
		if request := requests[label]; (service == "v3lockpb.Lock" || service == "v3electionpb.Election") &&
			own != nil && own.Kind() == protoreflect.BytesKind && label != "" {
			unique := fmt.Appendf(request.Get(own).Bytes(), "-%t-%d", gateway, n)
			request.Set(own, protoreflect.ValueOfBytes(unique))
		}
		var text []byte
		if gateway {
			q.Method = "POST " + path
			options := protojson.MarshalOptions{UseProtoNames: true, UseEnumNumbers: true}
			text, err = options.Marshal(requests[label].Interface())
		} else {
			text, err = prototext.Marshal(requests[label].Interface())
		}
		if err != nil {
			return nil, err
		}
		q.Request = []string{string(text)}
		all = append(all, edge{strings.TrimSpace(name + " " + label), q})
	}
	if gateway {
		for _, body := range []string{"", "{", "[]", `{"nope": 1}`, `{"key": 5, "name": 5, "ID": "x"}`} {
			q := question{Method: "POST " + path, Request: []string{body}}
			if method.IsStreamingServer() {
				q.Answers, q.WaitMS = 1, silence
			}
			all = append(all, edge{fmt.Sprintf("%s body %s", name, body), q})
		}
		for _, verb := range []string{"GET", "PUT", "OPTIONS"} {
			all = append(all, edge{name + " by " + verb, question{Method: verb + " " + path, Request: []string{"{}"}}})
		}
	}
	return all, nil
}

// route is the path that the gateway has for a method, "" for none.
func route(method protoreflect.MethodDescriptor) string {
	rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	return rule.GetPost()
}

// vary visits copies of the message in which one field, at any depth, has one odd value.
func vary(base protoreflect.Message, prefix string, depth int, visit func(string, protoreflect.Message)) {
	fields := base.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		label := prefix + string(field.Name())
		if field.Message() != nil {
			varyMessage(base, field, label, depth, visit)
			continue
		}
		for _, value := range oddValues(field) {
			m := clone(base)
			if field.IsList() {
				m.Mutable(field).List().Append(value)
			} else {
				m.Set(field, value)
			}
			visit(fmt.Sprintf("%s=%s", label, show(value)), m)
		}
	}
}

func varyMessage(base protoreflect.Message, field protoreflect.FieldDescriptor, label string, depth int,
	visit func(string, protoreflect.Message)) {
	with := func(inner protoreflect.Message) protoreflect.Message {
		m := clone(base)
		if field.IsList() {
			m.Mutable(field).List().Append(protoreflect.ValueOfMessage(inner))
		} else {
			m.Set(field, protoreflect.ValueOfMessage(inner))
		}
		return m
	}
	empty := dynamicpb.NewMessage(field.Message())
	visit(label+"={}", with(empty))
	if depth == 1 || field.IsMap() {
		return
	}
	inner := protoreflect.Message(empty)
	if !field.IsList() && base.Has(field) {
		inner = base.Get(field).Message()
	}
	vary(inner, label+".", depth-1, func(label string, m protoreflect.Message) { visit(label, with(m)) })
}

func clone(m protoreflect.Message) protoreflect.Message {
	return proto.Clone(m.Interface()).ProtoReflect()
}

func oddValues(field protoreflect.FieldDescriptor) []protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return []protoreflect.Value{protoreflect.ValueOfBool(true)}
	case protoreflect.EnumKind:
		values := []protoreflect.Value{protoreflect.ValueOfEnum(99), protoreflect.ValueOfEnum(-1)}
		for i := 1; i < field.Enum().Values().Len(); i++ {
			values = append(values, protoreflect.ValueOfEnum(field.Enum().Values().Get(i).Number()))
		}
		return values
	case protoreflect.Int32Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt32(-1), protoreflect.ValueOfInt32(math.MaxInt32)}
	case protoreflect.Uint32Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint32(math.MaxUint32)}
	case protoreflect.Int64Kind:
		return []protoreflect.Value{protoreflect.ValueOfInt64(-1), protoreflect.ValueOfInt64(1),
			protoreflect.ValueOfInt64(math.MaxInt64), protoreflect.ValueOfInt64(math.MinInt64)}
	case protoreflect.Uint64Kind:
		return []protoreflect.Value{protoreflect.ValueOfUint64(1), protoreflect.ValueOfUint64(math.MaxUint64)}
	case protoreflect.StringKind:
		return []protoreflect.Value{protoreflect.ValueOfString("x"), protoreflect.ValueOfString("\x00")}
	case protoreflect.BytesKind:
		return []protoreflect.Value{protoreflect.ValueOfBytes([]byte("x")), protoreflect.ValueOfBytes([]byte{0}),
			protoreflect.ValueOfBytes([]byte{0xff})}
	default:
		return nil
	}
}

func show(value protoreflect.Value) string {
	switch v := value.Interface().(type) {
	case []byte:
		return fmt.Sprintf("%q", v)
	case string:
		return fmt.Sprintf("%q", v)
	default:
		return fmt.Sprint(v)
	}
}
