package trail

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

var bg = context.Background()

// plain returns the n-th of some events without anything special.
func plain(n int) audit.Event {
	e := audit.Event{ID: eventID(n), Origin: origin, Kind: kinds[n%len(kinds)], Time: epoch.Add(time.Duration(n) * time.Second),
		Outcome: audit.Success, Actor: audit.Actor{ID: who(1 + n%3)}}
	e.Object = &audit.Object{Kind: "grant", ID: audit.ID(fmt.Sprint(n % 5)), Version: uint64(n/5 + 1)}
	return e
}

func (w *world) plain(n int) {
	var events []audit.Event
	for range n {
		events = append(events, plain(len(w.events)+len(events)))
	}
	w.append(events...)
}

// A switched log can be exchanged for another.
type switched struct{ merkle.Files }

type noFiles struct{}

func (noFiles) ReadFile(name string) ([]byte, error) { return nil, fs.ErrPermission }

// notTiles has a log's checkpoint and last tiles, and not the others.
type notTiles struct {
	merkle.Files
	without string
}

func (f notTiles) ReadFile(name string) ([]byte, error) {
	if name == f.without {
		return nil, fs.ErrPermission
	}
	return f.Files.ReadFile(name)
}

func TestUpdateRefusesALogThatWentBackOrForked(t *testing.T) {
	a, shorter, forked, longer := newWorld(t), newWorld(t), newWorld(t), newWorld(t)
	a.plain(600)
	shorter.plain(599)
	for _, w := range []*world{forked, longer} {
		w.plain(300)
		odd := plain(300)
		odd.Outcome = audit.Denied
		w.append(odd)
		w.plain(299)
	}
	longer.plain(300)
	files := &switched{a.log}
	r, err := merkle.NewReader(files, a.log.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	ix, _ := NewIndex(r)
	if err := ix.Update(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := ix.now.Load()
	for what, c := range map[string]struct {
		files merkle.Files
		want  error
	}{
		"shorter": {shorter.log, merkle.ErrRewound},
		"empty":   {newWorld(t).log, merkle.ErrRewound},
		"forked":  {forked.log, merkle.ErrForked},
		"longer":  {longer.log, merkle.ErrForked},
	} {
		files.Files = c.files
		if err := ix.Update(t.Context(), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if ix.now.Load() != before {
			t.Fatalf("%s: the index is another", what)
		}
	}
	files.Files = noFiles{}
	if err := ix.Update(t.Context(), nil); err == nil || errors.Is(err, merkle.ErrRewound) || errors.Is(err, merkle.ErrForked) {
		t.Errorf("no files: %v", err)
	}
	a.plain(300)
	r.SetCache(0)
	files.Files = notTiles{a.log, "tile/0/002"}
	if err := ix.Update(t.Context(), nil); err == nil || errors.Is(err, merkle.ErrForked) {
		t.Errorf("a tile that cannot be read: %v", err)
	}
	files.Files = a.log
	if err := ix.Update(t.Context(), nil); err != nil || ix.Checkpoint().Size != 900 {
		t.Errorf("afterwards: %v", err)
	}
}

func TestUpdateNamesEntriesThatAreNotEventsOfTheLog(t *testing.T) {
	foreign := plain(7)
	foreign.Origin = "example.com/other"
	other, _ := foreign.Leaf()
	e := plain(8)
	leaf, _ := e.Leaf()
	for _, bad := range []string{"", "text", "{}", string(leaf) + " ", string(other)} {
		w := newWorld(t)
		w.plain(5)
		w.update()
		before := w.ix.now.Load()
		w.plain(4)
		if _, err := w.log.Append(bg, [][]byte{[]byte(bad)}); err != nil {
			t.Fatal(err)
		}
		err := w.ix.Update(bg, nil)
		if err == nil || !strings.Contains(err.Error(), "entry 9:") || w.ix.now.Load() != before {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestAnInterruptedUpdateLeavesTheIndexAsItWas(t *testing.T) {
	w := newWorld(t)
	w.ix.batch = 10
	w.plain(35)
	w.update()
	w.plain(50)
	ctx, cancel := context.WithCancel(bg)
	var told []uint64
	err := w.ix.Update(ctx, func(n uint64) {
		if told = append(told, n); n == 55 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(told, []uint64{45, 55}) || w.ix.Checkpoint().Size != 35 {
		t.Errorf("told %v, size %d: %v", told, w.ix.Checkpoint().Size, err)
	}
	if page, err := w.ix.Ask(bg, Query{}, 0, ""); err != nil || len(page.Entries) != 35 {
		t.Errorf("%d entries: %v", len(page.Entries), err)
	}
	if w.update(); w.ix.Checkpoint().Size != 85 {
		t.Error("the next update did not go on")
	}
	w.ix.updating <- struct{}{}
	if err := w.ix.Update(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("behind another update: %v", err)
	}
}

func TestNothingIsAnsweredBeforeTheLogWasRead(t *testing.T) {
	if _, err := NewIndex(nil); err == nil {
		t.Error("an index of nothing")
	}
	w := newWorld(t)
	_, err1 := w.ix.Ask(bg, Query{}, 0, "")
	_, err2 := w.ix.Count(bg, Query{})
	_, err3 := w.ix.State(bg, "grant", "1", 0)
	_, err4 := w.ix.SizeAt(epoch)
	_, err5 := w.ix.SizeOf(merkle.Checkpoint{})
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if err == nil || errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	w.update()
	if page, err := w.ix.Ask(bg, Query{}, 0, ""); err != nil || len(page.Entries) > 0 {
		t.Errorf("an empty log: %+v, %v", page, err)
	}
	if _, err := w.ix.SizeAt(epoch); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("an empty log: %v", err)
	}
}

// TestStateIsThatOfTheTime: the last version that the log told of an object when it had so many entries.
func TestStateIsThatOfTheTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.ix.batch, w.ix.most = 3, 12
		for i := range rapid.IntRange(1, 60).Draw(t, "events") {
			w.append(drawEvent(t, i))
			if rapid.IntRange(0, 5).Draw(t, "update") == 0 {
				w.update()
			}
		}
		w.update()
		size := rapid.IntRange(0, len(w.events)).Draw(t, "size")
		o := object{"grant", audit.ID(fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "object")))}
		known := w.events
		if size > 0 {
			known = known[:size]
		}
		want := -1
		for i, e := range known {
			if e.Object != nil && e.Object.Kind == o.kind && e.Object.ID == o.id {
				want = i
			}
		}
		got, err := w.ix.State(bg, o.kind, o.id, uint64(size))
		switch {
		case want < 0 && !errors.Is(err, audit.ErrNotFound):
			t.Fatalf("there is none: %+v, %v", got, err)
		case want >= 0 && (err != nil || got.Index != uint64(want) || got.Event.Object.Version != w.events[want].Object.Version):
			t.Fatalf("got %+v, %v; want %d", got, err, want)
		}

		at := epoch.Add(time.Duration(rapid.IntRange(-10, 70).Draw(t, "at"))*time.Second + time.Duration(rapid.IntRange(-1, 1).Draw(t, "ns")))
		most := 0
		for most < len(w.events) && !w.events[most].Time.After(at) {
			most++
		}
		if n, err := w.ix.SizeAt(at); most > 0 && (err != nil || n != uint64(most)) || most == 0 && !errors.Is(err, audit.ErrNotFound) {
			t.Fatalf("size %d at %s, want %d: %v", n, at, most, err)
		}
	})
	w := newWorld(t)
	w.plain(3)
	w.update()
	for _, o := range []object{{}, {"grant", ""}, {"", "1"}} {
		if _, err := w.ix.State(bg, o.kind, o.id, 0); err == nil || errors.Is(err, audit.ErrNotFound) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestSizeOfTakesOnlyCheckpointsOfThisLog(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.plain(300)
	old, _ := w.r.Checkpoint()
	w.plain(300)
	w.update()
	if n, err := w.ix.SizeOf(old); err != nil || n != 300 {
		t.Errorf("size %d: %v", n, err)
	}
	w.plain(1)
	ahead, _ := w.r.Checkpoint()
	if _, err := w.ix.SizeOf(ahead); err == nil || errors.Is(err, merkle.ErrForked) {
		t.Errorf("ahead of the index: %v", err)
	}
	odd := plain(1)
	odd.Outcome = audit.Failure
	other.append(odd)
	other.plain(299)
	forked, _ := other.r.Checkpoint()
	if n, err := w.ix.SizeOf(forked); !errors.Is(err, merkle.ErrForked) {
		t.Errorf("another history: %d, %v", n, err)
	}
	old.Origin = "example.com/other"
	if _, err := w.ix.SizeOf(old); err == nil {
		t.Error("a checkpoint of another log")
	}
	empty, _ := newWorld(t).r.Checkpoint()
	if _, err := w.ix.SizeOf(empty); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("an empty log: %v", err)
	}
}

func TestQuestionsAreAnsweredWhileTheLogGrows(t *testing.T) {
	w := newWorld(t)
	w.ix.batch, w.ix.most = 8, 64
	w.plain(40)
	w.update()
	done := make(chan struct{})
	var askers sync.WaitGroup
	for range 4 {
		askers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				before := w.ix.Checkpoint().Size
				page, err := w.ix.Ask(bg, Query{Actor: who(1), Newest: true}, 7, "")
				if err != nil || page.Size < before || len(page.Entries) != 7 || page.Entries[0].Index != (page.Size-1)/3*3 {
					t.Errorf("%+v, %v", page, err)
					return
				}
			}
		})
	}
	var updaters sync.WaitGroup
	for range 40 {
		w.plain(30)
		updaters.Go(func() {
			if err := w.ix.Update(bg, nil); err != nil {
				t.Error(err)
			}
		})
	}
	updaters.Wait()
	close(done)
	askers.Wait()
	if w.update(); w.ix.Checkpoint().Size != 1240 {
		t.Errorf("size %d", w.ix.Checkpoint().Size)
	}
}

// TestAnEventTakesSixtyBytes: those of a full segment of typical ones.
func TestAnEventTakesSixtyBytes(t *testing.T) {
	b := builder{seed: maphash.MakeSeed()}
	var halves []*segment
	typical(maxSegment, func(e audit.Event) {
		if b.add(&e); len(b.ids) == maxSegment/2 {
			halves = append(halves, b.segment())
		}
	})
	s := join(halves[0], halves[1])
	bytes := 8*cap(s.times) + 8*cap(s.ids) + 2*cap(s.order) + 2*cap(s.objects)
	for _, d := range s.dicts {
		bytes += 8*cap(d.keys) + 4*cap(d.ends) + 2*cap(d.places)
	}
	if n := float64(bytes) / float64(len(s.ids)); n > 60 {
		t.Errorf("%.1f bytes an event", n)
	}
}
