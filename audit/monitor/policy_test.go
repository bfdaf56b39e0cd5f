package monitor

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// A stamper cosigns (c2sp.org/tlog-cosignature) as of any time.
type stamper struct {
	name string
	at   time.Time
}

func (s stamper) public() []byte {
	return append([]byte{0x04}, keyOf(s.name).Public().(ed25519.PublicKey)...)
}

func (s stamper) Name() string { return s.name }

func (s stamper) KeyHash() uint32 {
	h := sha256.Sum256(append([]byte(s.name+"\n"), s.public()...))
	return binary.BigEndian.Uint32(h[:])
}

func (s stamper) Sign(msg []byte) ([]byte, error) {
	text := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", s.at.Unix(), msg)
	return append(binary.BigEndian.AppendUint64(nil, uint64(s.at.Unix())), ed25519.Sign(keyOf(s.name), text)...), nil
}

func (s stamper) vkey() string {
	return fmt.Sprintf("%s+%08x+%s", s.name, s.KeyHash(), base64.StdEncoding.EncodeToString(s.public()))
}

// witnessed are the log's files with cosignatures of the witnesses, each as of the time.
func witnessed(l *merkle.StoreLog, at ...time.Time) merkle.Files {
	g := &glass{files: l}
	g.show(l, func(name string, data []byte) ([]byte, error) {
		if name != "checkpoint" {
			return data, nil
		}
		text, _, _ := bytes.Cut(data, []byte("\n\n"))
		for i, at := range at {
			signed := must(note.Sign(&note.Note{Text: string(text) + "\n"}, stamper{fmt.Sprint("w.example/", i), at}))
			data = append(data, signed[len(text)+2:]...)
		}
		return data, nil
	})
	return g
}

func aPolicy(k, n int) *witness.Policy {
	text, names := "log "+vkey()+"\n", ""
	for i := range n {
		text += fmt.Sprintf("witness w%d %s\n", i, stamper{name: fmt.Sprint("w.example/", i)}.vkey())
		names += fmt.Sprint(" w", i)
	}
	p := must(witness.ParsePolicy(fmt.Appendf(nil, "%sgroup g %d%s\nquorum g\n", text, k, names)))
	return &p
}

// TestQuorumShowsThatTheLogIsAlive: with witnesses it is their cosignatures that show that the log goes on, also of one size; less than a quorum of them cannot show it, nor can growth
// that they have not seen; and stamps from the future count once.
func TestQuorumShowsThatTheLogIsAlive(t *testing.T) {
	s := newScribe()
	g := &glass{}
	d := aDesk(g, maya)
	d.cfg.Policy, d.cfg.Stall = aPolicy(2, 3), time.Hour
	d.start()
	start := d.now
	look := func(now time.Duration, stalled bool, at ...time.Duration) {
		t.Helper()
		var times []time.Time
		for _, a := range at {
			times = append(times, start.Add(a))
		}
		g.show(witnessed(s.log, times...), nil)
		d.now, d.alarms = start.Add(now), nil
		if _, err := d.m.Look(bg); errors.Is(err, ErrStalled) != stalled || d.heardOf(ErrStalled) != stalled || !stalled && len(at) > 1 && err != nil {
			t.Fatalf("%v", err)
		}
	}
	const h, m = time.Hour, time.Minute
	look(0, false, -10*m, -20*m, -30*m) // a quorum 20 minutes ago
	look(40*m, false, -10*m, -20*m, -30*m)
	look(41*m, true, -10*m, -20*m, -30*m)
	d.start()
	look(41*m, true, 40*m, -20*m, -30*m) // one witness
	look(41*m, false, 40*m, -20*m, 30*m) // two
	s.grants(1, who(1))
	look(2*h, true, 40*m, -20*m, 30*m) // it grows, and nobody has seen that lately
	look(2*h, false, 100*m, 90*m)
	look(2*h, false, 100*h, 100*h) // from the future
	look(3*h, false, 100*h, 100*h)
	look(3*h+m, true, 100*h, 100*h)
	d.start()
	look(3*h+m, true, 100*h, 100*h)
	s.grants(1, who(1))
	look(3*h+m, true, 100*h, 100*h) // nor for another size
	look(101*h, false, 101*h, 101*h)
}

// TestPolicyIsDemanded: nothing is told under a checkpoint that the policy does not accept, and a proof has the cosignatures by which others accept it.
func TestPolicyIsDemanded(t *testing.T) {
	s := newScribe()
	s.grants(3, who(1))
	g := &glass{files: witnessed(s.log, epoch)}
	d := aDesk(g, maya)
	d.cfg.Policy = aPolicy(2, 3)
	d.start()
	if heard, err := d.look(maya); !errors.Is(err, witness.ErrNoQuorum) || !d.cried(witness.ErrNoQuorum) || len(heard) > 0 || d.saved != nil {
		t.Fatal(heard, err)
	}
	g.show(witnessed(s.log, d.now, d.now), nil)
	if heard, err := d.look(maya); err != nil || len(heard) != 3 {
		t.Fatal(heard, err)
	}
	for _, n := range d.told {
		if _, err := d.cfg.Policy.VerifyProof(n.Proof, n.Leaf); err != nil {
			t.Error(err)
		}
	}
	s.grants(3, who(1))
	g.show(witnessed(s.log, d.now), nil)
	if heard, err := d.look(maya); !errors.Is(err, witness.ErrNoQuorum) || len(heard) > 0 {
		t.Error(heard, err)
	}
	d.cfg.Policy, d.saved = new(witness.Policy), nil
	if heard, err := d.start().look(maya); err == nil || len(heard) > 0 {
		t.Error("the zero policy accepts something")
	}
}
