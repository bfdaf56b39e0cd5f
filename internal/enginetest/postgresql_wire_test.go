package enginetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/internal/sqlledger"
)

// A scissors is a proxy that cuts a connection when a transaction is committed: before the server hears of it, or before the client hears of the result.
type scissors struct {
	listener net.Listener
	server   string
	cut      atomic.Int32 // of the next cut: 0 not at all, 1 before, 2 after; 3 is to hold it
	cuts     atomic.Int32
	held     chan struct{} // is received from when one is held, and again when it may go on
}

func newScissors(t testing.TB, s *postgres) *scissors {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &scissors{listener: l, server: fmt.Sprint("127.0.0.1:", s.port), held: make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *scissors) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var deaf atomic.Bool
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := server.Read(buf)
			if err != nil || deaf.Load() {
				client.Close()
				server.Close()
				return
			}
			client.Write(buf[:n])
		}
	}()
	header := make([]byte, 4)
	if _, err := io.ReadFull(client, header); err != nil {
		return
	}
	rest := make([]byte, binary.BigEndian.Uint32(header)-4)
	if _, err := io.ReadFull(client, rest); err != nil {
		return
	}
	server.Write(append(header, rest...))
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if head[0] == 'Q' && bytes.HasPrefix(body, []byte("COMMIT")) {
			switch p.cut.Swap(0) {
			case 1:
				p.cuts.Add(1)
				return
			case 2:
				p.cuts.Add(1)
				deaf.Store(true)
			case 3:
				p.held <- struct{}{}
				p.held <- struct{}{}
			}
		}
		server.Write(append(head, body...))
	}
}

// The answer to COMMIT is lost. The same change is committed again, and has one effect.
func TestPostgreSQLLostCommit(t *testing.T) {
	s := pgServer(t)
	p := newScissors(t, s)
	d := newPostgresDatabase(t, s)
	addr := p.listener.Addr().(*net.TCPAddr)
	db := d.pool(t, "host=127.0.0.1", fmt.Sprint("port=", addr.Port))
	l := d.on(t, db)
	if err := l.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for version := range uint64(10) {
		p.cut.Store(int32(1 + version%2))
		mustCommit(t, l, put(fmt.Sprint(version), "x", version+1, "k"))
	}
	if n := p.cuts.Load(); n != 10 {
		t.Errorf("%d answers were lost", n)
	}
	if v, n := versionOf(t, l, "x"), len(pendingOf(t, l)); v != 10 || n != 10 {
		t.Errorf("version %d with %d events", v, n)
	}

	// Another change that came between is a conflict, and no accident.
	p.cut.Store(1)
	other := d.node(t)
	if err := other.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		eventually(t, 10*time.Second, "it does not come about", func() bool { return p.cuts.Load() == 11 })
		for other.Commit(t.Context(), put("other", "x", 11)) != nil {
			return // the change itself was first
		}
	})
	err := l.Commit(t.Context(), put("mine", "x", 11))
	wg.Wait()
	if err != nil && !errors.Is(err, audit.ErrConflict) {
		t.Error(err)
	}
	if v, n := versionOf(t, l, "x"), len(pendingOf(t, l)); v != 11 || n != 11 {
		t.Errorf("version %d with %d events", v, n)
	}
}

// A change that is committed while pending events are read page by page has its place before the end of the first page. What is based on it comes
// later, and is not yielded without it.
func TestPostgreSQLPendingAcrossPages(t *testing.T) {
	s := pgServer(t)
	p := newScissors(t, s)
	d := newPostgresDatabase(t, s)
	slow := d.on(t, d.pool(t, "host=127.0.0.1", fmt.Sprint("port=", p.listener.Addr().(*net.TCPAddr).Port)))
	l := d.node(t)
	for _, l := range []*sqlledger.Ledger{slow, l} {
		if err := l.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first, based := put("first", "x", 1), put("based", "x", 2)
	p.cut.Store(3)
	done := make(chan error)
	go func() { done <- slow.Commit(t.Context(), first) }()
	<-p.held // its events have their numbers
	for i := range 15 {
		many := audit.Change{ID: fmt.Sprint("many", i)}
		for range 40 { // a change with many more would wait for everything that is under way
			many.Events = append(many.Events, sealedEvent())
		}
		mustCommit(t, l, many)
	}
	at, n := map[audit.EventID]int{}, 0
	for e, err := range l.Pending(t.Context(), 10000) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			<-p.held
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			mustCommit(t, l, based)
		}
		n++
		at[e.ID] = n
	}
	if at[based.Events[0].ID] > 0 && at[first.Events[0].ID] == 0 || n < 600 {
		t.Errorf("of %d events, the first is at %d and what is based on it at %d", n, at[first.Events[0].ID], at[based.Events[0].ID])
	}
	if all := pendingOf(t, l); len(all) != 602 || all[0].ID != first.Events[0].ID || all[601].ID != based.Events[0].ID {
		t.Errorf("there are %d events", len(all))
	}
}

