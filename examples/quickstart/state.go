package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "github.com/jackc/pgx/v5/stdlib" // "pgx"
	_ "modernc.org/sqlite"             // "sqlite"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const (
	origin = "bailiwick.example/quickstart"
	schema = "bailiwick_quickstart" // in PostgreSQL
	dbFile = "state.db"             // in SQLite
)

// A state is what lasts from one evening to the next: a directory with the log, the keys and, unless it is in PostgreSQL, the database.
// The keys lie beside the database and never in it: who has only that can forge nothing.
type state struct {
	dir    string
	log    *merkle.Dir
	size   uint64 // of the log, as the last evening left it
	db     *sql.DB
	ledger *bailiwick.Database
}

// openState opens what is in the directory, or begins it. Whoever has the log open has the directory: a second quickstart is refused before it
// changes anything.
func openState(ctx context.Context, dir, dsn string) (_ *state, err error) {
	s := &state{dir: dir}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	switch {
	case (s.has("log") || s.has(dbFile)) && !s.has("keys/log"):
		return nil, fmt.Errorf("%s has a log or a %s, and not the log's key: it is something else's, or an older version's; name another directory", dir, dbFile)
	case dsn != "" && s.has(dbFile):
		return nil, fmt.Errorf("%s keeps its state in %s: leave out -db, or name another directory", dir, dbFile)
	}
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		return nil, err
	}
	key, err := s.key("log")
	if err != nil {
		return nil, err
	}
	s.log, err = merkle.OpenDir(filepath.Join(dir, "log"), origin, key)
	if errors.Is(err, merkle.ErrLocked) {
		return nil, fmt.Errorf("another quickstart is at work in %s: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	reader, err := merkle.NewReader(s.log, s.log.VerifierKey())
	if err != nil {
		return nil, err
	}
	cp, err := reader.Checkpoint()
	if err != nil {
		return nil, err
	}
	s.size = cp.Size
	if dsn == "" && s.size > 0 && !s.has(dbFile) {
		return nil, fmt.Errorf("%s has a log of %d events and no %s: if its state is in PostgreSQL, say where with -db; otherwise name another directory",
			dir, s.size, dbFile)
	}
	if !s.has("keys/seal") && s.size == 0 {
		if err := s.seal().Roll(ctx); err != nil {
			return nil, err
		}
	}
	return s, s.openLedger(dsn)
}

func (s *state) openLedger(dsn string) (err error) {
	if dsn != "" {
		if s.db, err = sql.Open("pgx", dsn); err == nil {
			s.ledger = bailiwick.PostgreSQL(s.db, schema)
		}
		return err
	}
	file, err := filepath.Abs(filepath.Join(s.dir, dbFile))
	if err != nil {
		return err
	}
	// SQLite would let others read it, and makes its other files like this one.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(file)} // whatever is in the path
	if s.db, err = sql.Open("sqlite", name.String()); err == nil {
		s.ledger = bailiwick.SQLite(s.db)
	}
	return err
}

func (s *state) close() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

func (s *state) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

func (s *state) has(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

func (s *state) seal() audit.KeyFile { return audit.KeyFile(s.path("keys/seal")) }

// key returns the key of that name, which is made when it is first asked for.
func (s *state) key(name string) (ed25519.PrivateKey, error) {
	name = "keys/" + url.PathEscape(name)
	if !s.has(name) {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		err = write(s.path(name), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if err != nil && !errors.Is(err, fs.ErrExist) { // who made it at the same time was first
			return nil, err
		}
	}
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(text); block != nil {
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := parsed.(ed25519.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%s is not an Ed25519 key", s.path(name))
}

// keep writes a file that stays. One that is there already has to be the same.
func (s *state) keep(name string, data []byte) error {
	err := write(s.path(name), data)
	if errors.Is(err, fs.ErrExist) {
		var old []byte
		if old, err = os.ReadFile(s.path(name)); err == nil && !bytes.Equal(old, data) {
			err = fmt.Errorf("%s is there already, and is another one: take it away, or name another directory", s.path(name))
		}
	}
	return err
}

// write makes a new file, whole and durable, and only then gives it its name: whenever it is interrupted, the file is there or it is not.
func write(file string, data []byte) error {
	t, err := os.CreateTemp(filepath.Dir(file), ".new-*") // its mode is 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.Write(data)
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err == nil {
		err = os.Link(t.Name(), file) // unlike Rename, it replaces nothing
	}
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
