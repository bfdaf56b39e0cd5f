package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/bailiwick-go/bailiwick/identity"
)

// opaModule has a rule for each permission, which OPA finds by an index over what they compare the input to; a path is an array, as in its own
// examples. Partial evaluation, which makes a rule of each user's roles, too, decides in about half of the time, but has to be done again, for all
// users, when one of them changes.
func opaModule(w *world) (*ast.Module, error) {
	var text strings.Builder
	text.WriteString("package bench\n")
	for r := range w.roles {
		for _, p := range w.permissions(r) {
			text.WriteString("allow if {\n")
			if path, below := strings.CutSuffix(p.resource, "/"); below {
				parts := strings.Split(path, "/")
				for i, s := range parts {
					fmt.Fprintf(&text, "\tinput.path[%d] == %q\n", i, s)
				}
				fmt.Fprintf(&text, "\tinput.path[%d]\n", len(parts))
			} else {
				fmt.Fprintf(&text, "\tinput.resource == %q\n", p.resource)
			}
			fmt.Fprintf(&text, "\tinput.action == %q\n\tdata.users[input.user].%s\n}\n", p.action, roleName(r))
		}
	}
	return ast.ParseModule("bench.rego", text.String())
}

// opaStore has the users with their roles, and what those inherit.
func opaStore(w *world) storage.Store {
	users := make(map[string]any, w.users)
	for user, id := range w.ids[:w.users] {
		roles := map[string]any{}
		for k := range w.each {
			for _, r := range w.closure(w.role(user, k)) {
				roles[roleName(r)] = true
			}
		}
		users[id.String()] = roles
	}
	return inmem.NewFromObjectWithOpts(map[string]any{"users": users}, inmem.OptRoundTripOnWrite(false))
}

func opaDecides(w *world, store storage.Store) (decider, error) {
	ctx, deep := context.Background(), w.deep
	m, err := opaModule(w)
	if err != nil {
		return nil, err
	}
	query, err := rego.New(rego.Query("data.bench.allow"), rego.ParsedModule(m), rego.Store(store)).PrepareForEval(ctx)
	return func(all []question) prepared {
		terms := opaTerms{}
		inputs := make([]ast.Value, len(all))
		for i, q := range all {
			resource := ast.Item(terms.of("resource"), terms.of(q.resource))
			if deep {
				resource = ast.Item(terms.of("path"), terms.path(q.resource))
			}
			inputs[i] = ast.NewObject(ast.Item(terms.of("user"), terms.of(q.name)), ast.Item(terms.of("action"), terms.of(q.action)), resource)
		}
		return func(i int) (bool, error) {
			rs, err := query.Eval(ctx, rego.EvalParsedInput(inputs[i]))
			return rs.Allowed(), err
		}
	}, err
}

// opaTerms has each term of the inputs once, which leaves the collector less to look at.
type opaTerms map[string]*ast.Term

func (t opaTerms) of(s string) *ast.Term {
	if t[s] == nil {
		t[s] = ast.StringTerm(s)
	}
	return t[s]
}

func (t opaTerms) path(resource string) *ast.Term {
	key := "/" + resource
	if t[key] == nil {
		var parts []*ast.Term
		for s := range strings.SplitSeq(resource, "/") {
			parts = append(parts, t.of(s))
		}
		t[key] = ast.ArrayTerm(parts...)
	}
	return t[key]
}

func buildOPA(w *world) (decider, error) { return opaDecides(w, opaStore(w)) }

// changeOPA writes one role of a user into the store.
func changeOPA(w *world) (*changing, error) {
	ctx, store := context.Background(), opaStore(w)
	d, err := opaDecides(w, store)
	return &changing{d, func(user identity.ID, role int, add bool) error {
		path := storage.Path{"users", user.String(), roleName(role)}
		if add {
			return storage.WriteOne(ctx, store, storage.AddOp, path, true)
		}
		return storage.WriteOne(ctx, store, storage.RemoveOp, path, nil)
	}}, err
}
