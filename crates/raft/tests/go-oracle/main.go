// Oracle runs members of go.etcd.io/raft/v3 by commands on its standard input, one a line, and says after each what came
// out, up to a line ".". The driver gives the same commands to our core and compares. Storage is asynchronous, and the
// driver says when a write is done.
//
// What differs between the module's lines (its generated types) is in core.go of v3.6 and v3.7.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// The numbers of raftpb.MessageType that this program looks at.
const (
	kindPropose         = 2
	kindPreVoteResponse = 18
	kindStorageAppend   = 19
	kindStorageApply    = 21
	kindStorageApplied  = 22
)

// write is an append request on its way to disk.
type write struct {
	message wire
	// heavy must be synced. A light one is done as soon as all before it are.
	heavy bool
}

type node struct {
	id     uint64
	rn     *raft.RawNode
	store  *storage
	writes []write
	toDo   []entry
}

var (
	nodes = map[uint64]*node{}
	out   *bufio.Writer
)

// start: id election heartbeat prevote checkquorum maxmsg inflight inflightbytes uncommitted term vote commit base baseterm
// applied voters learners entries
func start(f []string) {
	id := number(f[0])
	s := &storage{
		term: number(f[9]), vote: number(f[10]), commit: number(f[11]),
		base:     number(f[12]),
		baseTerm: number(f[13]),
		applied:  number(f[14]),
		members:  members{parseIDs(f[15]), parseIDs(f[16])},
		entries:  parseEntries(f[17]),
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID: id, ElectionTick: int(number(f[1])), HeartbeatTick: int(number(f[2])), Storage: s, Applied: s.applied,
		AsyncStorageWrites: true, MaxSizePerMsg: number(f[5]), MaxCommittedSizePerReady: 1 << 60,
		MaxInflightMsgs: int(number(f[6])), MaxInflightBytes: number(f[7]), MaxUncommittedEntriesSize: number(f[8]),
		PreVote: f[3] == "1", CheckQuorum: f[4] == "1",
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
	})
	if err != nil {
		panic(err)
	}
	nodes[id] = &node{id: id, rn: rn, store: s}
}

// poll takes all that is ready. Messages that need no disk are told at once ("m"), the others when their write is done.
func (n *node) poll() {
	for n.rn.HasReady() {
		rd := n.rn.Ready()
		for _, m := range rd.Messages {
			switch kindOf(m) {
			case kindStorageAppend:
				n.begin(m, rd.MustSync)
			case kindStorageApply:
				n.toDo = append(n.toDo, fromWire(m).entries...)
			default:
				fmt.Fprintln(out, "m", messageText(fromWire(m)))
			}
		}
		for _, rs := range rd.ReadStates {
			fmt.Fprintf(out, "r %d %x\n", rs.Index, rs.RequestCtx)
		}
		n.light()
	}
}

// begin puts an append request on its way. The own pre-vote does not wait for it: nothing is promised by it.
func (n *node) begin(m wire, mustSync bool) {
	own, rest := splitResponses(m, func(kind, to uint64) bool { return kind == kindPreVoteResponse && to == n.id })
	n.writes = append(n.writes, write{rest, mustSync || hasSnapshot(rest)})
	for _, response := range own {
		n.rn.Step(response)
	}
}

// light finishes writes at the head of the queue that need no sync.
func (n *node) light() {
	for len(n.writes) > 0 && !n.writes[0].heavy {
		n.finish()
	}
}

// finish makes the oldest write durable and lets go what waited for it ("d").
func (n *node) finish() {
	m := n.writes[0].message
	n.writes = n.writes[1:]
	n.store.write(fromWire(m))
	// What a snapshot holds need not be applied any more.
	for len(n.toDo) > 0 && n.toDo[0].index <= n.store.applied {
		n.toDo = n.toDo[1:]
	}
	for _, response := range responsesOf(m) {
		if told := fromWire(response); told.to == n.id {
			n.rn.Step(response)
		} else {
			fmt.Fprintln(out, "d", messageText(told))
		}
	}
}

func (n *node) apply(target uint64) {
	e := n.toDo[0]
	n.toDo = n.toDo[1:]
	if e.kind == 1 {
		n.store.members = applyChange(n.rn, uint64(e.data[1]), target)
		n.rn.OracleMembersChanged()
	}
	n.store.applied = e.index
	n.rn.Step(toWire(message{kind: kindStorageApplied, to: n.id, from: raft.LocalApplyThread, entries: []entry{e}}))
}

func (n *node) state() {
	s := n.rn.Status()
	term, vote, commit := hardState(s.BasicStatus)
	handed := s.Applied + uint64(len(n.toDo))
	fmt.Fprintf(out, "s %d %d %d %d %d %d %d %d %s|%s %d\n", s.RaftState, term, vote, s.Lead, commit,
		s.Applied, n.rn.OracleLast(), s.LeadTransferee, ids(s.Config.Voters[0].Slice()), learners(s.Config), handed)
	for id := uint64(1); id < 20; id++ {
		if p, ok := s.Progress[id]; ok && id != n.id {
			fmt.Fprintf(out, "p %d %d %d %d %v %d %v %d\n", id, p.Match, p.Next, p.State, p.IsPaused(), p.PendingSnapshot,
				p.RecentActive, p.Inflights.Count())
		}
	}
}

func learners(c tracker.Config) string {
	var list []uint64
	for id := uint64(1); id < 20; id++ {
		if _, ok := c.Learners[id]; ok {
			list = append(list, id)
		}
	}
	return ids(list)
}

func command(f []string) {
	if f[0] == "start" {
		start(f[1:])
		nodes[number(f[1])].state()
		return
	}
	n := nodes[number(f[1])]
	pending := n.rn.OraclePending()
	var err error
	switch f[0] {
	case "tick":
		n.rn.OracleTimeout(int(number(f[2])))
		n.rn.Tick()
	case "campaign":
		err = n.rn.Campaign()
	case "step":
		err = n.rn.Step(toWire(parseMessage(f[2:])))
	case "propose":
		err = n.rn.Step(toWire(message{kind: kindPropose, from: n.id, entries: parseEntries(f[2])}))
	case "read":
		context, _ := hex.DecodeString(f[2])
		n.rn.ReadIndex(context)
	case "transfer":
		n.rn.TransferLeader(number(f[2]))
	case "unreachable":
		n.rn.ReportUnreachable(number(f[2]))
	case "snapshot":
		status := raft.SnapshotFailure
		if f[3] == "1" {
			status = raft.SnapshotFinish
		}
		n.rn.ReportSnapshot(number(f[2]), status)
	case "persist":
		n.finish()
		n.light()
	case "apply":
		n.apply(number(f[2]))
	case "compact":
		n.store.compact(number(f[2]))
	default:
		panic(f[0])
	}
	if err == raft.ErrProposalDropped {
		fmt.Fprintln(out, "dropped")
		n.rn.OracleForgetDropped(pending)
	}
	n.rn.OracleForgetReads()
	n.poll()
	n.rn.OracleCountUncommitted()
	n.state()
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<26)
	out = bufio.NewWriter(os.Stdout)
	for in.Scan() {
		command(strings.Split(in.Text(), " "))
		fmt.Fprintln(out, ".")
		out.Flush()
	}
}
