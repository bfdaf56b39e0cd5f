package enginetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// An act is something that a system asks of its ledger all the time.
type act struct {
	name string
	do   func(c *crowd, kind audit.Kind, i int) error
}

func scanned(c *crowd, kind audit.Kind, from, to audit.Key, most int) error {
	for _, err := range c.ledger.Scan(c.Context(), kind, from, to) {
		if err != nil {
			return err
		}
		if most--; most == 0 {
			break
		}
	}
	return nil
}

// new returns a number that was not used before.
func (c *crowd) new() int {
	c.used++
	return 2_000_000_000 + c.used
}

func (c *crowd) commit(records []audit.Record, reads []audit.Read, marks []audit.Mark) error {
	n := c.new()
	ch := audit.Change{ID: fmt.Sprint("new ", n), Records: records, Reads: reads, Marks: marks}
	for range records {
		ch.Events = append(ch.Events, audit.SealedEvent{ID: eventN(c.new()), Bytes: []byte("sealed")})
	}
	return c.ledger.Commit(c.Context(), ch)
}

func eventN(n int) audit.EventID {
	e, err := audit.ParseEventID(fmt.Sprintf("00000000-0000-7000-8000-%012x", n))
	if err != nil {
		panic(err)
	}
	return e
}

// openGrant is a record as a new grant is, and closedGrant as it is when it is over.
func openGrant(kind audit.Kind, n int, version uint64) audit.Record {
	return audit.Record{Kind: kind, ID: grantN(n), Version: version, Bytes: []byte("sealed"),
		Keys: []audit.Key{audit.Key("subject/" + subjectN(n)), audit.Key("open/" + subjectN(n)), dueN(n)}}
}

func closedGrant(kind audit.Kind, n int, version uint64) audit.Record {
	r := openGrant(kind, n, version)
	r.Keys = r.Keys[:1]
	return r
}

