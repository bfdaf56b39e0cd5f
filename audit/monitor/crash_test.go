package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A mortal desk dies at one of its calls, before or after the call has done what it is for, and does nothing more.
type mortal struct {
	*desk
	left  int
	after bool
	dead  bool
}

func (m *mortal) call(do func()) error {
	if m.left--; m.left == 0 && !m.dead {
		if m.dead = true; m.after {
			do()
		}
	}
	if m.dead {
		return errors.New("dead")
	}
	do()
	return nil
}

// lives has a monitor follow a log that grows, which dies at the n-th call, and then another go on. It reports whether the first has died, and what is wrong.
func lives(n int, after bool, forked bool, spoil func(view []byte) []byte) (died bool, _ error) {
	s, other := forks(2, 0)
	watches := []Watch{{Identity: who(1)}, {Role: "dba"}, {Principal: "root"}}
	g := &glass{files: s.log}
	m := &mortal{desk: aDesk(g, watches...), left: n, after: after}
	tell, save, alarm := m.cfg.Tell, m.cfg.Save, m.cfg.Alarm
	m.cfg.Tell = func(ctx context.Context, n Notice) error { return m.call(func() { tell(ctx, n) }) }
	m.cfg.Save = func(ctx context.Context, view []byte) error { return m.call(func() { save(ctx, spoil(view)) }) }
	m.cfg.Alarm = func(err error) { m.call(func() { alarm(err) }) }
	m.cfg.Open = func(ctx context.Context, d audit.Digest) (o audit.Opening, err error) {
		if failed := m.call(func() { o, err = s.opening(ctx, d) }); failed != nil {
			return o, failed
		}
		return o, err
	}
	m.start()
	rounds := []func(){
		func() { s.put(s.credential("credential.intended", "c", "g1", "ssh", []identity.ID{who(1)}, "root")) },
		func() { s.putRaw([]byte("no event")) },
		func() {
			s.put(s.credential("credential.issued", "c", "g1", "ssh", []identity.ID{who(1)}), s.of("jit.revoked", who(1), "g1"))
		},
	}
	for _, grow := range rounds {
		m.m.Look(bg)
		if grow(); forked {
			g.show(other.log, nil)
			m.m.Look(bg)
			g.show(s.log, nil)
		}
	}
	m.m.Look(bg)
	died, m.dead, m.left = m.dead, false, 0
	other.grants(10, who(1))
	m.start()
	m.m.Look(bg)
	if forked {
		g.show(other.log, nil)
		m.m.Look(bg)
	}
	ref := reference{map[audit.Digest]string{}}
	for d, o := range s.kept {
		ref.openings[d] = string(o.Value)
	}
	var errs []error
	for _, w := range watches {
		errs = append(errs, inOrder(heardBy(m.told, w), ref.heard(s.entries, w, 0)))
	}
	if !m.heardOf(ErrUnreadable) || forked != m.heardOf(merkle.ErrForked) {
		errs = append(errs, fmt.Errorf("alarms: %v", m.alarms))
	}
	return died, errors.Join(errs...)
}

func (d *desk) heardOf(want error) bool {
	return slices.ContainsFunc(d.alarms, func(err error) bool { return errors.Is(err, want) })
}

// TestNothingIsMissedWhereverItDies: a monitor that is killed at any of its calls, before or after that has had its effect, and begins again with what was saved, tells everything and cries out about
// everything at least once, in order. One that saved what it had not told yet would not.
func TestNothingIsMissedWhereverItDies(t *testing.T) {
	as := func(view []byte) []byte { return view }
	for _, forked := range []bool{false, true} {
		deaths := 0
		for n := 1; ; n++ {
			died := false
			for _, after := range []bool{false, true} {
				d, err := lives(n, after, forked, as)
				if err != nil {
					t.Fatalf("killed at call %d, after it: %t, forked: %t: %v", n, after, forked, err)
				}
				died = died || d
			}
			if deaths++; !died {
				break
			}
		}
		if deaths < 25 {
			t.Errorf("only %d calls", deaths)
		}
	}
	missed := 0
	for n := 1; n < 20; n++ {
		for _, after := range []bool{false, true} {
			if _, err := lives(n, after, false, ahead); err != nil && strings.Contains(err.Error(), "heard of") {
				missed++
			}
		}
	}
	if missed < 5 {
		t.Errorf("a monitor that saves before it tells is found out %d times", missed)
	}
}

// ahead says that all was told.
func ahead(b []byte) []byte {
	v := must(parseView(b, vkey()))
	for i := range v.places {
		v.places[i].next = v.seen.Size
	}
	return must(v.marshal())
}

// TestCallbacksThatFailLoseNothing: a panic is an error, and what comes of an error is that the same comes again. The panic's value, which may be a secret, is not said.
func TestCallbacksThatFailLoseNothing(t *testing.T) {
	const secret = "hunter2"
	for _, who := range []string{"Tell", "Save", "Open", "Alarm", "Clock"} {
		for _, how := range []string{"panics", "fails"} {
			s, _ := forks(2, 0)
			s.put(s.credential("credential.intended", "c", "g1", "ssh", []identity.ID{maya.Identity}, "root"))
			s.putRaw(nil)
			w := Watch{Principal: "root"}
			d := aDesk(s.log, w)
			d.cfg.Open = s.opening
			good := d.cfg
			fail := func() error {
				if how == "panics" {
					panic(secret)
				}
				return errors.New("not today")
			}
			switch who {
			case "Tell":
				d.cfg.Tell = func(context.Context, Notice) error { return fail() }
			case "Save":
				d.cfg.Save = func(context.Context, []byte) error { return fail() }
			case "Open":
				d.cfg.Open = func(context.Context, audit.Digest) (audit.Opening, error) { return audit.Opening{}, fail() }
			case "Alarm":
				d.cfg.Alarm = func(error) { panic(secret) }
			}
			d.start()
			if who == "Clock" {
				d.m.cfg.Clock = func() time.Time { panic(secret) }
			}
			for range 2 {
				heard, err := d.look(w)
				if err == nil || strings.Contains(err.Error(), secret) {
					t.Errorf("%s %s: %v", who, how, err)
				}
				if first := slices.Index(heard, "3"); who != "Alarm" && first >= 0 {
					t.Errorf("%s %s: heard %v", who, how, heard)
				}
				if who != "Alarm" && len(d.alarms) == 0 {
					t.Errorf("%s %s: no alarm", who, how)
				}
			}
			d.cfg = good
			d.start()
			if heard, _ := d.look(w); !slices.Equal(heard, []string{"3", "4?"}) || !d.cried(ErrUnreadable) {
				t.Errorf("%s %s: afterwards heard %v", who, how, heard)
			}
		}
	}
}

