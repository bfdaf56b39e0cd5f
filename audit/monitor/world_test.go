package monitor

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/identity"
)

const origin = "log.example/one"

var (
	bg     = context.Background()
	logKey = keyOf(origin)
	epoch  = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func aLog() *merkle.StoreLog {
	return must(merkle.OpenStore(bg, merkle.NewMemoryStore(), origin, logKey))
}

func vkey() string { return must(merkle.VerifierKey(origin, logKey)) }

func who(n int) identity.ID {
	return identity.MustParseID(fmt.Sprintf("00000000-0000-4000-8000-%012x", n))
}

// A scribe writes events as the library's packages do, into a log.
type scribe struct {
	log     *merkle.StoreLog
	n       int
	entries [][]byte
	kept    map[audit.Digest]audit.Opening
	version map[audit.Object]uint64
}

func newScribe() *scribe {
	s := &scribe{log: aLog(), kept: map[audit.Digest]audit.Opening{}, version: map[audit.Object]uint64{}}
	g := s.event(audit.GenesisKind, identity.ID{}, "genesis", "genesis")
	g.Fields = map[string]string{"log": vkey(), "issuer.ssh": "ssh-ed25519 AAAA", "issuer.ssh.prod": "ssh-ed25519 AAAA", "issuer.x509": "BBBB"}
	s.put(g)
	return s
}

// event returns an event about the next version of the object; without a kind of object, about none.
func (s *scribe) event(kind string, subject identity.ID, object audit.Kind, id string) *audit.Event {
	s.n++
	e := &audit.Event{ID: must(audit.ParseEventID(fmt.Sprintf("01890000-0000-7000-8000-%012x", s.n))), Origin: origin, Kind: kind,
		Time: epoch.Add(time.Duration(s.n) * time.Second), Subject: subject, Outcome: audit.Success}
	if object != "" {
		key := audit.Object{Kind: object, ID: audit.ID(id)}
		s.version[key]++
		e.Object = &audit.Object{Kind: object, ID: audit.ID(id), Version: s.version[key]}
	}
	return e
}

func (s *scribe) put(events ...*audit.Event) {
	var leaves [][]byte
	for _, e := range events {
		leaves = append(leaves, must(e.Leaf()))
	}
	s.putRaw(leaves...)
}

func (s *scribe) putRaw(leaves ...[]byte) {
	must(s.log.Append(bg, leaves))
	s.entries = append(s.entries, leaves...)
}

func (s *scribe) stamp(after time.Duration) string {
	return epoch.Add(time.Duration(s.n)*time.Second + after).Format(time.RFC3339Nano)
}

func (s *scribe) requested(subject identity.ID, grant, role string) *audit.Event {
	e := s.event("jit.requested", subject, grantKind, grant)
	e.Actor = audit.Actor{ID: subject, Kind: identity.KindHuman}
	e.Fields = map[string]string{"role": role, "lapsesAt": s.stamp(time.Hour)}
	return e
}

func (s *scribe) activated(subject identity.ID, grant, role string) *audit.Event {
	e := s.event("jit.activated", subject, grantKind, grant)
	e.Actor = audit.Actor{ID: subject, Kind: identity.KindHuman}
	e.Fields = map[string]string{"role": role, "notAfter": s.stamp(time.Hour)}
	return e
}

// of is an event that says no more of a grant than whose it is.
func (s *scribe) of(kind string, subject identity.ID, grant string) *audit.Event {
	return s.event(kind, subject, grantKind, grant)
}

// credential is an event about a credential of the chain, from the human to the holder. With principals it is the one that commits to them.
func (s *scribe) credential(kind, serial, grant, of string, chain []identity.ID, principals ...string) *audit.Event {
	e := s.event(kind, chain[0], credentialKind, serial)
	e.Fields = map[string]string{"type": of, "serial": serial, "grant": grant, "holder": chain[len(chain)-1].String(), "notAfter": s.stamp(time.Hour)}
	if kind == "credential.intended" || kind == "credential.issued" {
		e.Actor = audit.Actor{ID: chain[len(chain)-1], Kind: identity.KindAgent}
		for i, id := range chain[:len(chain)-1] {
			e.Actor.Chain = append(e.Actor.Chain, audit.Hop{From: id, Delegation: who(1000 + i)})
		}
	}
	if len(principals) > 0 {
		o := audit.Opening{Of: chain[0], By: e.Actor.ID, Value: []byte(strings.Join(principals, ","))}
		o.Salt[0], o.Salt[1] = byte(s.n), byte(s.n>>8)
		e.Beside = map[string]audit.Digest{"principals": o.Commitment()}
		s.kept[o.Commitment()] = o
	}
	return e
}

func (s *scribe) opening(_ context.Context, d audit.Digest) (audit.Opening, error) {
	o, ok := s.kept[d]
	if !ok {
		return o, fmt.Errorf("%s: %w", d, audit.ErrNotFound)
	}
	return o, nil
}

// A glass is what is shown of a log: another's files, or edited ones.
type glass struct {
	mu    sync.Mutex
	files merkle.Files
	edit  func(name string, data []byte) ([]byte, error) // nil shows all as it is
	reads map[string]int
}

func (g *glass) ReadFile(name string) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reads == nil {
		g.reads = map[string]int{}
	}
	g.reads[name]++
	data, err := g.files.ReadFile(name)
	if err == nil && g.edit != nil {
		return g.edit(name, data)
	}
	return data, err
}

