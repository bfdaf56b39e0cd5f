package trail

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

const origin = "example.com/log"

// A world is a log of events, an index of it, and the events.
type world struct {
	t      rapid.TB
	log    merkle.Log
	r      *merkle.Reader
	ix     *Index
	events []audit.Event
}

func logKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }

func newWorld(t rapid.TB) *world {
	log, err := merkle.NewMemory(origin, logKey())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, log: log}
	if w.r, err = merkle.NewReader(log, log.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	if w.ix, err = NewIndex(w.r); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) append(events ...audit.Event) {
	var leaves [][]byte
	for _, e := range events {
		leaf, err := e.Leaf()
		if err != nil {
			w.t.Fatal(err)
		}
		leaves = append(leaves, leaf)
	}
	if len(leaves) == 0 {
		return
	}
	if _, err := w.log.Append(bg, leaves); err != nil {
		w.t.Fatal(err)
	}
	w.events = append(w.events, events...)
}

func (w *world) update() {
	if err := w.ix.Update(bg, nil); err != nil {
		w.t.Fatal(err)
	}
}

func eventID(n int) audit.EventID {
	id, err := audit.ParseEventID(fmt.Sprintf("01890000-0000-7000-8000-%012x", n))
	if err != nil {
		panic(err)
	}
	return id
}

func who(n int) identity.ID {
	return identity.MustParseID(fmt.Sprintf("00000000-0000-4000-8000-%012x", n))
}

var (
	epoch    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	kinds    = []string{"jit.requested", "jit.approved", "jit", "jitter.seen", "jit.session.opened", "credential.issued"}
	outcomes = []audit.Outcome{audit.Success, audit.Denied, audit.Failure}
)

// drawEvent makes the n-th event out of few names, so that much coincides. Its cause may be none that stands before it, or itself be after it.
func drawEvent(t *rapid.T, n int) audit.Event {
	small := func(name string, n int) int { return rapid.IntRange(0, n).Draw(t, name) }
	e := audit.Event{ID: eventID(n), Origin: origin, Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
		Time:    epoch.Add(time.Duration(n+small("late", 5)-small("early", 5)) * time.Second),
		Outcome: rapid.SampledFrom(outcomes).Draw(t, "outcome")}
	if i := small("actor", 4); i > 0 {
		e.Actor = audit.Actor{ID: who(i), Kind: identity.KindAgent, Session: []string{"", "s1", "s2"}[small("session", 2)]}
		for range small("chain", 2) {
			e.Actor.Chain = append(e.Actor.Chain, audit.Hop{From: who(1 + small("from", 3)), Delegation: who(100 + small("delegation", 2))})
		}
	}
	if i := small("subject", 4); i > 0 {
		e.Subject = who(i)
	}
	if i := small("object", 6); i > 0 {
		e.Object = &audit.Object{Kind: audit.Kind([]string{"grant", "role"}[i%2]), ID: audit.ID(fmt.Sprint(small("ID", 3))), Version: uint64(1 + n)}
	}
	if c := n - small("cause", 12); c >= 0 && c != n && rapid.Bool().Draw(t, "caused") {
		e.Cause = eventID(c)
	} else if small("odd", 20) == 20 {
		e.Cause = eventID(n + 1 + small("after", 3))
	}
	return e
}

