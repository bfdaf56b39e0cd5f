package systemtest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// A zelda is somebody of whom much is known.
type zelda struct {
	*world
	root, ravi identity.Caller
	id         identity.ID
	command    audit.Digest
}

// known are texts that tell who she is.
var known = []string{"zelda", "Quux", "her sister's birthday"}

// zelda leaves after she has asked for something, and done something.
func (open opener) zelda(t testing.TB, log merkle.Log) *zelda {
	z := &zelda{world: open.worldWith(t, log, func(cfg *bailiwick.Config) {
		cfg.Founders[1].Groups = append(cfg.Founders[1].Groups, identity.Membership{Group: "admins"})
	})}
	z.root, z.ravi = z.as("root"), z.as("ravi")
	id, err := identity.New(identity.KindHuman, "zelda", "sso", "oncall")
	z.must(err)
	id.DisplayName = "Z. Quux"
	id, err = z.sys.Lifecycle().Register(ctx, z.root, id)
	z.must(err)
	z.id = id.ID
	_, _, err = z.sys.Lifecycle().Apply(ctx, z.root, z.id, lifecycle.Activate)
	z.must(err)
	g, err := z.sys.JIT().Request(ctx, z.as("zelda"), jit.Request{Role: "dba", Scope: []string{"ssh/postgres", "db/**"}, Reason: "her sister's birthday", Duration: rbac.Duration(time.Hour)})
	z.must(err)
	_, err = z.sys.JIT().Approve(ctx, z.ravi, g.ID, g.Hash(z.sys.Origin()))
	z.must(err)
	g, err = z.sys.JIT().Activate(ctx, z.as("zelda"), g.ID)
	z.must(err)
	_, _, err = z.issue(z.as("zelda"), g, 0, "postgres")
	z.must(err)
	z.must(z.sys.Flush(ctx))
	r, err := z.sys.Recorder(ctx, nil)
	z.must(err)
	for i := range 300 { // more than are erased at once
		e := z.sys.NewEvent(z.as("zelda"), "shell.command", audit.EventID{})
		z.must(e.Keep("command", fmt.Appendf(nil, "mail zelda # %d", i)))
		z.must(r.Record(ctx, e))
		z.command = e.Beside["command"]
		if i == 0 && e.Fields != nil {
			t.Fatal(e.Fields)
		}
	}
	_, err = z.sys.Leave(ctx, z.root, z.id)
	z.must(err)
	z.must(z.sys.Flush(ctx))
	return z
}

// ledgerText is all that the ledger holds.
func (z *zelda) ledgerText() string {
	var text bytes.Buffer
	for _, kind := range []audit.Kind{"grant", "identity", "credential", "policy", "genesis", "delegation", audit.ValueKind, audit.NarrowingKind} {
		for r, err := range z.ledger.Scan(ctx, kind, "", "\xff") {
			z.must(err)
			fmt.Fprintf(&text, "%s %s %v %v\n", r.ID, r.Bytes, r.Keys, r.UniqueKeys)
		}
	}
	return text.String()
}

// text is all that the ledger and the log hold.
func (z *zelda) text() (ledger, log string) {
	var text bytes.Buffer
	ledger = z.ledgerText()
	z.must(z.sys.Flush(ctx))
	cp, err := z.sys.Log().Checkpoint()
	z.must(err)
	for leaf, err := range z.sys.Log().Entries(cp, 0, cp.Size) {
		z.must(err)
		text.Write(leaf)
	}
	return ledger, text.String()
}

// clean fails the test unless ledger and log fit each other.
func (z *zelda) clean() {
	z.t.Helper()
	z.must(z.sys.Flush(ctx))
	found, err := z.sys.Verify(ctx, audit.Inspection{})
	if err != nil || len(found) > 0 {
		z.t.Fatal(found, err)
	}
	if _, err := audit.Verify(ctx, z.log, z.log.VerifierKey(), nil); err != nil {
		z.t.Fatal(err)
	}
}