var acts = []act{
	{"load", func(c *crowd, kind audit.Kind, i int) error {
		_, err := c.ledger.Load(c.Context(), kind, grantN(i))
		return ignoreMissing(err)
	}},
	{"load what is not there", func(c *crowd, kind audit.Kind, i int) error {
		_, err := c.ledger.Load(c.Context(), kind, grantN(-1-i))
		return ignoreMissing(err)
	}},
	{"scan one key", func(c *crowd, kind audit.Kind, i int) error {
		k := audit.Key("subject/" + subjectN(i))
		return scanned(c, kind, k, audit.PrefixEnd(k), -1)
	}},
	{"scan what is open", func(c *crowd, kind audit.Kind, i int) error {
		k := audit.Key("open/" + subjectN(i))
		return scanned(c, kind, k, audit.PrefixEnd(k), -1)
	}},
	{"scan what is due", func(c *crowd, kind audit.Kind, i int) error { return scanned(c, kind, dueN(i), dueN(i+1000), -1) }},
	{"scan the first that is due", func(c *crowd, kind audit.Kind, _ int) error { return scanned(c, kind, "due/", "due0", 1) }},
	{"find", func(c *crowd, kind audit.Kind, i int) error {
		return scanned(c, "identity", handleN(i), handleN(i)+"\x00", -1)
	}},
	{"pending", func(c *crowd, _ audit.Kind, _ int) error {
		for _, err := range c.ledger.Pending(c.Context(), 256) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"the first that waits", func(c *crowd, _ audit.Kind, _ int) error {
		for _, err := range c.ledger.Pending(c.Context(), 1) {
			return err
		}
		return nil
	}},
	{"a grant begins and is over", func(c *crowd, kind audit.Kind, i int) error {
		n := c.new()
		for v := uint64(1); v <= 3; v++ {
			r := openGrant(kind, n, v)
			if v == 3 {
				r = closedGrant(kind, n, v)
			}
			if err := c.commit([]audit.Record{r}, []audit.Read{{Kind: kind, ID: grantN(-1), Version: 0}}, nil); err != nil {
				return err
			}
		}
		return nil
	}},
	{"a unique key is taken and freed", func(c *crowd, kind audit.Kind, i int) error {
		n := c.new()
		r := audit.Record{Kind: "identity", ID: grantN(n), Version: 1, Bytes: []byte("sealed"), UniqueKeys: []audit.Key{handleN(n)}}
		if err := c.commit([]audit.Record{r}, nil, nil); err != nil {
			return err
		}
		r.Version, r.Bytes = 2, nil
		return c.commit([]audit.Record{r}, nil, nil)
	}},
	{"many records at once", func(c *crowd, kind audit.Kind, i int) error {
		var rs []audit.Record
		for range 20 {
			rs = append(rs, openGrant(kind, c.new(), 1))
		}
		return c.commit(rs, nil, nil)
	}},
	{"marks", func(c *crowd, _ audit.Kind, _ int) error { return c.mark(2) }},
	{"many marks", func(c *crowd, _ audit.Kind, _ int) error { return c.mark(20) }},
}

func ignoreMissing(err error) error {
	if err != nil && strings.Contains(err.Error(), audit.ErrNotFound.Error()) {
		return nil
	}
	return err
}

// mark marks the first events that wait.
func (c *crowd) mark(n int) error {
	var marks []audit.Mark
	for e, err := range c.ledger.Pending(c.Context(), n) {
		if err != nil {
			return err
		}
		c.marked++
		marks = append(marks, audit.Mark{Event: e.ID, Index: uint64(5_000_000 + c.marked)})
	}
	return c.commit(nil, nil, marks)
}

// mostTime is for a hundred of an act. Without the right plan each would take a good part of a second.
const mostTime = 10 * time.Second

// TestPlans: what is asked all the time is found by an index, however much there is, with the database's statistics and without, and by plans that
// were made when there was nothing.
func TestPlans(t *testing.T) {
	for name, build := range map[string]func(t *testing.T) *crowd{"sqlite": newSQLiteCrowd, "postgresql": newPostgresCrowd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, start := build(t), time.Now()
			for _, a := range acts { // so often that a driver and a server keep what they have planned
				c.check(a, "small", "with nothing there")
				c.often(a, "small", 8)
			}
			c.fill()
			t.Logf("filled in %v", time.Since(start).Round(time.Second))
			for _, when := range []string{"without statistics", "with statistics"} {
				if when == "with statistics" {
					mustExec(t, c.db, "ANALYZE")
				}
				for _, a := range acts {
					c.check(a, "grant", when)
				}
				start = time.Now()
				for _, a := range acts {
					if took := c.often(a, "grant", 100); took > mostTime {
						t.Errorf("%s: %s: 100 take %v", a.name, when, took)
					}
				}
				t.Logf("%s: 100 of each in %v", when, time.Since(start).Round(time.Millisecond))
			}
		})
	}
}

// often does something again and again, all over the place.
func (c *crowd) often(a act, kind audit.Kind, n int) time.Duration {
	start := time.Now()
	for i := range n {
		if err := a.do(c, kind, i*9_973%manyGrants); err != nil {
			c.Fatalf("%s: %v", a.name, err)
		}
	}
	return time.Since(start)
}

// check lets the act be done, and the database explain each new statement that it was told.
func (c *crowd) check(a act, kind audit.Kind, when string) {
	var err error
	sent := c.r.during(func() { err = a.do(c, kind, 12_340) })
	if err != nil || len(sent) == 0 {
		c.Fatalf("%s: %d statements, %v", a.name, len(sent), err)
	}
	for _, s := range sent {
		if name := when + s.text; !c.known[name] {
			c.known[name] = true
			for _, problem := range c.explain(c.Context(), s) {
				if kind != "small" { // then nothing is too much
					c.Errorf("%s, %s: %s\n%s", a.name, when, problem, s.text)
				}
			}
		}
	}
}

// sqlitePlan returns what is wrong with how SQLite would run the statement.
func (c *crowd) sqlitePlan(ctx context.Context, s sentStatement) (problems []string) {
	rows, err := c.db.QueryContext(ctx, "EXPLAIN QUERY PLAN "+s.text, s.args...)
	if err != nil {
		return []string{err.Error()}
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, none int
		var detail string
		if err := rows.Scan(&id, &parent, &none, &detail); err != nil {
			return []string{err.Error()}
		}
		through := strings.Contains(detail, "(rowid>? AND rowid<?)") // all events, to find those that wait
		if strings.HasPrefix(detail, "SCAN") && !strings.Contains(detail, "CONSTANT ROW") || strings.Contains(detail, "TEMP B-TREE") || through {
			problems = append(problems, detail)
		}
	}
	if err := rows.Err(); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// A planNode is what PostgreSQL says of a part of a plan.
type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Cond     string     `json:"Index Cond"`
	Rows     float64    `json:"Plan Rows"`
	Hit      int        `json:"Shared Hit Blocks"`
	Read     int        `json:"Shared Read Blocks"`
	Plans    []planNode `json:"Plans"`
}

