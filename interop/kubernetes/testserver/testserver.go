// Package testserver takes the place of the package of this name in k8s.io/apiserver when that
// module's storage tests run: the same two functions, but the server is a program, named by
// ETCD_PROGRAM, and not part of the test process. `cargo xtask kubernetes` puts it there.
package testserver

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	readyLine = "ready to serve client requests"
	readyWait = 60 * time.Second
	stopWait  = 30 * time.Second
	// Between the choice of a port and the server's listen another process may take it.
	startsMax = 5
)

// NewTestConfig is a configuration of one member on free ports, in a directory of the test. Only
// what a storage test sets beside it is passed on, see arguments.
func NewTestConfig(t testing.TB) *embed.Config {
	cfg := embed.NewConfig()
	cfg.UnsafeNoFsync = true
	cfg.Dir = t.TempDir()
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := choosePorts(cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// RunEtcd starts the program with the configuration (a fresh one for nil), stops it when the test
// ends, and gives a client that records what a test asks, as the original does.
func RunEtcd(t testing.TB, cfg *embed.Config) *kubernetes.Client {
	t.Helper()
	if cfg == nil {
		cfg = NewTestConfig(t)
	}
	server, err := start(cfg)
	for attempt := 1; errors.Is(err, errPortTaken) && attempt < startsMax; attempt++ {
		if err = choosePorts(cfg); err == nil {
			server, err = start(cfg)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.stop(); err != nil {
			t.Error(err)
		}
	})

	tlsConfig, err := cfg.ClientTLSInfo.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.New(clientv3.Config{
		TLS:         tlsConfig,
		Endpoints:   []string{cfg.AdvertiseClientUrls[0].String()},
		DialTimeout: 10 * time.Second,
		Logger:      zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)).Named("etcd-client"),
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}

func choosePorts(cfg *embed.Config) error {
	scheme := "http"
	if len(cfg.ListenClientUrls) == 1 && !cfg.ClientTLSInfo.Empty() {
		scheme = "https"
	}
	var hosts []string
	for range 2 {
		listener, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return err
		}
		hosts = append(hosts, net.JoinHostPort("localhost", port))
	}
	client, peer := []url.URL{{Scheme: scheme, Host: hosts[0]}}, []url.URL{{Scheme: "http", Host: hosts[1]}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = client, client
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	return nil
}

// arguments are the flags for the fields that storage tests set.
func arguments(cfg *embed.Config) []string {
	args := []string{
		"--name=" + cfg.Name,
		"--data-dir=" + cfg.Dir,
		"--listen-client-urls=" + cfg.ListenClientUrls[0].String(),
		"--advertise-client-urls=" + cfg.AdvertiseClientUrls[0].String(),
		"--listen-peer-urls=" + cfg.ListenPeerUrls[0].String(),
		"--initial-advertise-peer-urls=" + cfg.AdvertisePeerUrls[0].String(),
		"--initial-cluster=" + cfg.InitialCluster,
		fmt.Sprintf("--unsafe-no-fsync=%t", cfg.UnsafeNoFsync),
		fmt.Sprintf("--quota-backend-bytes=%d", cfg.QuotaBackendBytes),
		fmt.Sprintf("--watch-progress-notify-interval=%s", cfg.WatchProgressNotifyInterval),
	}
	for flag, value := range map[string]string{
		"cert-file":       cfg.ClientTLSInfo.CertFile,
		"key-file":        cfg.ClientTLSInfo.KeyFile,
		"trusted-ca-file": cfg.ClientTLSInfo.TrustedCAFile,
	} {
		if value != "" {
			args = append(args, "--"+flag+"="+value)
		}
	}
	return args
}

var errPortTaken = errors.New("address already in use")

type server struct {
	command *exec.Cmd
	ended   chan struct{}

	mutex  sync.Mutex
	output []string // what went wrong, what is not JSON, and the last line
}

// start gives a server that has said that it serves.
func start(cfg *embed.Config) (*server, error) {
	program := os.Getenv("ETCD_PROGRAM")
	if program == "" {
		return nil, errors.New("ETCD_PROGRAM does not name the server to test")
	}
	s := &server{command: exec.Command(program, arguments(cfg)...), ended: make(chan struct{})}
	// A directory of a test is no place for a server's configuration in the environment.
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "ETCD_") {
			s.command.Env = append(s.command.Env, setting)
		}
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.command.Stdout, s.command.Stderr = writer, writer
	err = s.command.Start()
	writer.Close()
	if err != nil {
		reader.Close()
		return nil, err
	}
	ready := make(chan struct{})
	go s.follow(reader, ready)
	select {
	case <-ready:
		return s, nil
	case <-s.ended:
		err := fmt.Errorf("%s ended before it served: %s", program, s.said())
		if strings.Contains(err.Error(), errPortTaken.Error()) {
			return nil, fmt.Errorf("%w: %w", errPortTaken, err)
		}
		return nil, err
	case <-time.After(readyWait):
		s.command.Process.Kill()
		return nil, fmt.Errorf("%s does not serve after %s: %s", program, readyWait, s.said())
	}
}

// follow reads the server's log to its end, and then takes leave of the process.
func (s *server) follow(reader io.ReadCloser, ready chan<- struct{}) {
	defer close(s.ended)
	defer s.command.Wait()
	defer reader.Close()
	serves := false
	lines := bufio.NewScanner(reader)
	lines.Buffer(nil, 16<<20)
	last := ""
	for lines.Scan() {
		last = lines.Text()
		var line struct{ Level, Msg string }
		err := json.Unmarshal(lines.Bytes(), &line)
		if err != nil || (line.Level != "debug" && line.Level != "info" && line.Level != "warn") {
			s.mutex.Lock()
			s.output = append(s.output, last)
			s.mutex.Unlock()
		}
		if line.Msg == readyLine && !serves {
			serves = true
			close(ready)
		}
	}
	s.mutex.Lock()
	s.output = append(s.output, last)
	s.mutex.Unlock()
	io.Copy(io.Discard, reader)
}

func (s *server) said() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return strings.Join(s.output, "\n")
}

// stop ends the server; one that ended by itself, or does not end, is an error.
func (s *server) stop() error {
	select {
	case <-s.ended:
		return fmt.Errorf("the server ended during the test: %s", s.said())
	default:
	}
	s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		return nil
	case <-time.After(stopWait):
		s.command.Process.Kill()
		return fmt.Errorf("the server does not stop %s after SIGTERM: %s", stopWait, s.said())
	}
}
