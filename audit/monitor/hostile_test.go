package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

var maya = Watch{Identity: who(1)}

// grants puts grants of the identity into the log.
func (s *scribe) grants(n int, of identity.ID) {
	var events []*audit.Event
	for range n {
		events = append(events, s.requested(of, fmt.Sprint("g", s.n), "dba"))
	}
	s.put(events...)
}

// forks returns two logs of one key that begin alike, each as the scribe leaves it.
func forks(common, own int) (a, b *scribe) {
	a, b = newScribe(), newScribe()
	a.grants(common, who(1))
	b.grants(common, who(1))
	b.n += 1000
	a.grants(own, who(1))
	b.grants(own, who(1))
	return a, b
}

// TestForkIsCriedOut: a log that does not go on from what was seen is an alarm in every round, over restarts, and kept as evidence that proves it to anybody. What
// was seen stays, and when the log shows it again, what is new in that is told.
func TestForkIsCriedOut(t *testing.T) {
	for name, grow := range map[string]int{"of the same size": 0, "of a larger one": 5, "much larger": 700} {
		t.Run(name, func(t *testing.T) {
			a, b := forks(20, 10)
			g := &glass{files: a.log}
			d := aDesk(g, maya).start()
			if heard, err := d.look(maya); err != nil || len(heard) != 30 {
				t.Fatal(heard, err)
			}
			if grow > 0 {
				b.grants(grow, who(1))
			}
			g.show(b.log, nil)
			for range 2 {
				heard, err := d.look(maya)
				if !errors.Is(err, merkle.ErrForked) || !d.cried(merkle.ErrForked) || len(heard) > 0 {
					t.Fatalf("%v, %v", heard, err)
				}
				d.start()
			}
			v, err := d.m.Look(bg)
			e, ok := errors.AsType[*Evidence](err)
			if !ok || v.Forked == nil || e.Verify(vkey()) != nil || v.Forked.Verify(vkey()) != nil {
				t.Fatalf("the evidence does not prove it: %v", err)
			}
			if v.Checkpoint.Size != 31 || !bytes.Equal(e.Seen, v.Checkpoint.Note) || !bytes.Equal(e.Now, must(b.log.ReadFile("checkpoint"))) {
				t.Error("what was seen is not what it was")
			}
			for what, other := range map[string]Evidence{
				"of one checkpoint": {Forked: true, Seen: e.Seen, Now: e.Seen}, "not signed": {Forked: true, Seen: e.Seen, Now: append(bytes.Clone(e.Now), 'x')},
				"without a proof": {Forked: true, Seen: e.Seen, Now: e.Now, Proof: make([]audit.Digest, 1)}, "of a rewind": {Seen: e.Now, Now: e.Seen},
				"of the log itself": {Forked: true, Seen: e.Seen, Now: e.Now, Root: (*audit.Digest)(&v.Checkpoint.Root), Proof: e.Proof},
			} {
				if other.Verify(vkey()) == nil {
					t.Errorf("evidence %s is believed", what)
				}
			}
			first := v.Forked
			b.grants(3, who(1))
			if _, err := d.m.Look(bg); !errors.Is(err, merkle.ErrForked) || d.m.View().Forked != first {
				t.Errorf("the first evidence is not kept: %v", err)
			}
			a.grants(2, who(1))
			r := must(merkle.NewReader(a.log, vkey()))
			honest := &Evidence{Forked: true, Seen: e.Seen, Now: must(r.Checkpoint()).Note, Root: (*audit.Digest)(&v.Checkpoint.Root)}
			for _, h := range must(r.Consistency(v.Checkpoint, must(r.Checkpoint()))) {
				honest.Proof = append(honest.Proof, audit.Digest(h))
			}
			if honest.Verify(vkey()) == nil {
				t.Error("a log that went on is convicted")
			}
			g.show(a.log, nil)
			d.start()
			if heard, err := d.look(maya); len(heard) != 2 || !errors.Is(err, merkle.ErrForked) || !d.cried(merkle.ErrForked) {
				t.Errorf("a log that has forked once is trusted again: %v, %v", heard, err)
			}
		})
	}
}

