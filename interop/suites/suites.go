// Package suites names the test programs of etcd that are built here, so that go.mod and go.sum pin
// them. The root module is in go.mod for the sample of a configuration file that it holds.
package suites

import (
	_ "go.etcd.io/etcd/tests/v3/common"
	_ "go.etcd.io/etcd/tests/v3/e2e"
)
