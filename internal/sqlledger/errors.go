package sqlledger

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
)

// secrets is what a driver that fails to connect may repeat of its data source name.
var secrets = regexp.MustCompile(`(?i)://[^\s/@]*@|\b(password|passwd|pwd|sslpassword|_auth_pass|_key)\s*=\s*('[^']*'|[^\s&;]+)`)

// failed returns an error with the driver's text, which does not wrap the driver's error.
func failed(what string, err error) error {
	return fmt.Errorf("sqlledger: %s: %s", what, secrets.ReplaceAllString(err.Error(), "***"))
}

// A problem is an error that was found here and says all of it.
type problem struct{ text string }

func (p *problem) Error() string { return "sqlledger: " + p.text }

func problemf(format string, args ...any) error { return &problem{fmt.Sprintf(format, args...)} }

// written returns the error of a row that somebody else than a ledger has written.
func written(format string, args ...any) error {
	return fmt.Errorf("%w: %s", audit.ErrSeal, fmt.Sprintf(format, args...))
}

// isOurs reports whether err needs no context and holds nothing of a driver's.
func isOurs(err error) bool {
	var p *problem
	return errors.As(err, &p) || errors.Is(err, audit.ErrConflict) || errors.Is(err, audit.ErrSeal)
}

// isBusy reports whether SQLite waited for another connection in vain.
func isBusy(err error) bool {
	var coder interface{ Code() int }
	if errors.As(err, &coder) {
		return coder.Code()&0xff == 5 || coder.Code()&0xff == 6 // SQLITE_BUSY, SQLITE_LOCKED
	}
	return err != nil && (strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "SQLITE_BUSY") ||
		strings.Contains(err.Error(), "table is locked"))
}

// isClosedDB reports whether the host has closed its *sql.DB.
func isClosedDB(err error) bool { return err != nil && err.Error() == "sql: database is closed" }

// A class is what an error of PostgreSQL means for the change.
type class int

const (
	refused class = iota // the database will not have it
	again                // it was in the way of another one
	taken                // another row has what must be unique
	lost                 // the connection is gone, and perhaps the change was committed
)

// sqlState returns the SQLSTATE of an error of PostgreSQL, "" if it has none.
func sqlState(err error) string {
	var s interface{ SQLState() string }
	if errors.As(err, &s) {
		return s.SQLState()
	}
	return ""
}

func classOf(err error) class {
	var l *lostError
	if errors.As(err, &l) {
		return lost
	}
	if isOurs(err) {
		return refused
	}
	switch state := sqlState(err); {
	case state == "", errors.Is(err, driver.ErrBadConn): // an error of the network, or of the driver
		return lost
	case state == "40001", state == "40P01", state == "55P03": // serialization failure, deadlock, lock not available
		return again
	case state == "23505", state == "23P01": // unique violation, exclusion violation
		return taken
	case strings.HasPrefix(state, "08"), strings.HasPrefix(state, "57P"), state == "25006", // connection, shutdown, a standby after a failover
		state == "25P03", state == "25P04", // the session was ended because it was idle or slow
		state == "53300", state == "40003": // too many connections, statement completion unknown
		return lost
	}
	return refused
}

// A lostError is of class lost whatever its SQLSTATE is.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// pause waits for about d, at most as long as ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
