package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// A record is one line of an account: an operation that was begun, or its acknowledgement.
// Operations of one worker follow each other, and a key belongs to one worker, so the order of
// operations on a key is the order of the lines.
type record struct {
	N     int64    `json:"n"`               // number of the operation, unique in the account
	Done  bool     `json:"done,omitempty"`  // false: begun; true: acknowledged
	Keys  []string `json:"keys,omitempty"`  // keys that it writes (all in one revision)
	Value string   `json:"value,omitempty"` // written value; empty for a delete
	Kind  string   `json:"kind,omitempty"`  // put, txn, delete, lease, revoke, compact
	Lease int64    `json:"lease,omitempty"` // lease of the keys
	TTL   int64    `json:"ttl,omitempty"`   // granted TTL
	Rev   int64    `json:"rev,omitempty"`   // revision of the answer
	Code  string   `json:"code,omitempty"`  // done with this definite refusal: nothing was written
}

type account struct {
	mu   sync.Mutex
	file *os.File
	next int64
}

func openAccount(path string) (*account, error) {
	old, err := readAccount(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var next int64
	for _, r := range old {
		next = max(next, r.N)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &account{file: file, next: next}, err
}

func (a *account) write(r record) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = a.file.Write(append(line, '\n'))
	return err
}

func (a *account) begin(r record) (record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	r.N = a.next
	return r, a.write(r)
}

func (a *account) done(r record, rev int64, code string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.write(record{N: r.N, Done: true, Rev: rev, Code: code, Lease: r.Lease, TTL: r.TTL})
}

func readAccount(path string) ([]record, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var records []record
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}
