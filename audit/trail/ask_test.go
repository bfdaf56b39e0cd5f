package trail

import (
	"encoding/base64"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/identity"
)

func TestWhatNoEventCanHaveIsRefused(t *testing.T) {
	w := newWorld(t)
	w.plain(10)
	w.update()
	for what, q := range map[string]Query{
		"a role of nobody":      {As: AsActor},
		"an unknown role":       {Identity: who(1), As: 8},
		"an ID without a kind":  {ObjectID: "1"},
		"an unknown outcome":    {Outcome: "allowed"},
		"a kind with a hole":    {Kind: "jit..requested"},
		"a kind of a dot":       {Kind: "."},
		"a kind with two dots":  {Kind: "jit.."},
		"a pattern":             {Kind: "jit.*"},
		"an empty range":        {From: epoch, Until: epoch},
		"a range that is ended": {From: epoch, Until: epoch.Add(-1)},
		"a time out of range":   {From: time.Unix(1<<60, 0)},
		"a size to come":        {Size: 11},
	} {
		if _, err := w.ix.Ask(bg, q, 0, ""); err == nil {
			t.Errorf("%s was answered", what)
		}
		if _, err := w.ix.Count(bg, q); err == nil {
			t.Errorf("%s was counted", what)
		}
	}
	for _, limit := range []int{-1, MaxPage + 1} {
		if _, err := w.ix.Ask(bg, Query{}, limit, ""); err == nil {
			t.Errorf("a page of %d", limit)
		}
	}
	if _, err := w.ix.State(bg, "grant", "1", 11); err == nil {
		t.Error("the state at a size to come")
	}
}

// TestEachFieldChangesTheDigest: so that a cursor of one query is none of another.
func TestEachFieldChangesTheDigest(t *testing.T) {
	var zero Query
	seen := map[[32]byte]string{zero.digest(origin): "none", zero.digest("example.com/other"): "origin"}
	for i := range reflect.TypeFor[Query]().NumField() {
		var q Query
		switch f := reflect.ValueOf(&q).Elem().Field(i); v := f.Addr().Interface().(type) {
		case *identity.ID:
			*v = who(1)
		case *audit.EventID:
			*v = eventID(1)
		case *time.Time:
			*v = epoch
		default:
			switch f.Kind() {
			case reflect.String:
				f.SetString("x")
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Uint8, reflect.Uint64:
				f.SetUint(1)
			}
		}
		name := reflect.TypeFor[Query]().Field(i).Name
		d := q.digest(origin)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
}

func TestCursorsOfOthersAreRefused(t *testing.T) {
	w := newWorld(t)
	w.plain(40)
	w.update()
	q := Query{ObjectKind: "grant"}
	page, err := w.ix.Ask(bg, q, 5, "")
	if err != nil || page.Next == "" {
		t.Fatal(page, err)
	}
	if _, err := w.ix.Ask(bg, Query{ObjectKind: "grant", Newest: true}, 5, page.Next); err == nil {
		t.Error("a cursor of another query")
	}
	forked := newWorld(t)
	odd := plain(0)
	odd.Outcome = audit.Denied
	forked.append(odd)
	forked.plain(39)
	forked.update()
	if _, err := forked.ix.Ask(bg, q, 5, page.Next); err == nil {
		t.Error("a cursor of another history")
	}
	behind := newWorld(t)
	behind.plain(39)
	behind.update()
	if _, err := behind.ix.Ask(bg, q, 5, page.Next); err == nil {
		t.Error("a cursor of a later log")
	}
	again := newWorld(t)
	again.plain(40)
	again.update()
	if _, err := again.ix.Ask(bg, q, 5, page.Next); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(page.Next)
	for i := range raw[:81] { // all but where to go on, which is the bearer's to choose
		bad := slices.Clone(raw)
		bad[i] ^= 1
		if _, err := w.ix.Ask(bg, q, 5, base64.RawURLEncoding.EncodeToString(bad)); err == nil {
			t.Errorf("a cursor with byte %d changed", i)
		}
	}
}

func TestForgedCursorsLeadNowhere(t *testing.T) {
	w := newWorld(t)
	w.plain(40)
	w.update()
	all, some := Query{}, Query{Size: 20}
	good := point{root: w.ix.Checkpoint(), size: 40}
	if _, err := w.ix.Ask(bg, all, 5, good.next(&all, 39)); err != nil {
		t.Fatal(err)
	}
	last := good.next(&all, 39)
	for what, c := range map[string]struct {
		q      *Query
		cursor string
	}{
		"beyond the answer":            {&all, good.next(&all, 40)},
		"of a smaller answer":          {&all, (&point{root: good.root, size: 39}).next(&all, 3)},
		"of a larger answer":           {&some, (&point{root: good.root, size: 21}).next(&some, 3)},
		"beyond its tree":              {&all, (&point{root: good.root, size: 41}).next(&all, 3)},
		"too short":                    {&all, last[:len(last)-1]},
		"too long":                     {&all, last + "A"},
		"with bits that mean nothing":  {&all, last[:len(last)-1] + string(last[len(last)-1]+1)},
		"with a line break in it":      {&all, last[:9] + "\n" + last[9:]},
		"with a line break for a byte": {&all, last[:9] + "\n" + last[10:]},
	} {
		if page, err := w.ix.Ask(bg, *c.q, 5, c.cursor); err == nil {
			t.Errorf("%s: %+v", what, page)
		}
	}
}

// TestAWholeTreeOfCausesIsInTheOrderOfTheLog: of which the branches are interleaved.
func TestAWholeTreeOfCausesIsInTheOrderOfTheLog(t *testing.T) {
	w := newWorld(t)
	for n, cause := range []int{0, 0, 0, 1, 2, 1, 4, 3} {
		e := plain(n)
		if n > 0 {
			e.Cause = eventID(cause)
		}
		w.append(e)
	}
	w.update()
	for _, q := range []Query{{Ancestor: eventID(0)}, {Ancestor: eventID(1)}, {Ancestor: eventID(2), Newest: true}} {
		page, err := w.ix.Ask(bg, q, 0, "")
		var got []uint64
		for _, e := range page.Entries {
			got = append(got, e.Index)
		}
		if want := scan(w.events, q); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v: %v", q, got, want, err)
		}
	}
}

