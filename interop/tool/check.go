package main

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// check runs bbolt's own consistency check over data files, and reads every key.
func check(args []string) error {
	for _, path := range args {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second, PreLoadFreelist: true})
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		keys := 0
		err = db.View(func(tx *bolt.Tx) error {
			var found []error
			for e := range tx.Check() {
				found = append(found, e)
			}
			if len(found) > 0 {
				return errors.Join(found...)
			}
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
				return b.ForEach(func(_, _ []byte) error { keys++; return nil })
			})
		})
		db.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Printf("%s: ok, %d keys\n", path, keys)
	}
	return nil
}