func drawQuery(t *rapid.T, n int) Query {
	var q Query
	maybe := func(name string) bool { return rapid.IntRange(0, 5).Draw(t, name) == 5 }
	some := func(name string) identity.ID { return who(rapid.IntRange(1, 5).Draw(t, name)) }
	if maybe("identity") {
		q.Identity = some("identity ID")
		q.As = Role(rapid.IntRange(0, 7).Draw(t, "as"))
	}
	if maybe("actor") {
		q.Actor = some("actor ID")
	}
	if maybe("subject") {
		q.Subject = some("subject ID")
	}
	if maybe("delegation") {
		q.Delegation = who(rapid.IntRange(100, 103).Draw(t, "delegation ID"))
	}
	if maybe("object") {
		q.ObjectKind = rapid.SampledFrom([]audit.Kind{"grant", "role", "gran"}).Draw(t, "object kind")
		if rapid.Bool().Draw(t, "one") {
			q.ObjectID = audit.ID(fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "object ID")))
		}
	}
	q.Latest = maybe("latest")
	if maybe("kind") {
		q.Kind = rapid.SampledFrom(append([]string{"jit.", "jit.session.", "credential.", "ji", "none."}, kinds...)).Draw(t, "kind name")
	}
	if maybe("outcome") {
		q.Outcome = rapid.SampledFrom(outcomes).Draw(t, "which")
	}
	if maybe("session") {
		q.Session = rapid.SampledFrom([]string{"s1", "s2", "s3"}).Draw(t, "session ID")
	}
	at := func(name string) int { return rapid.IntRange(0, n).Draw(t, name) }
	if maybe("ID") {
		q.ID = eventID(at("event"))
	}
	if maybe("cause") {
		q.Cause = eventID(at("cause ID"))
	}
	if maybe("ancestor") {
		q.Ancestor = eventID(at("ancestor ID"))
	}
	when := func(name string) time.Time {
		return epoch.Add(time.Duration(at(name))*time.Second + time.Duration(rapid.IntRange(-1, 1).Draw(t, "ns")))
	}
	if maybe("from") {
		q.From = when("from second")
	}
	if maybe("until") {
		q.Until = when("until second")
		if !q.From.IsZero() && !q.From.Before(q.Until) {
			q.From = time.Time{}
		}
	}
	if maybe("size") {
		q.Size = uint64(at("as of"))
	}
	q.Newest = rapid.Bool().Draw(t, "newest")
	return q
}

// scan is the reference: it looks at every event. It shares nothing with the index.
func scan(events []audit.Event, q Query) (found []uint64) {
	if q.Size > 0 {
		events = events[:q.Size]
	}
	last := map[object]int{}
	for i, e := range events {
		if e.Object != nil {
			last[object{e.Object.Kind, e.Object.ID}] = i
		}
	}
	led := map[audit.EventID]bool{q.Ancestor: true}
	below := map[int]bool{}
	for grown := true; grown; {
		grown = false
		for i, e := range events {
			if led[e.Cause] && !e.Cause.IsZero() && !below[i] {
				below[i], led[e.ID], grown = true, true, true
			}
		}
	}
	for i, e := range events {
		var in Role
		via := false
		if e.Actor.ID == q.Identity {
			in |= AsActor
		}
		if e.Subject == q.Identity {
			in |= AsSubject
		}
		for _, hop := range e.Actor.Chain {
			if hop.From == q.Identity {
				in |= AsDelegator
			}
			via = via || hop.Delegation == q.Delegation
		}
		switch {
		case !q.Identity.IsZero() && (in == 0 || q.As != 0 && in&q.As == 0):
		case !q.Actor.IsZero() && e.Actor.ID != q.Actor:
		case !q.Subject.IsZero() && e.Subject != q.Subject:
		case !q.Delegation.IsZero() && !via:
		case q.ObjectKind != "" && (e.Object == nil || e.Object.Kind != q.ObjectKind):
		case q.ObjectID != "" && e.Object.ID != q.ObjectID:
		case q.Latest && (e.Object == nil || last[object{e.Object.Kind, e.Object.ID}] != i):
		case strings.HasSuffix(q.Kind, ".") && !strings.HasPrefix(e.Kind, q.Kind):
		case q.Kind != "" && !strings.HasSuffix(q.Kind, ".") && e.Kind != q.Kind:
		case q.Outcome != "" && e.Outcome != q.Outcome:
		case q.Session != "" && e.Actor.Session != q.Session:
		case !q.ID.IsZero() && e.ID != q.ID:
		case !q.Cause.IsZero() && e.Cause != q.Cause:
		case !q.Ancestor.IsZero() && !below[i]:
		case !q.From.IsZero() && e.Time.Before(q.From):
		case !q.Until.IsZero() && !e.Time.Before(q.Until):
		default:
			found = append(found, uint64(i))
		}
	}
	if q.Newest {
		slices.Reverse(found)
	}
	return found
}