// TestWhatWasNotKnownConnectsNothing: an event that was relayed late, after what it led to, is no link before it was there.
func TestWhatWasNotKnownConnectsNothing(t *testing.T) {
	w := newWorld(t)
	first, effect, link := plain(0), plain(2), plain(1)
	link.Cause, effect.Cause = first.ID, link.ID
	w.append(first, effect, link)
	w.update()
	for size, want := range map[uint64]uint64{1: 0, 2: 0, 3: 2} {
		if n, err := w.ix.Count(bg, Query{Ancestor: first.ID, Size: size}); err != nil || n != want {
			t.Errorf("as of %d: %d, %v", size, n, err)
		}
	}
	circle := plain(3)
	circle.ID, circle.Cause = eventID(3), eventID(4)
	back := plain(4)
	back.Cause = circle.ID
	w.append(circle, back)
	w.update()
	if n, err := w.ix.Count(bg, Query{Ancestor: circle.ID}); err != nil || n != 2 {
		t.Errorf("a circle: %d, %v", n, err)
	}
}

// TestAnswersDoNotRestOnHashes: with an index in which all names share a hash, answers are the same.
func TestAnswersDoNotRestOnHashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for i := range rapid.IntRange(1, 40).Draw(t, "events") {
			w.append(drawEvent(t, i))
		}
		w.update()
		s := w.ix.now.Load().segments[0]
		var all []uint16
		for i := range s.ids {
			all = append(all, uint16(i))
		}
		for f := range s.dicts {
			d := &s.dicts[f]
			d.places = nil
			for i := range d.keys {
				d.places = append(d.places, all...)
				d.ends[i] = uint32(len(d.places))
			}
		}
		q := drawQuery(t, len(w.events))
		q.Latest, q.Ancestor = false, audit.EventID{}
		var got []uint64
		for cursor := ""; ; {
			page, err := w.ix.Ask(bg, q, 3, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Entries {
				got = append(got, e.Index)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if want := scan(w.events, q); !slices.Equal(got, want) {
			t.Fatalf("%+v: got %v, want %v", q, got, want)
		}
	})
}

func FuzzCursor(f *testing.F) {
	w := newWorld(f)
	w.plain(40)
	w.update()
	for _, q := range []Query{{}, {Newest: true}, {Size: 20}} {
		page, err := w.ix.Ask(bg, q, 5, "")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(page.Next)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, q := range []Query{{}, {Newest: true}, {Size: 20}} {
			c, err := w.ix.now.Load().resume(&q, cursor)
			if err != nil {
				continue
			}
			at := c.begin
			if q.Newest {
				at = c.end - 1
			}
			if again := c.next(&q, at); again != cursor {
				t.Errorf("%q is also %q", cursor, again)
			}
			page, err := w.ix.Ask(bg, q, 5, cursor)
			if err != nil || len(page.Entries) == 0 || page.Entries[0].Index != at {
				t.Errorf("%+v, %v", page, err)
			}
		}
	})
}