// nothingTellsWhoTheErasedWas: neither the ledger nor the log, which never did; and all proofs are as good as they were.
func nothingTellsWhoTheErasedWas(t *testing.T, open opener) {
	z := open.zelda(t, nil)
	ledger, log := z.text()
	for _, word := range known {
		if !strings.Contains(ledger, word) || strings.Contains(log, word) {
			t.Fatalf("%q: in the ledger %t, in the log %t", word, strings.Contains(ledger, word), strings.Contains(log, word))
		}
	}
	z.clean()
	opening, err := z.sys.Opening(ctx, z.command)
	z.must(err)
	if opening.Commitment() != z.command || string(opening.Value) != "mail zelda # 299" {
		t.Fatalf("%s", opening.Value)
	}
	before, err := z.sys.Log().Checkpoint()
	z.must(err)
	var proofs []merkle.Proof
	var leaves [][]byte
	for leaf, err := range z.sys.Log().Entries(before, 0, before.Size) {
		z.must(err)
		p, err := z.sys.Log().Inclusion(before, uint64(len(proofs)))
		z.must(err)
		proofs, leaves = append(proofs, p), append(leaves, leaf)
	}
	for _, err := range []error{z.sys.Issuer().Erase(ctx, z.id, audit.EventID{}), z.sys.JIT().Erase(ctx, z.id, audit.EventID{})} {
		if !errors.Is(err, identity.ErrDenied) {
			t.Fatal("what nobody has agreed to is erased:", err)
		}
	}
	z.must(z.sys.Lifecycle().Hold(ctx, z.root, z.id, "case/7"))
	for _, c := range []identity.Caller{z.root, z.ravi} {
		if _, err := z.sys.Erase(ctx, c, z.id); !errors.Is(err, lifecycle.ErrHeld) {
			t.Fatal(err)
		}
	}
	for i, c := range []identity.Caller{z.root, z.root, z.ravi} {
		lifted, err := z.sys.Lifecycle().Unhold(ctx, c, z.id, "case/7")
		if z.must(err); lifted != (i == 2) {
			t.Fatal("lifted by one")
		}
	}
	if _, err := z.sys.Erase(ctx, z.as("maya"), z.id); !errors.Is(err, identity.ErrDenied) {
		t.Fatal(err)
	}
	for i, c := range []identity.Caller{z.root, z.root, z.ravi, z.root} {
		e, err := z.sys.Erase(ctx, c, z.id)
		if z.must(err); e != (bailiwick.Erasure{Agreed: i > 1, Done: i > 1}) {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	ledger, log = z.text()
	for _, word := range known {
		if strings.Contains(ledger, word) || strings.Contains(log, word) {
			t.Errorf("%q: in the ledger %t, in the log %t", word, strings.Contains(ledger, word), strings.Contains(log, word))
		}
	}
	if _, err := z.sys.Opening(ctx, z.command); !errors.Is(err, audit.ErrNotFound) {
		t.Error(err)
	}
	z.clean()
	for r, err := range z.ledger.Scan(ctx, credentials.Kind, "", "\xff") {
		if z.must(err); bytes.Contains(r.Bytes, []byte("postgres")) {
			t.Error("the principals of her credential are there")
		}
	}
	for r, err := range z.ledger.Scan(ctx, jit.GrantKind, "subject/"+audit.Key(z.id.String()), "subject0") {
		z.must(err)
		if g, err := z.sys.JIT().Load(ctx, r.ID); err != nil || g.Salt != "" || g.Status != jit.Revoked {
			t.Errorf("%+v, %v", g, err)
		}
	}
	r, err := z.sys.Recorder(ctx, nil) // what comes late is erased, too
	z.must(err)
	late := z.sys.NewEvent(z.root, "test.told", audit.EventID{})
	late.Subject = z.id
	z.must(errors.Join(late.Keep("of", []byte("zelda")), r.Record(ctx, late)))
	z.must(z.sys.Sweep(ctx))
	if _, err := z.sys.Opening(ctx, late.Beside["of"]); !errors.Is(err, audit.ErrNotFound) {
		t.Error(err)
	}
	z.advance(lifecycle.EraseAgain)
	z.root = z.as("root")
	z.must(z.sys.Sweep(ctx))
	for e, err := range z.sys.Lifecycle().Erasures(ctx) {
		t.Error("it goes on", e, err)
	}
	z.clean()
	for i, p := range proofs {
		if err := merkle.VerifyInclusion(before, uint64(i), leaves[i], p); err != nil {
			t.Fatal(i, err)
		}
	}
	after, err := z.sys.Log().Checkpoint()
	z.must(err)
	p, err := z.sys.Log().Consistency(before, after)
	z.must(err)
	z.must(merkle.VerifyConsistency(before, after, p))
	if text, err := json.Marshal(opening); err != nil || !strings.Contains(log, z.command.String()) || len(text) == 0 {
		t.Error("who was shown the value cannot prove any more that it was on the record", err)
	}
	if err := z.sys.Lifecycle().Hold(ctx, z.root, z.id, "case/8"); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
	if _, err := z.sys.Gate().Caller(ctx, "sso", []byte("zelda"+proofSecret)); !errors.Is(err, identity.ErrDenied) {
		t.Error(err)
	}
}

// holdsKeepWhatOthersAreKnownBy: what somebody did who is on hold stays, to whomever it was done, until that is lifted.
func holdsKeepWhatOthersAreKnownBy(t *testing.T, open opener) {
	z := open.zelda(t, nil)
	r, err := z.sys.Recorder(ctx, nil)
	z.must(err)
	e := z.sys.NewEvent(z.as("maya"), "test.told", audit.EventID{})
	e.Subject = z.id
	z.must(errors.Join(e.Keep("what", []byte("evidence")), r.Record(ctx, e)))
	z.must(z.sys.Lifecycle().Hold(ctx, z.root, z.ids["maya"], "case/9"))
	_, err = z.sys.Erase(ctx, z.root, z.id)
	z.must(err)
	if done, err := z.sys.Erase(ctx, z.ravi, z.id); done != (bailiwick.Erasure{Agreed: true}) || !errors.Is(err, lifecycle.ErrHeld) {
		t.Fatal(done, err)
	}
	if o, err := z.sys.Opening(ctx, e.Beside["what"]); err != nil || string(o.Value) != "evidence" {
		t.Fatal(o, err)
	}
	if _, err := z.sys.Opening(ctx, z.command); !errors.Is(err, audit.ErrNotFound) {
		t.Error("what she did herself stays, too:", err)
	}
	for _, c := range []identity.Caller{z.root, z.ravi} {
		_, err := z.sys.Lifecycle().Unhold(ctx, c, z.ids["maya"], "case/9")
		z.must(err)
	}
	z.must(z.sys.Sweep(ctx))
	if _, err := z.sys.Opening(ctx, e.Beside["what"]); !errors.Is(err, audit.ErrNotFound) {
		t.Error(err)
	}
	z.clean()
}

// erasingGoesOnWhereItStopped: whichever commit fails, a sweep finishes what two have agreed to, and nothing is erased that they have not.
func erasingGoesOnWhereItStopped(t *testing.T, open opener) {
	for n := 0; ; n++ {
		l, err := merkle.NewMemory("test.example/system", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		z := open.zelda(t, l)
		if _, err := z.sys.Erase(ctx, z.root, z.id); err != nil {
			t.Fatal(err)
		}
		z.ledger.failAfter(n)
		e, err := z.sys.Erase(ctx, z.ravi, z.id)
		failed := z.ledger.failAfter(-1)
		if e.Done == failed || (err == nil) == failed {
			t.Fatalf("after %d commits: %+v, %v", n, e, err)
		}
		if !failed {
			return
		}
		z.must(z.sys.Sweep(ctx))
		state, err := z.sys.Lifecycle().State(ctx, z.id)
		z.must(err)
		ledger, _ := z.text()
		if left := strings.Contains(ledger, known[2]) || strings.Contains(ledger, "mail zelda"); left == (state == lifecycle.Deleted) {
			t.Fatalf("after %d commits it is %s, and what it said is there: %t", n, state, left)
		}
		z.clean()
	}
}
