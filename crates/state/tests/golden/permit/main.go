// Makes what etcd answers to whom it permits ranges: go run . > 3.7.txt, and for V in 3.5 3.6: go run -modfile=$V.mod . > $V.txt
//
// A line is a seed and the answers to its questions, each a digit: 1 if the range may be read, 2 more if it may be
// written. The test (src/auth/ranges.rs) makes the same permissions and questions of the seed.
package main

import (
	"bytes"
	"fmt"

	"go.etcd.io/etcd/pkg/v3/adt"
)

const (
	seeds     = 300
	questions = 40
)

type chance uint64

func (c *chance) below(n uint64) uint64 {
	*c = *c*6364136223846793005 + 1442695040888963407
	return uint64(*c>>33) % n
}

// Few letters, so that much is equal; the byte 0 among them, which is the open end where it stands alone.
func (c *chance) key(letters uint64) []byte {
	key := make([]byte, c.below(3))
	for i := range key {
		if letter := c.below(letters); letter > 0 {
			key[i] = byte('a' + letter - 1)
		}
	}
	return key
}

// A range as a request has it. A tidy one is what etcd grants today: its key is not empty and comes before its end.
func (c *chance) span(letters uint64, tidy bool) (key, end []byte) {
	key, end = c.key(letters), c.key(letters)
	switch c.below(12) {
	case 0, 1, 2, 3:
		end = nil
	case 4:
		end = []byte{0}
	}
	if tidy && len(key) == 0 {
		key = []byte{0}
	}
	if tidy && len(end) > 0 && !bytes.Equal(end, []byte{0}) {
		if order := bytes.Compare(key, end); order > 0 {
			key, end = end, key
		} else if order == 0 {
			end = nil
		}
	}
	return key, end
}

func interval(key, end []byte) adt.Interval {
	if bytes.Equal(end, []byte{0}) {
		end = nil
	}
	return adt.NewBytesAffineInterval(key, end)
}

func main() {
	for seed := uint64(1); seed <= seeds; seed++ {
		c := chance(seed)
		letters, count, tidy := 2+seed%12, 1+seed*7%(6+seed/3), seed%3 > 0
		read, write := adt.NewIntervalTree(), adt.NewIntervalTree()
		for ; count > 0; count-- {
			key, end := c.span(letters, tidy)
			permitted := interval(key, end)
			if len(end) == 0 {
				permitted = adt.NewBytesAffinePoint(key)
			}
			kind := c.below(3)
			if kind != 1 {
				read.Insert(permitted, struct{}{})
			}
			if kind != 0 {
				write.Insert(permitted, struct{}{})
			}
		}
		fmt.Print(seed, " ")
		for range questions {
			key, end := c.span(letters, seed%3 == 2)
			answer := 0
			for bit, tree := range []adt.IntervalTree{read, write} {
				permits := len(end) == 0 && tree.Intersects(adt.NewBytesAffinePoint(key)) ||
					len(end) > 0 && tree.Contains(interval(key, end))
				if permits {
					answer |= 1 << bit
				}
			}
			fmt.Print(answer)
		}
		fmt.Println()
	}
}