// TestAnswersAreThoseOfAScan: whatever is asked, however the log came about and grows meanwhile, all pages together are what looking at
// every event of the first page's log finds.
func TestAnswersAreThoseOfAScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.ix.batch, w.ix.most = rapid.IntRange(1, 8).Draw(t, "batch"), rapid.IntRange(8, 64).Draw(t, "most")
		more := func() {
			var events []audit.Event
			for range rapid.IntRange(0, 40).Draw(t, "more") {
				events = append(events, drawEvent(t, len(w.events)+len(events)))
			}
			w.append(events...)
			before := w.ix.now.Load()
			kept := slices.Clone(before.segments)
			w.update()
			if !slices.Equal(before.segments, kept) {
				t.Fatal("a snapshot has changed")
			}
			w.checkSegments()
		}
		for range rapid.IntRange(1, 4).Draw(t, "updates") {
			more()
		}
		for range 8 {
			q := drawQuery(t, len(w.events))
			size := len(w.events)
			want := scan(w.events, q)
			if n, err := w.ix.Count(bg, q); err != nil || n != uint64(len(want)) {
				t.Fatalf("%+v: counted %d, there are %d: %v", q, n, len(want), err)
			}
			if q.Size > 0 {
				size = int(q.Size)
			}
			var got []uint64
			pages := map[string]Page{}
			for cursor := ""; ; {
				limit := rapid.IntRange(1, 20).Draw(t, "limit")
				page, err := w.ix.Ask(bg, q, limit, cursor)
				if err != nil {
					t.Fatal(err)
				}
				if page.Size != uint64(size) || page.Checkpoint.Size != uint64(len(w.events)) {
					t.Fatalf("a page about %d entries of %d", page.Size, page.Checkpoint.Size)
				}
				if len(page.Entries) > limit || len(page.Entries) < limit && page.Next != "" {
					t.Fatalf("a page of %d entries, the limit is %d", len(page.Entries), limit)
				}
				for _, e := range page.Entries {
					got = append(got, e.Index)
					w.checkEntry(page.Checkpoint, e)
				}
				pages[cursor] = page
				if cursor = page.Next; cursor == "" {
					break
				}
				if rapid.IntRange(0, 3).Draw(t, "grow") == 0 {
					more()
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%+v: got %v, want %v", q, got, want)
			}
			for _, cursor := range slices.Sorted(maps.Keys(pages)) {
				if cursor == "" {
					continue
				}
				page, err := w.ix.Ask(bg, q, max(len(pages[cursor].Entries), 1), cursor)
				if err != nil || len(page.Entries) != len(pages[cursor].Entries) || page.Entries[0].Index != pages[cursor].Entries[0].Index {
					t.Fatalf("another page for the same cursor: %v", err)
				}
			}
		}
	})
}

// checkEntry checks that an entry is the one that the log has there, as anybody can prove.
func (w *world) checkEntry(cp merkle.Checkpoint, e audit.Entry) {
	proof, err := w.r.Inclusion(cp, e.Index)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := e.Event.Leaf()
	if err == nil {
		err = merkle.VerifyInclusion(cp, e.Index, leaf, proof)
	}
	if err != nil || e.Event.ID != w.events[e.Index].ID {
		w.t.Fatalf("entry %d: %v", e.Index, err)
	}
}

// checkSegments checks that the segments are of the whole log, small enough, and few.
func (w *world) checkSegments() {
	at, segments := uint64(0), w.ix.now.Load().segments
	for i, s := range segments {
		if s.base != at || len(s.ids) == 0 || len(s.ids) > w.ix.most {
			w.t.Fatalf("a segment of %d events at %d, after %d", len(s.ids), s.base, at)
		}
		if i > 0 && len(segments[i-1].ids) < 2*len(s.ids) && len(segments[i-1].ids)+len(s.ids) <= w.ix.most {
			w.t.Fatalf("a segment of %d and one of %d events are not joined", len(segments[i-1].ids), len(s.ids))
		}
		at = s.end()
	}
	if at != uint64(len(w.events)) {
		w.t.Fatalf("the segments are of %d events", at)
	}
}
