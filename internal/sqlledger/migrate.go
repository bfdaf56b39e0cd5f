package sqlledger

import (
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// format names what is in the database.
const format = "bailiwick ledger"

//go:embed sqlite/*.sql postgresql/*.sql
var migrations embed.FS

// Migrations returns the files that make the tables, each from the version before: "sqlite/0001.sql" and so on, and "postgresql/0001.sql" and
// so on, which are run with the ledger's own schema first in the search path. The last statement of each records the version. They are for
// hosts whose tables are made elsewhere, see [Ledger.CheckOnly].
func Migrations() fs.FS { return migrations }

// scripts returns the files of one database in order: the first makes version 1.
func scripts(database string) []string {
	var all []string
	for n := 1; ; n++ {
		b, err := migrations.ReadFile(fmt.Sprintf("%s/%04d.sql", database, n))
		if err != nil {
			return all
		}
		all = append(all, string(b))
	}
}

// pendingScripts returns the scripts that are still to be run on a database at the version. Version 0 is an empty one.
func pendingScripts(all []string, version int64, checkOnly bool) ([]string, error) {
	newest := int64(len(all))
	switch {
	case version < 0 || version > newest:
		return nil, problemf("the tables are version %d, and this program knows them up to %d", version, newest)
	case version < newest && checkOnly && version == 0:
		return nil, problemf("there are no tables, and they are not to be made")
	case version < newest && checkOnly:
		return nil, problemf("the tables are version %d, and are not to be brought to %d", version, newest)
	}
	return all[version:], nil
}

// statements splits a script into its statements. Ours have semicolons nowhere else, and comments on lines of their own.
func statements(script string) []string {
	lines := slices.DeleteFunc(strings.Split(script, "\n"), func(l string) bool { return strings.HasPrefix(l, "--") })
	var all []string
	for s := range strings.SplitSeq(strings.Join(lines, "\n"), ";") {
		if s = strings.Join(strings.Fields(s), " "); s != "" {
			all = append(all, s)
		}
	}
	return all
}

var errElse = problemf("the database holds something else under the names of the ledger's tables")

// readVersion reads the table that names the format and the version.
func readVersion(rows *sql.Rows) (int64, error) {
	var version int64
	err := collectAll(rows, func(rows *sql.Rows) error {
		columns, err := rows.Columns()
		if err != nil {
			return err
		}
		if len(columns) != 2 || !rows.Next() {
			return errElse
		}
		var f, v any
		if err := rows.Scan(&f, &v); err != nil {
			return err
		}
		n, ok := v.(int64)
		if b, isBytes := f.([]byte); isBytes { // so some drivers return text
			f = string(b)
		}
		if !ok || n < 1 || f != format || rows.Next() {
			return errElse
		}
		version = n
		return nil
	})
	return version, err
}