func (g *glass) show(files merkle.Files, edit func(name string, data []byte) ([]byte, error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.files, g.edit, g.reads = files, edit, nil
}

func (g *glass) read() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.reads))
}

// A desk is where notices, alarms and views arrive, and what it saves is there when the monitor is made anew.
type desk struct {
	cfg    Config
	m      *Monitor
	told   []Notice
	alarms []error
	saved  []byte
	now    time.Time
}

// aDesk is one for a log that the scribe writes.
func aDesk(files merkle.Files, watches ...Watch) *desk {
	d := &desk{now: epoch.Add(time.Hour)}
	d.cfg = Config{
		Log: files, VerifierKey: vkey(), Watches: watches,
		Tell: func(_ context.Context, n Notice) error {
			d.told = append(d.told, n)
			return nil
		},
		Alarm: func(err error) { d.alarms = append(d.alarms, err) },
		Save: func(_ context.Context, view []byte) error {
			d.saved = view
			return nil
		},
		Clock: func() time.Time { return d.now },
	}
	return d
}

// start makes the monitor, with what was saved.
func (d *desk) start() *desk {
	d.cfg.Last = d.saved
	d.m = must(New(d.cfg))
	return d
}

// look looks once, and returns what the watch was told of by it, with a "?" where there is a doubt.
func (d *desk) look(w Watch) (heard []string, err error) {
	from := len(d.told)
	_, err = d.m.Look(bg)
	return heardBy(d.told[from:], w), err
}

func heardBy(told []Notice, w Watch) (heard []string) {
	for _, n := range told {
		if n.Watch == w {
			heard = append(heard, hearing(n.Index, n.Doubt))
		}
	}
	return heard
}

func hearing(index uint64, doubt error) string {
	if doubt != nil {
		return fmt.Sprint(index, "?")
	}
	return fmt.Sprint(index)
}

// cried reports whether an alarm was of the error, and forgets all alarms.
func (d *desk) cried(want error) bool {
	defer func() { d.alarms = nil }()
	return slices.ContainsFunc(d.alarms, func(err error) bool { return errors.Is(err, want) })
}

// verify checks that a notice proves itself to others.
func verify(n Notice) error {
	if _, err := n.Proof.Verify(vkey(), n.Leaf); err != nil {
		return err
	}
	if n.Doubt == nil || !errors.Is(n.Doubt, ErrUnreadable) {
		if leaf, err := n.Event.Leaf(); err != nil || string(leaf) != string(n.Leaf) {
			return fmt.Errorf("the event is another than the leaf: %v", err)
		}
	}
	text, err := n.Proof.Marshal()
	if err == nil {
		_, err = merkle.ParseTlogProof(text)
	}
	return err
}

// A mapFiles is a log's files as they were at one time.
type mapFiles map[string][]byte

func (m mapFiles) ReadFile(name string) ([]byte, error) {
	data, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return data, nil
}

// copyOf copies what the log's checkpoint needs.
func copyOf(l *merkle.StoreLog) mapFiles {
	m := mapFiles{"checkpoint": must(l.ReadFile("checkpoint"))}
	size := must(merkle.ParseCheckpoint(m["checkpoint"], vkey())).Size
	for level, n := range map[string]uint64{"entries": size, "0": size, "1": size >> 8} {
		for i := range n >> 8 {
			name := fmt.Sprintf("tile/%s/%03d", level, i)
			m[name] = must(l.ReadFile(name))
		}
		if n&255 > 0 {
			name := fmt.Sprintf("tile/%s/%03d.p/%d", level, n>>8, n&255)
			m[name] = must(l.ReadFile(name))
		}
	}
	return m
}
