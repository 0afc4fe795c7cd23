// Makes the files beside it with the real bbolt, and says in NAME.expect what is in them:
//
//	go mod init golden && go get go.etcd.io/bbolt@v1.5.0 && go run make.go DIR
//
// Each file is cut at its high-water mark.
package main

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func key(n int) []byte {
	return append([]byte(fmt.Sprintf("%08d", n)), bytes.Repeat([]byte("k"), n*7%23)...)
}

func value(n, size int) []byte {
	return bytes.Repeat([]byte{byte(n)}, size)
}

type made struct {
	name     string
	pageSize int
	stored   bool
	fill     func(db *bolt.DB)
}

func update(db *bolt.DB, fn func(tx *bolt.Tx)) {
	must(db.Update(func(tx *bolt.Tx) error { fn(tx); return nil }))
}

func bucket(tx *bolt.Tx, name string) *bolt.Bucket {
	b, err := tx.CreateBucketIfNotExists([]byte(name))
	must(err)
	return b
}

// Like a young etcd file: one bucket that grows, small ones that stay inline.
func etcdLike(keys, size int) func(db *bolt.DB) {
	return func(db *bolt.DB) {
		update(db, func(tx *bolt.Tx) {
			for _, name := range []string{"alarm", "auth", "key", "lease", "meta"} {
				bucket(tx, name)
			}
		})
		for round := 0; round < 6; round++ {
			update(db, func(tx *bolt.Tx) {
				b := bucket(tx, "key")
				b.FillPercent = 0.9
				for n := round * keys; n < (round+1)*keys; n++ {
					must(b.Put(key(n), value(n, size+n%17)))
				}
				must(bucket(tx, "meta").Put([]byte("consistent_index"), value(round, 8)))
			})
		}
		update(db, func(tx *bolt.Tx) {
			for n := 0; n < 6*keys; n++ {
				if n%3 != 0 && n < 4*keys {
					must(bucket(tx, "key").Delete(key(n)))
				}
			}
		})
	}
}

func nested(db *bolt.DB) {
	update(db, func(tx *bolt.Tx) {
		outer := bucket(tx, "outer")
		must(outer.SetSequence(77))
		for n := 0; n < 40; n++ {
			must(outer.Put(key(n), value(n, 30)))
		}
		for _, name := range []string{"inline", "tree"} {
			inner, err := outer.CreateBucketIfNotExists([]byte(name))
			must(err)
			must(inner.Put([]byte("a"), []byte("b")))
			if name == "tree" {
				for n := 0; n < 60; n++ {
					must(inner.Put(key(n), value(n, 40)))
				}
				deep, err := inner.CreateBucketIfNotExists([]byte("deep"))
				must(err)
				must(deep.Put(key(1), value(1, 600)))
			}
		}
		small := bucket(tx, "small")
		must(small.SetSequence(5))
		must(small.Put([]byte("x"), []byte("y")))
	})
	update(db, func(tx *bolt.Tx) {
		for n := 0; n < 20; n++ {
			must(bucket(tx, "outer").Delete(key(n)))
		}
	})
}

func overflow(db *bolt.DB) {
	for round := 0; round < 3; round++ {
		update(db, func(tx *bolt.Tx) {
			b := bucket(tx, "big")
			for n := 0; n < 12; n++ {
				must(b.Put(append(key(n), bytes.Repeat([]byte("L"), 700*(n%2))...), value(n+round, 500+900*(n%4))))
			}
		})
	}
}

func main() {
	for _, m := range []made{
		{"fresh-4096", 4096, true, func(*bolt.DB) {}},
		{"etcd-4096-none", 4096, false, etcdLike(60, 90)},
		{"etcd-1024-none", 1024, false, etcdLike(100, 40)},
		{"etcd-1024-stored", 1024, true, etcdLike(100, 40)},
		{"etcd-16384-stored", 16384, true, etcdLike(40, 120)},
		{"etcd-65536-none", 65536, false, etcdLike(2, 10)},
		{"nested-1024-none", 1024, false, nested},
		{"nested-1024-stored", 1024, true, nested},
		{"overflow-1024-none", 1024, false, overflow},
		{"overflow-2048-stored", 2048, true, overflow},
	} {
		create(m, os.Args[1])
	}
}

func create(m made, dir string) {
	path := filepath.Join(dir, m.name+".db")
	os.Remove(path)
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: m.pageSize, NoFreelistSync: !m.stored, FreelistType: bolt.FreelistMapType})
	must(err)
	m.fill(db)
	var out bytes.Buffer
	var size int64
	must(db.View(func(tx *bolt.Tx) error {
		size = tx.Size()
		fmt.Fprintf(&out, "txid %d\nsize %d\n", tx.ID(), size)
		sum := fnv.New64a()
		_, err := tx.WriteTo(sum)
		must(err)
		fmt.Fprintf(&out, "stream %016x\n", sum.Sum64())
		for err := range tx.Check() {
			panic(err)
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			fmt.Fprintf(&out, "bucket %s\n", name)
			return b.ForEach(func(k, v []byte) error {
				if v == nil {
					fmt.Fprintf(&out, "%s is a bucket\n", k)
					return nil
				}
				sum := fnv.New64a()
				sum.Write(v)
				fmt.Fprintf(&out, "%s %d %016x\n", k, len(v), sum.Sum64())
				return nil
			})
		})
	}))
	must(db.Close())
	must(os.Truncate(path, size))
	must(os.WriteFile(filepath.Join(dir, m.name+".expect"), out.Bytes(), 0o644))
}
