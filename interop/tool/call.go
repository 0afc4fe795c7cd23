package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	// The descriptors of every service that is called by name.
	_ "go.etcd.io/etcd/api/v3/etcdserverpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	_ "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A question is one call, as raw as the wire allows: nothing is checked before it is sent.
type question struct {
	Method  string   `json:"method"`  // "etcdserverpb.KV/Range", "POST /v3/kv/range", "GET /version"
	Request []string `json:"request"` // messages in prototext or "hex:" and bytes, or one HTTP body
	Answers int      `json:"answers"` // of a stream: how many are awaited
	WaitMS  int      `json:"wait_ms"` // how long at most; 0: answerWait
}

// An answer is all that came back.
type answer struct {
	Code    string            `json:"code"` // gRPC code or HTTP status
	Message string            `json:"message"`
	Answers []json.RawMessage `json:"answers"`
}

const answerWait = 10 * time.Second

func (q question) wait() time.Duration {
	if q.WaitMS == 0 {
		return answerWait
	}
	return time.Duration(q.WaitMS) * time.Millisecond
}

// call reads questions as lines of JSON from its input, asks them one after another, and prints
// an answer a line.
func call(args []string) error {
	c := newCommon("call")
	if err := c.flags.Parse(args); err != nil {
		return err
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(*c.endpoint, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(1<<30), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return err
	}
	defer conn.Close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		var a answer
		if method, path, isHTTP := strings.Cut(q.Method, " "); isHTTP {
			a, err = askHTTP(method, *c.endpoint+path, q)
		} else {
			a, err = askRPC(conn, q)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q.Method, err)
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

func askRPC(conn *grpc.ClientConn, q question) (answer, error) {
	ctx, cancel := within(q.wait())
	defer cancel()
	service, name, _ := strings.Cut(q.Method, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil { // A method that nobody knows is a question too.
		err := conn.Invoke(ctx, "/"+q.Method, &emptypb.Empty{}, &emptypb.Empty{})
		return ended(answer{}, err), nil
	}
	method := found.(protoreflect.MethodDescriptor)
	var requests []*dynamicpb.Message
	for _, text := range q.Request {
		request := dynamicpb.NewMessage(method.Input())
		if digits, isHex := strings.CutPrefix(text, "hex:"); isHex {
			// What does not parse is sent as it is, like everything else.
			data, err := hex.DecodeString(digits)
			if err != nil {
				return answer{}, err
			}
			request.SetUnknown(data)
		} else if err := prototext.Unmarshal([]byte(text), request); err != nil {
			return answer{}, err
		}
		requests = append(requests, request)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{
		ServerStreams: method.IsStreamingServer(), ClientStreams: method.IsStreamingClient()}, "/"+q.Method)
	if err != nil {
		return ended(answer{}, err), nil
	}
	for _, request := range requests {
		if err := stream.SendMsg(request); err != nil && err != io.EOF {
			return ended(answer{}, err), nil
		}
	}
	if !method.IsStreamingClient() {
		if err := stream.CloseSend(); err != nil {
			return ended(answer{}, err), nil
		}
	}
	var a answer
	for {
		if method.IsStreamingServer() && q.Answers > 0 && len(a.Answers) == q.Answers {
			return ended(a, nil), nil
		}
		got := dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(got); err == io.EOF {
			return ended(a, nil), nil
		} else if err != nil {
			return ended(a, err), nil
		}
		text, err := protojson.Marshal(got)
		if err != nil {
			return answer{}, err
		}
		a.Answers = append(a.Answers, text)
		if !method.IsStreamingServer() {
			return ended(a, nil), nil
		}
	}
}

func ended(a answer, err error) answer {
	s, _ := status.FromError(err)
	a.Code, a.Message = s.Code().String(), s.Message()
	if s.Code() == codes.DeadlineExceeded {
		a.Message = "no answer in time"
	}
	return a
}

// askHTTP keeps as many lines of the body as were asked for, or all of it.
func askHTTP(method, url string, q question) (answer, error) {
	ctx, cancel := within(q.wait())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(strings.Join(q.Request, "\n")))
	if err != nil {
		return answer{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{Code: "none", Message: "no answer"}, nil
	}
	defer response.Body.Close()
	a := answer{Code: response.Status, Message: response.Header.Get("Content-Type")}
	body := bufio.NewReaderSize(response.Body, 1<<20)
	for q.Answers == 0 || len(a.Answers) < q.Answers {
		line, err := body.ReadString('\n')
		if text := strings.TrimSpace(line); json.Valid([]byte(text)) {
			a.Answers = append(a.Answers, json.RawMessage(text))
		} else if text != "" {
			quoted, _ := json.Marshal(text)
			a.Answers = append(a.Answers, quoted)
		}
		if err == io.EOF {
			break
		} else if err != nil {
			a.Message += " (cut off)"
			break
		}
	}
	return a, nil
}
