package sqlledger

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// A statement is the text of one of PostgreSQL's, and its parameters. In the text "@" is the schema.
type statement struct {
	schema string
	lists  bool // whether rows are always passed as arrays
	b      strings.Builder
	args   []any
}

func (q *statement) text(s string) *statement {
	for {
		i := strings.IndexByte(s, '@')
		if i < 0 {
			q.b.WriteString(s)
			return q
		}
		q.b.WriteString(s[:i])
		q.b.WriteString(q.schema)
		s = s[i+1:]
	}
}

func (q *statement) arg(v any, typ string) *statement {
	q.args = append(q.args, v)
	q.b.WriteString("$" + strconv.Itoa(len(q.args)) + "::" + typ)
	return q
}

// fewValues is the most rows that are a parameter for each value, which takes less than arrays do. The text of a statement then depends on
// their number, and each text is parsed and planned once on each connection; more are passed as one array for each column.
const fewValues = 8

// rows adds all as a table w with the columns, each a name and a type. The function row returns the values of one.
func rows[T any](q *statement, all []T, columns string, row func(i int, v T) []any) {
	var names, types []string
	for c := range strings.SplitSeq(columns, ", ") {
		name, typ, _ := strings.Cut(c, " ")
		names, types = append(names, name), append(types, typ)
	}
	if len(all) <= fewValues && !q.lists {
		for i, v := range all {
			q.text([]string{"(VALUES (", "), ("}[min(i, 1)])
			for j, value := range row(i, v) {
				if j > 0 {
					q.b.WriteByte(',')
				}
				q.arg(value, types[j])
			}
		}
		q.text("))")
	} else {
		// As the text of an array, which every driver can pass.
		arrays := make([][]byte, len(names))
		for i, v := range all {
			for j, value := range row(i, v) {
				arrays[j] = element(append(arrays[j], "{,"[min(i, 1)]), value)
			}
		}
		for j, a := range arrays {
			q.text([]string{"unnest(", ", "}[min(j, 1)])
			q.arg(string(append(a, '}')), "text::"+types[j]+"[]")
		}
		q.text(")")
	}
	q.text(" AS w(" + strings.Join(names, ", ") + ")")
}

// element adds a value to the text of an array.
func element(b []byte, value any) []byte {
	switch v := value.(type) {
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case bool:
		return strconv.AppendBool(b, v)
	case []byte:
		return append(hex.AppendEncode(append(b, `"\\x`...), v), '"')
	default:
		return append(b, "NULL"...)
	}
}
