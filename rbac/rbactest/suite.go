package rbactest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bailiwick-go/bailiwick/rbac"
)

// TestEvaluator tests that what compile makes of a policy decides by the law in package rbac's comment: each decision is that of [Reference],
// and what takes something away never gives anything. It compiles valid policies only, without expressions. If an evaluator has a method Explain as
// [rbac.Compiled] does, its decisions and what is requestable are compared, too. What fails is printed as the fewest rules and the least
// request that show it. A nil compile fails.
func TestEvaluator(t *testing.T, compile func(rbac.Policy) (rbac.Evaluator, error)) {
	if compile == nil {
		t.Fatal("rbactest: no compile")
	}
	for _, l := range laws() {
		t.Run(l.claim, func(t *testing.T) {
			attempts := l.attempts()
			rapid.Check(t, func(t *rapid.T) {
				if err := attempts.Draw(t, "world").run(compile); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// A trial is what an evaluator decides.
type trial struct {
	p   rbac.Policy
	r   rbac.Request
	now time.Time
}

type compiler func(rbac.Policy) (rbac.Evaluator, error)

func (x trial) decide(compile compiler) (d rbac.Decision, err error) {
	e, err := compile(x.p)
	if err != nil {
		return d, err
	}
	r := cloned(x.r)
	return e.Evaluate(&r, x.now), nil
}

// A test is one of a law: it returns what is wrong, or nothing. It can be asked of the same trial with fewer rules or a smaller request.
type test func(compile compiler, x trial) (wrong string)

// A law is what holds of every evaluator.
type law struct {
	claim string
	most  int                                         // requests to a policy, 0 for a few
	only  func(t *rapid.T, p rbac.Policy) rbac.Policy // what the law is about; nil for any policy
	draw  func(t *rapid.T, x trial) test              // nil if there is nothing to test
}

// An attempt is a test drawn, of several requests to the same policy.
type attempt struct {
	trials []trial
	tests  []test
}

// GoString says little, because what matters is printed if it fails.
func (a attempt) GoString() string {
	p := a.trials[0].p
	return fmt.Sprintf("%d roles, %d assignments, %d denies, %d constraints, %d requests", len(p.Roles), len(p.Assignments), len(p.Denies), len(p.Constraints), len(a.trials))
}

// attempts draws worlds and what is asked of them.
func (l law) attempts() *rapid.Generator[attempt] {
	return rapid.Custom(func(t *rapid.T) (a attempt) {
		p := Policies().Draw(t, "policy")
		if l.only != nil {
			p = l.only(t, p)
		}
		requests := Requests(p)
		n := 1
		if chance(t, 90) {
			n = max(3, l.most)
		}
		for range n {
			x := trial{p: p, r: requests.Draw(t, "request")}
			x.now = Moments(p, x.r).Draw(t, "now")
			a.trials, a.tests = append(a.trials, x), append(a.tests, l.draw(t, x))
		}
		return a
	})
}

// run returns what is wrong first, with the least that shows it.
func (a attempt) run(compile compiler) error {
	if _, err := compile(a.trials[0].p); err != nil {
		p := Minimise(a.trials[0].p, func(p rbac.Policy) bool {
			_, e := compile(p)
			return e != nil && e.Error() == err.Error()
		})
		return fmt.Errorf("a valid policy does not compile: %w\npolicy:\n%s", err, showPolicy(p))
	}
	for i, test := range a.tests {
		if test == nil {
			continue
		}
		x := a.trials[i]
		if test(compile, x) == "" {
			continue
		}
		x.p = Minimise(x.p, func(p rbac.Policy) bool {
			_, err := rbac.Compile(p)
			return err == nil && test(compile, trial{p, x.r, x.now}) != ""
		})
		x.r = minimiseRequest(x.r, func(r rbac.Request) bool { return test(compile, trial{x.p, r, x.now}) != "" })
		return fmt.Errorf("%s\n%s", test(compile, x), show(x.p, x.now, x.r))
	}
	return nil
}

// compared tests the decision before and after a change.
func compared(change func(trial) trial, wrong func(before, after rbac.Decision) bool) test {
	return func(compile compiler, x trial) string {
		before, err := x.decide(compile)
		if err != nil {
			return "the policy does not compile: " + err.Error()
		}
		y := change(x)
		after, err := y.decide(compile)
		if err != nil {
			if _, invalid := rbac.Compile(y.p); invalid != nil {
				return "" // no policy any more, so that nothing is known of it
			}
			return "the changed policy does not compile: " + err.Error()
		}
		if !wrong(before, after) {
			return ""
		}
		out := fmt.Sprintf("it decides  %s\nand changed %s", showDecision(before), showDecision(after))
		if more := showPolicy(y.p); more != showPolicy(x.p) {
			out += "\nchanged policy:\n" + more
		}
		if more := showRequest(y.r); more != showRequest(x.r) {
			out += "\nchanged request:\n" + more
		}
		return out
	}
}

func neverEnlarges(change func(trial) trial) test {
	return compared(change, func(before, after rbac.Decision) bool {
		return after.Allowed && (!before.Allowed || later(after.NotAfter, before.NotAfter))
	})
}

func changesNothing(change func(trial) trial) test {
	return compared(change, func(before, after rbac.Decision) bool { return !same(before, after) })
}

func same(a, b rbac.Decision) bool {
	return a.Allowed == b.Allowed && a.NotAfter.Equal(b.NotAfter) && a.By == b.By
}

func showDecision(d rbac.Decision) string {
	if same(d, rbac.Decision{}) {
		return "denied"
	}
	return showValue(d)
}