// What a statement that reads may touch: pages of eight kilobytes, for 64 records or 256 events.
const mostPages = 1000

// postgresPlan returns what is wrong with how PostgreSQL would run the statement: planned for its parameters, for any, and as it was planned first.
func (c *crowd) postgresPlan(ctx context.Context, s sentStatement) (problems []string) {
	if strings.HasPrefix(s.text, "SET ") {
		return nil
	}
	reads := strings.HasPrefix(s.text, "SELECT")
	for _, how := range []string{"planned early", "force_generic_plan", "force_custom_plan"} {
		plan, err := c.postgresExplain(ctx, s, how, reads)
		if err != nil {
			return []string{err.Error()}
		}
		for _, p := range plan.problems("") {
			problems = append(problems, how+": "+p)
		}
		if n := plan.Hit + plan.Read; n > mostPages {
			problems = append(problems, fmt.Sprintf("%s: it touches %d pages", how, n))
		}
	}
	return problems
}

func (c *crowd) postgresExplain(ctx context.Context, s sentStatement, how string, run bool) (plan planNode, err error) {
	conn := c.early
	mode, name := "force_generic_plan", fmt.Sprintf("early_%x", sha256.Sum256([]byte(s.text)))[:20]
	if how != "planned early" {
		if conn, err = c.db.Conn(ctx); err != nil {
			return planNode{}, err
		}
		defer conn.Close()
		mode, name = how, "explained"
		defer conn.ExecContext(ctx, "DEALLOCATE explained")
	}
	if s.begin == "" {
		s.begin = "BEGIN"
	}
	if _, err := conn.ExecContext(ctx, s.begin); err != nil {
		return planNode{}, err
	}
	defer conn.ExecContext(ctx, "ROLLBACK")
	if _, err := conn.ExecContext(ctx, "SET LOCAL plan_cache_mode = "+mode); err != nil {
		return planNode{}, err
	}
	if !c.known[name] {
		c.known[name] = how == "planned early"
		if _, err := conn.ExecContext(ctx, "PREPARE "+name+" AS "+s.text); err != nil {
			return planNode{}, err
		}
	}
	var values []string
	for _, a := range s.args {
		values = append(values, literal(a))
	}
	explain := fmt.Sprintf("EXPLAIN (FORMAT JSON, BUFFERS %t, ANALYZE %t) EXECUTE %s", run, run, name)
	if len(values) > 0 {
		explain += "(" + strings.Join(values, ", ") + ")"
	}
	var out []byte
	if err := conn.QueryRowContext(ctx, explain).Scan(&out); err != nil {
		return planNode{}, err
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(out, &plans); err != nil || len(plans) != 1 {
		return planNode{}, fmt.Errorf("%d plans, %v: %s", len(plans), err, out)
	}
	return plans[0].Plan, nil
}

// literal writes a parameter as SQL.
func literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return `'\x` + hex.EncodeToString(v) + `'`
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	return fmt.Sprint(v)
}

// problems names the parts that read a table from end to end, that follow an index without knowing where to begin, and that sort much.
func (n planNode) problems(parent string) (all []string) {
	table := slices.Contains(ledgerTables, n.Relation)
	switch {
	case table && n.Type == "Seq Scan":
		all = append(all, "it reads all of "+n.Relation)
	case strings.Contains(n.Type, "Index") && n.Cond == "" && parent != "Limit":
		all = append(all, "it reads all of the index "+n.Index)
	case n.Type == "Sort" && n.Rows > 10_000:
		all = append(all, fmt.Sprintf("it sorts %.0f rows", n.Rows))
	}
	for _, p := range n.Plans {
		all = append(all, p.problems(n.Type)...)
	}
	return all
}