// TestRewindIsCriedOut: a log that is smaller than what was seen is an alarm, over restarts; one that then grows with something else has forked. A monitor that keeps nothing cannot know
// either.
func TestRewindIsCriedOut(t *testing.T) {
	a, b := forks(20, 10)
	was := copyOf(a.log)
	a.grants(5, who(1))
	g := &glass{files: a.log}
	d := aDesk(g, maya).start()
	d.look(maya)
	g.show(was, nil)
	for range 2 {
		if heard, err := d.look(maya); !errors.Is(err, merkle.ErrRewound) || !d.cried(merkle.ErrRewound) || len(heard) > 0 {
			t.Fatalf("%v, %v", heard, err)
		}
		d.start()
	}
	if v := d.m.View(); v.Rewound == nil || !bytes.Equal(v.Rewound.Now, was["checkpoint"]) || v.Rewound.Verify(vkey()) == nil || v.Checkpoint.Size != 36 {
		t.Errorf("%v", v)
	}
	g.show(a.log, nil)
	if _, err := d.look(maya); !errors.Is(err, merkle.ErrRewound) || !d.cried(merkle.ErrRewound) { // in the first round, for perhaps nobody was told
		t.Errorf("%v", err)
	}
	if _, err := d.look(maya); err != nil {
		t.Errorf("a log that is whole again: %v", err)
	}
	b.grants(10, who(1))
	g.show(b.log, nil)
	if _, err := d.look(maya); !errors.Is(err, merkle.ErrForked) || !d.cried(merkle.ErrForked) {
		t.Errorf("%v", err)
	}
	g.show(a.log, nil)
	d.m.Look(bg)
	d.alarms = nil
	if _, err := d.look(maya); errors.Is(err, merkle.ErrRewound) || d.m.View().Rewound == nil {
		t.Errorf("a log that is whole again is still called smaller, or it is forgotten that it was: %v", err)
	}

	d = aDesk(g, maya)
	d.cfg.Save = nil
	d.start().look(maya)
	g.show(was, nil)
	if _, err := d.start().look(maya); err != nil {
		t.Errorf("who keeps nothing has seen something: %v", err)
	}
}

// TestEditedEntryIsCriedOut: what is not as the checkpoint says is never told, whichever byte of whichever file it is, and said in every round. When it is there again, it
// is told.
func TestEditedEntryIsCriedOut(t *testing.T) {
	for _, size := range []int{40, 300} {
		s := newScribe()
		s.grants(size-1, who(1))
		clean := copyOf(s.log)
		for name := range clean {
			for _, edit := range []string{"bit", "cut", "gone", "fails", "panics", "endless"} {
				edited := &glass{files: clean}
				edited.show(clean, func(read string, data []byte) ([]byte, error) {
					if read != name {
						return data, nil
					}
					switch edit {
					case "bit":
						data = bytes.Clone(data)
						data[len(data)/2] ^= 4
					case "cut":
						data = data[:len(data)-1]
					case "gone":
						return nil, fs.ErrNotExist
					case "fails":
						return nil, errors.New("no connection")
					case "panics":
						panic("disk on fire")
					case "endless":
						data = append(bytes.Clone(data), make([]byte, 1<<10)...)
					}
					return data, nil
				})
				d := aDesk(edited, maya).start()
				heard, err := d.look(maya)
				for i, h := range heard {
					if h != fmt.Sprint(i+1) || (i == 0 || i == len(heard)-1) && verify(d.told[i]) != nil {
						t.Fatalf("%s: %s: told %v", name, edit, heard)
					}
				}
				if len(heard) == size-1 && err == nil { // it was not needed
					continue
				}
				if err == nil || len(d.alarms) != 1 || d.alarms[0] == nil {
					t.Fatalf("%s: %s: %v, alarms %v", name, edit, err, d.alarms)
				}
				edited.show(clean, nil)
				d.start()
				if _, err := d.look(maya); err != nil || inOrder(heardBy(d.told, maya), reference{}.heard(s.entries, maya, 0)) != nil {
					t.Fatalf("%s: %s: not told afterwards: %v", name, edit, err)
				}
			}
		}
	}
	s := newScribe()
	s.grants(299, who(1))
	g := &glass{files: s.log}
	g.show(s.log, func(name string, data []byte) ([]byte, error) {
		if name == "tile/entries/000" {
			data = bytes.Replace(data, []byte(who(1).String()), []byte(who(2).String()), 1)
		}
		return data, nil
	})
	d := aDesk(g, maya, Watch{Identity: who(2)}).start()
	for _, name := range []string{"tile/0/001.p/44", "tile/1/000.p/1"} { // then the checkpoint is none of a log that is there
		torn := copyOf(s.log)
		delete(torn, name)
		d := aDesk(torn, maya).start()
		if _, err := d.m.Look(bg); err == nil || d.saved != nil || d.m.View().Checkpoint.Note != nil {
			t.Errorf("without %s a first checkpoint is relied on: %v", name, err)
		}
	}
	for range 2 {
		if _, err := d.m.Look(bg); err == nil || len(d.told) > 0 || len(d.alarms) == 0 {
			t.Fatalf("%v, told %v, alarms %v", err, d.told, d.alarms)
		}
		d.alarms = nil
	}
}

