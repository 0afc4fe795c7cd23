// Command waltool writes and reads etcd logs with etcd's own package, for the interop tests of this
// crate. Built once for each line of etcd:
//
//	go get go.etcd.io/etcd/server/v3@v3.6.14 && go mod tidy && go build -o waltool .
//
// With -tags etcd37 for 3.7; for 3.5, the import paths in v36.go are etcd/server/v3/wal and etcd/raft/v3.
//
//	waltool write DIR ops...   runs ops on DIR: segment:BYTES, create, open:INDEX:TERM,
//	                           save:TERM:FIRST:COUNT:BYTES:COMMIT, commit:TERM:COMMIT, mark:TERM:INDEX,
//	                           release:INDEX, kill
//	waltool dump DIR INDEX TERM  opens for writing, repairs as etcd's boot does, prints what it holds
//	waltool marks DIR          prints the valid marks
//	waltool snap FILE          prints a .snap file
//	waltool savesnap DIR TERM INDEX DATA  writes a .snap file
package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 2 && args[0] == "write":
		return write(args[1], args[2:])
	case len(args) == 4 && args[0] == "dump":
		return dump(args[1], number(args[2]), number(args[3]))
	case len(args) == 2 && args[0] == "marks":
		return marks(args[1])
	case len(args) == 2 && args[0] == "snap":
		return printSnap(args[1])
	case len(args) == 5 && args[0] == "savesnap":
		return saveSnap(args[1], number(args[2]), number(args[3]), args[4])
	}
	return errors.New("usage: see the head of main.go")
}

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// payload is what the Rust side computes too: no byte is zero.
func payload(index uint64, size int) []byte {
	data := make([]byte, size)
	x := index*2654435761 + 1
	for i := range data {
		x = x*6364136223846793005 + 1442695040888963407
		data[i] = byte(x>>56)%255 + 1
	}
	return data
}

func write(dir string, ops []string) error {
	var log *appender
	var err error
	for _, op := range ops {
		parts := strings.Split(op, ":")
		at := func(i int) uint64 { return number(parts[i]) }
		switch parts[0] {
		case "create":
			log, err = create(dir)
		case "open":
			log, err = open(dir, at(1), at(2))
		case "save":
			err = log.save(at(1), at(2), int(at(3)), int(at(4)), at(5))
		case "commit":
			err = log.save(at(1), 0, 0, 0, at(2))
		case "mark":
			err = log.mark(at(1), at(2))
		case "segment":
			setSegmentBytes(int64(at(1)))
		case "release":
			err = log.wal.ReleaseLockTo(at(1))
		case "kill":
			// Leaves the spare and the preallocated space as a crash does.
			os.Exit(0)
		default:
			err = fmt.Errorf("unknown op %q", op)
		}
		if err != nil {
			return err
		}
	}
	return log.wal.Close()
}

func printEntry(kind int, term, index uint64, data []byte) {
	fmt.Printf("entry %d %d %d %d %08x\n", kind, term, index, len(data), crc32.Checksum(data, castagnoli))
}

func isTorn(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

func printSnapshot(term, index uint64, voters []uint64, data []byte) {
	fmt.Printf("snap %d %d %v %d %08x\n", term, index, voters, len(data), crc32.Checksum(data, castagnoli))
}