// What was refused is not in the server's log of statements, whoever raced with it.
func TestPostgreSQLRefusedBytesAreNotSent(t *testing.T) {
	s := pgOwnServer(t, "log_statement=all", "log_min_duration_statement=0")
	d := newPostgresDatabase(t, s)
	one := d.node(t)
	nodes := []*sqlledger.Ledger{one, one, d.node(t)}
	for _, l := range nodes {
		if err := l.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	logged := func(text string) bool {
		return strings.Contains(s.log.String(), text) || strings.Contains(s.log.String(), fmt.Sprintf("%x", text))
	}
	for round := range 30 {
		first := put(fmt.Sprint("first", round), audit.ID(fmt.Sprint(round)), 1)
		for range 3 {
			first.Events = append(first.Events, sealedEvent())
		}
		mustCommit(t, nodes[0], first)
		var changes []audit.Change
		for i := range nodes {
			c := put(fmt.Sprintf("change %d/%d", round, i), audit.ID(fmt.Sprint(round)), 2)
			switch round % 5 {
			case 1: // of different records, with one unique key
				c.Records[0].ID, c.Records[0].Version = audit.ID(fmt.Sprint(round, "/", i)), 1
				c.Records[0].UniqueKeys = []audit.Key{audit.Key(fmt.Sprint("u", round))}
			case 2: // new ones
				c.Records[0].ID, c.Records[0].Version = audit.ID(fmt.Sprint(round, "new")), 1
			case 3: // one index for different events
				c.Records[0].ID, c.Records[0].Version = audit.ID(fmt.Sprint(round, "/", i)), 1
				c.Marks = []audit.Mark{{Event: first.Events[i].ID, Index: uint64(round)}}
			case 4: // based on what the others write
				c.Records[0].ID, c.Records[0].Version = audit.ID(fmt.Sprint(round, "/", i)), 1
				for j := range nodes {
					c.Reads = append(c.Reads, audit.Read{Kind: "k", ID: audit.ID(fmt.Sprint(round, "/", j))})
				}
				c.Reads = append(c.Reads[:i], c.Reads[i+1:]...)
			}
			c.Records[0].Bytes = fmt.Appendf(nil, "sealed record %d of %d", i, round)
			c.Events[0].Bytes = fmt.Appendf(nil, "sealed event %d of %d", i, round)
			changes = append(changes, c)
		}
		errs := make([]error, len(nodes))
		var wg sync.WaitGroup
		for i, l := range nodes {
			wg.Go(func() { errs[i] = l.Commit(t.Context(), changes[i]) })
		}
		wg.Wait()
		passed := 0
		for i, err := range errs {
			if err == nil {
				passed++
			} else if !errors.Is(err, audit.ErrConflict) {
				t.Error(err)
			}
			for _, b := range [][]byte{changes[i].Records[0].Bytes, changes[i].Events[0].Bytes} {
				for until := time.Now().Add(10 * time.Second); err == nil && !logged(string(b)) && time.Now().Before(until); { // what a server writes comes when it comes
					time.Sleep(5 * time.Millisecond)
				}
				if logged(string(b)) != (err == nil) {
					t.Errorf("round %d: the result is %v, and the log has %q: %v", round, err, b, err != nil)
				}
			}
		}
		if passed != 1 {
			t.Errorf("round %d: %d passed", round, passed)
		}
	}
}