// TestRoundCostsWhatIsNew: an idle round reads the checkpoint alone; one after growth what is new of entries and tiles; a restart no more than the log's edge.
func TestRoundCostsWhatIsNew(t *testing.T) {
	s := newScribe()
	s.grants(9*256+20, who(1))
	g := &glass{files: s.log}
	d := aDesk(g, maya).start()
	d.look(maya)
	look := func(want ...string) {
		t.Helper()
		g.show(s.log, nil)
		_, err := d.m.Look(bg)
		if slices.Sort(want); err != nil || !slices.Equal(g.read(), want) {
			t.Errorf("%v: it reads %v", err, g.read())
		}
	}
	look("checkpoint")
	s.grants(3, who(2))
	look("checkpoint", "tile/0/009.p/24", "tile/1/000.p/9", "tile/entries/009.p/24")
	d.start()
	look("checkpoint", "tile/0/009.p/24", "tile/1/000.p/9")
	look("checkpoint")
}

// TestWatchesComeAndGo: a watch that is new is told from the beginning, those that were there are not told again, and one that is gone is forgotten.
func TestWatchesComeAndGo(t *testing.T) {
	s := newScribe()
	s.grants(3, who(1))
	d := aDesk(s.log, maya).start()
	d.look(maya)
	dba := Watch{Role: "dba"}
	d.cfg.Watches = []Watch{dba, maya}
	d.start()
	s.grants(1, who(1))
	from := len(d.told)
	if heard, err := d.look(dba); err != nil || !slices.Equal(heard, []string{"1", "2", "3", "4"}) || !slices.Equal(heardBy(d.told[from:], maya), []string{"4"}) {
		t.Error(heard, err)
	}
	d.cfg.Watches, d.cfg.From = []Watch{maya}, 4
	d.start().look(maya)
	d.cfg.Watches = []Watch{maya, dba}
	s.grants(1, who(1))
	if heard, err := d.start().look(dba); err != nil || !slices.Equal(heard, []string{"4", "5"}) || d.m.View().Positions[1] != (Position{dba, 4, 6}) {
		t.Error(heard, err, d.m.View().Positions)
	}
}

// TestWhatIsForgottenIsSaid: of more open grants than a monitor keeps it forgets some, says so, and says with a doubt from then on what it cannot tell.
func TestWhatIsForgottenIsSaid(t *testing.T) {
	const most = 64
	s := newScribe()
	s.grants(most+10, who(1))
	dba, ops := Watch{Role: "dba"}, Watch{Role: "ops"}
	d := aDesk(s.log, dba, ops)
	d.cfg.Tell = func(_ context.Context, n Notice) error {
		if n.Index > most+10 {
			d.told = append(d.told, n)
		}
		return nil
	}
	d.start()
	d.m.most = most
	if _, err := d.m.Look(bg); !errors.Is(err, ErrUntold) || !d.cried(ErrUntold) {
		t.Fatal(err)
	}
	at := d.m.View().Positions
	if at[0].Since < most || at[1].Since != 0 {
		t.Errorf("%v", at)
	}
	d.start()
	s.put(s.of("jit.approved", who(1), "g1"), s.of("jit.revoked", who(1), "g2"), s.of("jit.revoked", who(1), fmt.Sprint("g", most+5)))
	if heard, err := d.look(dba); err != nil || !slices.Equal(heard, []string{fmt.Sprint(most+11, "?"), fmt.Sprint(most + 13)}) {
		t.Error(heard, err)
	}
	if heard := heardBy(d.told, ops); len(heard) > 0 {
		t.Errorf("whoever has lost nothing hears %v", heard)
	}
	for _, at := range []struct {
		after time.Duration
		left  int
	}{{keepKnown, 1}, {keepKnown + time.Second, 0}} {
		v := view{places: []place{{watch: dba, known: map[audit.Digest]known{{}: {isIt, epoch}}}}}
		if lost, left := v.forget(epoch.Add(at.after-time.Microsecond), most); len(lost) > 0 || left != at.left {
			t.Errorf("%s after it is over, %d are known, and %v lost", at.after, left, lost)
		}
	}
	d.now = d.now.Add(1000 * 24 * 3600 * 1e9) // what is over is forgotten, and was not lost
	e := s.event("jit.used", who(1), "", "")
	e.Time = d.now
	for n := len(s.entries); n%stepEntries != stepEntries-1; n++ {
		s.put(s.event("jit.used", who(1), "", ""))
	}
	s.put(e)
	d.m.cfg.Stall = 1e18
	if _, err := d.m.Look(bg); err != nil || d.m.known != 0 || len(d.m.view.places[0].known) != 0 {
		t.Errorf("%v, %d are known", err, d.m.known)
	}
}