// TestStallIsCriedOut: by the monitor's clock, without witnesses, when the log has not grown for too long, whether it can be read or not, and over restarts.
func TestStallIsCriedOut(t *testing.T) {
	s := newScribe()
	g := &glass{files: s.log}
	d := aDesk(g, maya)
	d.cfg.Stall = time.Hour
	d.start()
	look := func(after time.Duration, want bool) {
		t.Helper()
		d.now = d.now.Add(after)
		d.alarms = nil
		if _, err := d.m.Look(bg); errors.Is(err, ErrStalled) != want || d.cried(ErrStalled) != want {
			t.Fatalf("%v", err)
		}
	}
	look(0, false)
	look(time.Hour, false)
	look(time.Microsecond, true)
	d.start()
	look(0, true)
	s.grants(1, who(1))
	look(0, false)
	d.start()
	look(time.Hour, false)
	g.show(s.log, func(string, []byte) ([]byte, error) { return nil, errors.New("no connection") })
	look(0, false)
	look(time.Second, true)
	g.show(s.log, nil)
	s.grants(1, who(1))
	look(0, false)
	look(-10*time.Hour, false) // a clock that was ahead
	look(time.Hour, false)
	look(time.Second, true)

	d = aDesk(&glass{files: mapFiles{}}, maya) // which never was there
	d.cfg.Stall = 0
	d.start()
	look(24*time.Hour, false)
	look(time.Second, true)
}

// TestHangIsCriedOut: a round that does not return is an alarm, too.
func TestHangIsCriedOut(t *testing.T) {
	s := newScribe()
	s.grants(1, who(1))
	d := aDesk(s.log, maya)
	d.cfg.Stall, d.cfg.Clock = 20*time.Millisecond, nil
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	alarm, ended := make(chan error, 1), make(chan struct{})
	d.cfg.Alarm = func(err error) {
		select {
		case alarm <- err:
		default:
		}
	}
	d.cfg.Tell = func(ctx context.Context, _ Notice) error {
		<-ctx.Done()
		return ctx.Err()
	}
	d.start()
	go func() {
		defer close(ended)
		d.m.Run(ctx, time.Hour)
	}()
	if err := <-alarm; !errors.Is(err, ErrStalled) {
		t.Error(err)
	}
	cancel()
	<-ended
}

// TestUnreadableEntryIsSaid: every watch is told of an entry that is no event, and so is the alarm, however many there are.
func TestUnreadableEntryIsSaid(t *testing.T) {
	s := newScribe()
	watches := []Watch{maya, {Role: "dba"}, {Principal: "root"}, {Issuer: "BBBB"}, {Type: "ssh"}}
	for range 40 {
		s.putRaw([]byte("{}"))
	}
	d := aDesk(s.log, watches...).start()
	_, err := d.m.Look(bg)
	for _, w := range watches {
		if heard := heardBy(d.told, w); len(heard) != 40 || heard[0] != "1?" {
			t.Errorf("%s: %v", w, heard)
		}
	}
	for _, n := range d.told {
		if !errors.Is(n.Doubt, ErrUnreadable) || verify(n) != nil || string(n.Leaf) != "{}" || n.Event.Kind != "" {
			t.Fatalf("%v", n)
		}
	}
	if !errors.Is(err, ErrUnreadable) || len(d.alarms) != 1 || !strings.Contains(d.alarms[0].Error(), "24 times more") {
		t.Errorf("%v, alarms %v", err, d.alarms)
	}
	if _, err := d.m.Look(bg); err != nil || len(d.alarms) != 1 {
		t.Errorf("it is said again: %v, %v", err, d.alarms)
	}
}

