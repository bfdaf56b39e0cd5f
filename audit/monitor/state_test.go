package monitor

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

// views are what monitors have saved, with everything that a view can have.
func views() (all [][]byte) {
	a, b := forks(3, 2)
	was := copyOf(a.log)
	a.put(a.credential("credential.intended", "c", "g2", "ssh", []identity.ID{who(1)}, "root"))
	g := &glass{files: a.log}
	d := aDesk(g, everybody...)
	save := d.cfg.Save
	d.cfg.Save = func(ctx context.Context, view []byte) error {
		all = append(all, view)
		return save(ctx, view)
	}
	d.start()
	d.m.Look(bg)
	b.grants(9, who(1))
	g.show(b.log, nil)
	d.m.Look(bg)
	g.show(was, nil)
	d.m.Look(bg)
	return all
}

// TestSavedViewIsWhatItWas: what was saved reads as what it was, and nothing else reads.
func TestSavedViewIsWhatItWas(t *testing.T) {
	all := views()
	if len(all) < 4 {
		t.Fatalf("%d views", len(all))
	}
	for _, b := range all {
		v, err := parseView(b, vkey())
		if err != nil {
			t.Fatal(err)
		}
		if again := must(v.marshal()); !bytes.Equal(again, b) {
			t.Errorf("%s is not %s", again, b)
		}
	}
	last := string(all[len(all)-1])
	other := must(merkle.VerifierKey("log.example/two", keyOf("two")))
	if _, err := parseView([]byte(last), other); err == nil {
		t.Error("a view of another log is taken")
	}
	for old, new := range map[string]string{
		`"version":1`: `"version":2`, `"since":0`: `"since":9007199254740993`, `"next":`: `"next":1000`, `"as":2`: `"as":4`, `"forked":{"forked":true`: `"forked":{"forked":false`,
		`"places":[{`: `"places":[ {`, `{"type":"x509"}`: `{"type":"ssh","role":"dba"}`, `{"role":"ops"}`: `{"role":"dba"}`, `{"principal":"root"}`: `{"principal":"r//t"}`,
		`"note":"`: `"note":"AAAA`, `"root":"`: `"rooot":"`,
	} {
		if !strings.Contains(last, old) {
			t.Errorf("there is no %s in %s", old, last)
		}
		if _, err := parseView([]byte(strings.Replace(last, old, new, 1)), vkey()); err == nil {
			t.Errorf("%s for %s is taken", new, old)
		}
	}
	cfg := aDesk(aLog(), maya).cfg
	cfg.Last = []byte(last[1:])
	if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), "monitor: ") {
		t.Errorf("%v", err)
	}
}

// FuzzSavedView: whatever reads is written again as it was, and is such that a monitor goes on from it.
func FuzzSavedView(f *testing.F) {
	for _, b := range views() {
		f.Add(b)
	}
	f.Add([]byte(`{"alive":"2026-01-01T00:00:00.000000Z","places":[],"version":1}`))
	s := newScribe()
	s.grants(3, who(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseView(b, vkey())
		if err != nil {
			return
		}
		if again, err := v.marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is written as %q: %v", b, again, err)
		}
		d := aDesk(s.log, maya)
		d.saved = b
		d.start().m.Look(bg)
	})
}

// TestConfigFailsClosed: without what it takes there is no monitor, and the error says why.
func TestConfigFailsClosed(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("the zero Config makes a monitor")
	}
	many := make([]Watch, maxWatches+1)
	for i := range many {
		many[i] = Watch{Role: fmt.Sprint("r", i)}
	}
	for name, change := range map[string]func(c *Config){
		"no log": func(c *Config) { c.Log = nil }, "no key": func(c *Config) { c.VerifierKey = "" }, "no alarm": func(c *Config) { c.Alarm = nil }, "nobody to tell": func(c *Config) { c.Tell = nil },
		"nothing watched": func(c *Config) { c.Watches = nil }, "an empty watch": func(c *Config) { c.Watches = make([]Watch, 1) }, "too many": func(c *Config) { c.Watches = many },
		"twice": func(c *Config) { c.Watches = []Watch{maya, maya} }, "two in one": func(c *Config) { c.Watches = []Watch{{Identity: who(1), Role: "dba"}} },
		"no name": func(c *Config) { c.Watches = []Watch{{Principal: "a,b"}} }, "no role": func(c *Config) { c.Watches = []Watch{{Role: "\x1b"}} }, "no type": func(c *Config) { c.Watches = []Watch{{Type: "a/b"}} },
		"no text": func(c *Config) { c.Watches = []Watch{{Issuer: "\xff"}} }, "negative": func(c *Config) { c.Stall = -1 }, "far": func(c *Config) { c.From = maxEntry + 1 },
		"no time": func(c *Config) { c.Clock = func() time.Time { return time.Time{}.Add(-time.Hour) } }, "no view": func(c *Config) { c.Last = []byte{} },
	} {
		cfg := aDesk(aLog(), maya).cfg
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), "monitor: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newScribe()
	d := aDesk(s.log, Watch{Issuer: "another's"}).start()
	if _, err := d.m.Look(bg); err == nil || len(d.alarms) != 1 {
		t.Errorf("a key that signs nothing in this log is watched: %v", err)
	}
	d = aDesk(&glass{files: aLog()}, Watch{Issuer: "BBBB"}).start()
	if _, err := d.m.Look(bg); err != nil {
		t.Errorf("an empty log: %v", err)
	}
	l := aLog()
	e := s.requested(who(1), "g", "dba")
	must(l.Append(bg, [][]byte{must(e.Leaf())}))
	d = aDesk(l, Watch{Issuer: "BBBB"}).start()
	if _, err := d.m.Look(bg); err == nil || len(d.alarms) != 1 {
		t.Errorf("a log that does not begin with its genesis names issuers: %v", err)
	}
}

// TestWatchesSayWhatTheyAre: for people.
func TestWatchesSayWhatTheyAre(t *testing.T) {
	for _, c := range []struct {
		w    Watch
		text string
	}{
		{maya, "identity " + who(1).String()}, {Watch{Principal: "root"}, `principal "root"`}, {Watch{Issuer: "k"}, `issuer "k"`}, {Watch{Type: "ssh"}, `type "ssh"`}, {Watch{Role: "dba"}, `role "dba"`},
	} {
		if c.w.String() != c.text {
			t.Errorf("%s", c.w)
		}
	}
	var err error = &Evidence{}
	if !strings.Contains(err.Error(), merkle.ErrRewound.Error()) {
		t.Error(err)
	}
	if e := (&Evidence{Forked: true, Root: new(audit.Digest)}); e.Verify(vkey()) == nil || !strings.Contains(e.Error(), merkle.ErrForked.Error()) {
		t.Error(e)
	}
}
