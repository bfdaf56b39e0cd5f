package audittest

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

func TestMemory(t *testing.T) {
	n := counts{}
	TestLedger(t, func(*testing.T) audit.Ledger {
		n.opened.Add(1)
		return &counting{audit.NewMemory(), &n}
	})
	n.check(t, 6000)
}

func BenchmarkMemory(b *testing.B) {
	BenchmarkLedger(b, func(*testing.B) audit.Ledger { return audit.NewMemory() })
}

// counts say what the suite costs a database.
type counts struct{ opened, reopened, commits atomic.Int64 }

type counting struct {
	audit.Ledger
	n *counts
}

func (l *counting) Commit(ctx context.Context, c audit.Change) error {
	l.n.commits.Add(1)
	return l.Ledger.Commit(ctx, c)
}

func (n *counts) check(t *testing.T, commits int64) {
	t.Logf("opened %d, reopened %d, commits %d", n.opened.Load(), n.reopened.Load(), n.commits.Load())
	if n.opened.Load() > 250 || n.reopened.Load() > 250 || n.commits.Load() > commits {
		t.Error("that is too much for a database that syncs each commit")
	}
}

// TestEverySentenceIsACase compares the cases with the comments of the interfaces.
func TestEverySentenceIsACase(t *testing.T) {
	var sentences, ofLogs []string
	for _, c := range ledgerCases {
		sentences = append(sentences, c.sentence)
	}
	for _, c := range durableCases {
		sentences = append(sentences, c.sentence)
	}
	compareSentences(t, contract(t, "../ledger.go", "Ledger", "Timekeeper"), sentences)
	for _, c := range logCases {
		ofLogs = append(ofLogs, c.sentence)
	}
	compareSentences(t, contract(t, "../ledgerlog.go", "LogLedger"), ofLogs)
}

// contract returns what the comments of the interfaces say.
func contract(t *testing.T, file string, names ...string) string {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var docs []string
	ast.Inspect(f, func(n ast.Node) bool {
		d, ok := n.(*ast.GenDecl)
		if !ok || d.Tok != token.TYPE {
			return true
		}
		spec := d.Specs[0].(*ast.TypeSpec)
		if i, ok := spec.Type.(*ast.InterfaceType); ok && slices.Contains(names, spec.Name.Name) {
			if spec.Name.Name == "Ledger" {
				docs = append(docs, d.Doc.Text())
			}
			for _, m := range i.Methods.List {
				docs = append(docs, m.Doc.Text())
			}
		}
		return false
	})
	return strings.Join(strings.Fields(strings.Join(docs, " ")), " ")
}

func compareSentences(t *testing.T, contract string, sentences []string) {
	for _, s := range sentences {
		if !strings.Contains(contract, s) {
			t.Errorf("the contract does not say: %s", s)
		}
	}
	for s := range strings.SplitSeq(strings.TrimSuffix(contract, "."), ". ") {
		if !strings.HasPrefix(s, "Every sentence below is a case in audittest.TestLedger") && !slices.ContainsFunc(sentences, func(c string) bool { return strings.Contains(s, c) }) {
			t.Errorf("no case is for: %s", s)
		}
	}
}

// TestRandomChangesFindWhatIsWrong shows that the random changes are not all harmless.
func TestRandomChangesFindWhatIsWrong(t *testing.T) {
	passed, conflicts := 0, 0
	for seed := range 100 {
		m := newModel()
		for _, c := range Histories(20).Example(seed) {
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if n := m.next(c); n == nil {
				conflicts++
			} else {
				passed, m = passed+1, n
			}
		}
	}
	if all := passed + conflicts; passed < all/2 || conflicts < all/20 {
		t.Errorf("of %d changes %d pass", all, passed)
	}
	stay := func(_ int, l audit.Ledger) audit.Ledger { return l }
	for _, w := range wrongCommits {
		if !slices.Contains([]string{"lost update", "ghost mark", "changes are forgotten", "a unique key twice",
			"stale read of what is gone ignored", "the first mark stays", "index given twice", "event twice",
			"unique key not freed by a tombstone", "a tombstone begins anew"}, w.is) {
			continue
		}
		found := false
		for seed := 0; seed < 300 && !found; seed++ {
			l := &wrongLedger{Ledger: audit.NewMemory()}
			w.make(l)
			found = play(t.Context(), l, Histories(20).Example(seed), stay) != nil
		}
		if !found {
			t.Errorf("they do not find: %s", w.is)
		}
	}
}