// pruned returns a log of 1200 entries of which those before 700 may be missing, as an event says if it is to, and are: all but the first 256 of the bundles before 512.
func pruned(said bool) *scribe {
	s := newScribe()
	s.grants(999, who(1))
	e := s.event(audit.PrunedKind, identity.ID{}, "", "")
	if e.Fields = map[string]string{"below": "700"}; !said {
		e.Kind = "log.pruned"
	}
	s.put(e)
	s.grants(199, who(1))
	if err := s.log.Prune(bg, 700); err != nil {
		panic(err)
	}
	return s
}

// TestLateMonitorSaysFromWhereItCanTell: of a log that was pruned it tells what is left, and says what it could not tell of; entries that are missing and of which no event
// says that they may be it does not pass over.
func TestLateMonitorSaysFromWhereItCanTell(t *testing.T) {
	s := pruned(true)
	d := aDesk(s.log, maya, Watch{Role: "dba"}).start()
	heard, err := d.look(maya)
	if !errors.Is(err, merkle.ErrPruned) || !d.cried(merkle.ErrPruned) || !strings.Contains(err.Error(), "entries 256 to 511 of "+origin) {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(reference{}.heard(s.entries, maya, 0), func(h string) bool { return len(h) == 3 && h > "255" && h < "512" })
	if !slices.Equal(heard, want) {
		t.Errorf("heard %v", heard)
	}
	at := d.m.View().Positions
	if at[0].Since != 512 || at[1].Since != 512 || at[0].Next != 1200 {
		t.Errorf("%v", at)
	}
	d.start()
	s.put(s.of("jit.approved", who(1), "g300"))
	if heard, err := d.look(Watch{Role: "dba"}); err != nil || !slices.Equal(heard, []string{"1200?"}) {
		t.Errorf("of a grant that was missed: %v, %v", heard, err)
	}

	s = pruned(false)
	d = aDesk(s.log, maya).start()
	for range 2 {
		heard, err := d.look(maya)
		if !errors.Is(err, merkle.ErrPruned) || !d.cried(merkle.ErrPruned) || d.m.View().Positions[0] != (Position{maya, 0, 256}) {
			t.Fatalf("%v, %v", heard, err)
		}
	}
	less := s.event(audit.PrunedKind, identity.ID{}, "", "")
	less.Fields = map[string]string{"below": "511"}
	s.put(s.event(audit.PrunedKind, identity.ID{}, "", ""), less)
	if _, err := d.look(maya); !errors.Is(err, merkle.ErrPruned) || d.m.View().Positions[0].Next != 256 {
		t.Errorf("an event that says nothing passes entries over: %v", err)
	}

	s = newScribe() // one that was behind when the log was pruned
	s.grants(299, who(1))
	d = aDesk(s.log, maya).start()
	d.look(maya)
	s.grants(699, who(1))
	e := s.event(audit.PrunedKind, identity.ID{}, "", "")
	e.Fields = map[string]string{"below": "700"}
	s.put(e)
	if err := s.log.Prune(bg, 700); err != nil {
		t.Fatal(err)
	}
	if heard, err := d.look(maya); !errors.Is(err, merkle.ErrPruned) || !d.cried(merkle.ErrPruned) || len(heard) > 0 {
		t.Errorf("whether it goes on cannot be verified: %v, %v", heard, err)
	}
	d.saved, d.cfg.From = nil, 300
	if _, err := d.start().look(maya); !errors.Is(err, merkle.ErrPruned) || d.m.View().Positions[0] != (Position{maya, 512, 1000}) {
		t.Errorf("begun anew: %v, %v", err, d.m.View().Positions)
	}
}
