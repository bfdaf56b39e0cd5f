package policy

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"

	"github.com/bailiwick-go/bailiwick/identity"
)

// A size says how large a world is, and of what kind.
type size struct {
	name               string
	roles, users, each int  // how many there are, and how many roles each user has
	deep               bool // roles inherit, and hold what lies below a path
	huge               bool // for the library and the floor only
}

var sizes = []size{
	{name: "S", roles: 100, users: 1_000, each: 1},
	{name: "M", roles: 1_000, users: 10_000, each: 1},
	{name: "L", roles: 10_000, users: 100_000, each: 1},
	{name: "H", roles: 1_000, users: 10_000, each: 1, deep: true},
	{name: "X", roles: 10_000, users: usersOfX(), each: 10, huge: true},
}

func usersOfX() int {
	if n, err := strconv.Atoi(os.Getenv("USERS")); err == nil {
		return n
	}
	return 1_000_000
}

func sizeOf(name string) size {
	for _, s := range sizes {
		if s.name == name {
			return s
		}
	}
	panic("no size " + name)
}

// A world has the users of a size, and says what they hold: everything else of it is computed. Roles and users are numbers from zero on.
type world struct {
	size
	ids []identity.ID // of the users, and of a stranger
}

func newWorld(s size) *world {
	w := &world{size: s, ids: make([]identity.ID, s.users+1)}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range w.ids {
		a, b := rnd.Uint64(), rnd.Uint64()
		w.ids[n] = identity.MustParseID(fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffff_ffff_ffff))
	}
	return w
}

// role returns the k-th role of a user. Where each has one, there are ten users to a role.
func (w *world) role(user, k int) int { return (user + 997*k) % w.roles }

// levels is how many roles a deep world has one above the other.
const levels = 5

// junior returns the role that role r inherits, which is of the next lower level and inherited by nobody else.
func (w *world) junior(r int) (junior int, ok bool) {
	per := w.roles / levels
	if !w.deep || r < per {
		return 0, false
	}
	return (r/per-1)*per + (7*r+3)%per, true
}

// closure returns role r and all that it inherits.
func (w *world) closure(r int) []int {
	all := []int{r}
	for j, ok := w.junior(r); ok; j, ok = w.junior(j) {
		all = append(all, j)
	}
	return all
}

// A permission is of an action on a resource, or on everything below it if it ends in "/".
type permission struct{ action, resource string }

// pattern returns the resource as a pattern, in which suffix stands for whatever comes below.
func (p permission) pattern(suffix string) string {
	if strings.HasSuffix(p.resource, "/") {
		return p.resource + suffix
	}
	return p.resource
}

// permissions returns what role r holds by itself, which no other role does.
func (w *world) permissions(r int) []permission {
	if !w.deep {
		return []permission{{"read", "data" + strconv.Itoa(r)}}
	}
	var all []permission
	for db := range 10 {
		all = append(all, permission{actions[db%2], fmt.Sprintf("org/team%d/db%d/", r, db)})
	}
	return all
}

var (
	actions = []string{"read", "write"}
	other   = map[string]string{"read": "write", "write": "read"}
)

func roleName(r int) string { return "role" + strconv.Itoa(r) }

// tables is how many resources requests know below each path.
const tables = 4

func tableOf(path string, n int) string { return path + "table" + strconv.Itoa(n%tables) }

// A question is whether a user may do something.
type question struct {
	user             identity.ID
	name             string // of the user, for systems that know only strings
	action, resource string
	allowed          bool
}

// A sphinx asks. It spells each resource in memory of its own, which a policy does not share, but only once, for a request that has just been
// read would not be the slow part of a decision.
type sphinx struct {
	*world
	rnd   *rand.Rand
	spelt map[string]string
}

func newSphinx(w *world, seed uint64) *sphinx {
	return &sphinx{w, rand.New(rand.NewPCG(3, seed)), map[string]string{}}
}

func (x *sphinx) question(user int, p permission, allowed bool) question {
	resource := p.resource
	if strings.HasSuffix(resource, "/") {
		resource = tableOf(resource, x.rnd.IntN(tables))
	}
	if s, ok := x.spelt[resource]; ok {
		resource = s
	} else {
		x.spelt[resource] = resource
	}
	return question{x.ids[user], x.ids[user].String(), p.action, resource, allowed}
}

// of returns one of the permissions of role r.
func (x *sphinx) of(r int) permission {
	all := x.permissions(r)
	return all[x.rnd.IntN(len(all))]
}

// hot is the user of whom the hot questions are, whose role is in the middle for those systems that look at one after the other.
func (w *world) hot() int { return min(w.roles/2, w.users-1) }

func (x *sphinx) anyone() int { return x.rnd.IntN(x.users) }

// allowed asks for what a user holds by any of the roles.
func (x *sphinx) allowed(user int) question {
	roles := x.closure(x.role(user, x.rnd.IntN(x.each)))
	return x.question(user, x.of(roles[x.rnd.IntN(len(roles))]), true)
}

// denied asks for what others than the user hold.
func (x *sphinx) denied(user int) question {
	held := map[int]bool{}
	for k := range x.each {
		for _, r := range x.closure(x.role(user, k)) {
			held[r] = true
		}
	}
	for {
		if r := x.rnd.IntN(x.roles); !held[r] {
			return x.question(user, x.of(r), false)
		}
	}
}

// anything asks for what is allowed or not, in one of the ways that there are.
func (x *sphinx) anything() question {
	q := x.allowed(x.anyone())
	switch x.rnd.IntN(8) {
	case 0, 1:
		return x.denied(x.anyone())
	case 2: // the path itself, or a shorter name
		q.resource, q.allowed = q.resource[:max(strings.LastIndex(q.resource, "/"), 4)], false
	case 3: // a longer name, on a path that only starts like it
		q.resource, q.allowed = strings.Replace(q.resource, "/table", "x/table", 1)+"x", false
	case 4:
		q.action, q.allowed = other[q.action], false
	case 5: // a stranger
		q = x.question(x.users, x.of(x.rnd.IntN(x.roles)), false)
	}
	return q
}

// ask returns n questions.
func ask(n int, one func() question) []question {
	all := make([]question, n)
	for i := range all {
		all[i] = one()
	}
	return all
}
