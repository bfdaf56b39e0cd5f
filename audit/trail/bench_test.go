package trail

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

var benchSize = flag.Int("trail.events", 1_000_000, "how many events BenchmarkAsk and BenchmarkIndex have")

// typical returns the events of n/8 accesses of 10,000 people, a third of them through an agent: request, approval, activation, credential, session.
func typical(n int, yield func(audit.Event)) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < n; i += 8 {
		person, at := rnd.IntN(10_000), epoch.Add(time.Duration(i)*time.Second)
		actor := audit.Actor{ID: who(person), Kind: identity.KindHuman, AAL: identity.AAL2, AuthenticatedAt: at, Session: fmt.Sprintf("session-%08x", i)}
		if i%3 == 0 {
			actor.ID, actor.Kind = who(1_000_000+person), identity.KindAgent
			actor.Chain = []audit.Hop{{From: who(person), Delegation: who(2_000_000 + person)}}
		}
		for k, kind := range []string{"jit.requested", "jit.approved", "jit.activated", "credential.intended", "credential.issued", "jit.used", "credential.revoked", "jit.ended"} {
			if i+k >= n {
				return
			}
			e := audit.Event{ID: typicalID(i + k), Origin: origin, Kind: kind, Time: at.Add(time.Duration(k*1000+rnd.IntN(900)) * time.Millisecond),
				Actor: actor, Outcome: audit.Success, Fields: map[string]string{"role": "database-reader", "resource": fmt.Sprint("db/", person%100)}}
			if k == 0 && rnd.IntN(50) == 0 {
				e.Outcome = audit.Denied
			}
			if k == 1 {
				e.Actor = audit.Actor{ID: who(rnd.IntN(10_000)), Kind: identity.KindHuman, AAL: identity.AAL3, AuthenticatedAt: at, Session: fmt.Sprintf("approver-%08x", i/80)}
			}
			if k > 0 {
				e.Cause = typicalID(i + k - 1)
				e.Subject = actor.ID
			}
			switch {
			case k < 3 || k == 7:
				e.Object = &audit.Object{Kind: "grant", ID: audit.ID(who(3_000_000 + i).String()), Version: uint64(min(k, 3) + 1)}
			case k != 5:
				e.Object = &audit.Object{Kind: "credential", ID: audit.ID(who(4_000_000 + i).String()), Version: uint64((k-3)%3 + 1)}
			}
			yield(e)
		}
	}
}

func typicalID(n int) audit.EventID {
	id, _ := audit.ParseEventID(fmt.Sprintf("0189%08x", n/8)[:8] + fmt.Sprintf("-%04x-7000-8000-%012x", n%8, uint64(n)*0x9e3779b97f4a7c15>>16))
	return id
}

type benchLog struct {
	ix    *Index
	tree  *merkle.Tree
	built time.Duration
	bytes uint64 // of the index
}

var theLog = sync.OnceValues(func() (*benchLog, error) {
	log, err := merkle.NewMemory(origin, logKey())
	if err != nil {
		return nil, err
	}
	var leaves [][]byte
	flush := func() {
		if _, e := log.Append(context.Background(), leaves); e != nil {
			err = e
		}
		leaves = nil
	}
	typical(*benchSize, func(e audit.Event) {
		leaf, e2 := e.Leaf()
		if e2 != nil {
			err = e2
		}
		if leaves = append(leaves, leaf); len(leaves) == 1<<15 {
			flush()
		}
	})
	flush()
	if err != nil {
		return nil, err
	}
	r, err := merkle.NewReader(log, log.VerifierKey())
	if err != nil {
		return nil, err
	}
	r.SetCache(0)
	l := &benchLog{}
	l.ix, _ = NewIndex(r)
	before := heap()
	begun := time.Now()
	if err := l.ix.Update(context.Background(), nil); err != nil {
		return nil, err
	}
	l.built = time.Since(begun)
	l.bytes = heap() - before
	l.tree = l.ix.now.Load().tree
	r.SetCache(128 << 20)
	return l, nil
})

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// questions are those of an auditor and an incident responder.
func questions() []question {
	return []question{
		{"identity", Query{Identity: who(77)}},
		{"identity-newest", Query{Identity: who(77), Newest: true}},
		{"on-behalf-denied", Query{Identity: who(78), As: AsDelegator, Outcome: audit.Denied}},
		{"object", Query{ObjectKind: "grant", ObjectID: audit.ID(who(3_000_000 + 4000).String())}},
		{"kind-hour", Query{Kind: "credential.issued", From: epoch.Add(100 * time.Hour), Until: epoch.Add(101 * time.Hour)}},
		{"denied-newest", Query{Kind: "jit.", Outcome: audit.Denied, Newest: true}},
		{"descendants", Query{Ancestor: typicalID(4000)}},
		{"active-as-of", Query{ObjectKind: "grant", Kind: "jit.activated", Latest: true, Size: uint64(*benchSize/10 + 5), Newest: true}},
	}
}

type question struct {
	name string
	q    Query
}

// BenchmarkFind measures finding the first hundred entries of an answer, without reading them.
func BenchmarkFind(b *testing.B) {
	l, err := theLog()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range questions() {
		b.Run(fmt.Sprintf("%d/%s/bailiwick", *benchSize, c.name), func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				s, size, err := l.ix.asked(&c.q)
				if err != nil {
					b.Fatal(err)
				}
				p, err := s.search(b.Context(), &c.q, size)
				if err != nil {
					b.Fatal(err)
				}
				n = 0
				for range p.found(0, size) {
					if n++; n == 100 {
						break
					}
				}
			}
			b.ReportMetric(float64(n), "entries")
		})
	}
}

// BenchmarkAsk measures a page of a hundred entries, verified. The system "scan" reads the log until it has as many.
func BenchmarkAsk(b *testing.B) {
	l, err := theLog()
	if err != nil {
		b.Fatal(err)
	}
	q := questions()[0].q
	b.Run(fmt.Sprintf("%d/bailiwick", *benchSize), func(b *testing.B) {
		b.ReportMetric(0, "entries")
		for b.Loop() {
			page, err := l.ix.Ask(b.Context(), q, 100, "")
			if err != nil || len(page.Entries) == 0 {
				b.Fatal(page, err)
			}
			b.ReportMetric(float64(len(page.Entries)), "entries")
		}
	})
	b.Run(fmt.Sprintf("%d/scan", *benchSize), func(b *testing.B) {
		for b.Loop() {
			n := 0
			for leaf, err := range l.tree.Entries(0, uint64(*benchSize)) {
				if err != nil {
					b.Fatal(err)
				}
				e, err := audit.ParseEvent(leaf)
				if err != nil {
					b.Fatal(err)
				}
				if q.holds(&e) {
					if n++; n == 100 {
						break
					}
				}
			}
			b.ReportMetric(float64(n), "entries")
		}
	})
}

// BenchmarkIndex reports what the index of a log costs: its memory, and the time of making it from the log.
func BenchmarkIndex(b *testing.B) {
	l, err := theLog()
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("%d/bailiwick", *benchSize), func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(l.bytes)/float64(*benchSize), "B/event")
		b.ReportMetric(float64(l.built.Microseconds())/float64(*benchSize), "µs/event")
	})
}
