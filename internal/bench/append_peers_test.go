package bench

import (
	"context"
	"database/sql"
	"encoding/binary"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"go.etcd.io/bbolt"
	"k8s.io/klog/v2"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// appendTessera waits until an entry is durable and in the tree, with the batches that suit so many callers best.
func appendTessera(b *testing.B, callers int) {
	klog.LogToStderr(false) // which would be in the middle of the results
	klog.SetOutput(io.Discard)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: filepath.Join(b.TempDir(), "log")})
	if err != nil {
		b.Fatal(err)
	}
	signer, err := merkle.NewSigner(origin, key(1))
	if err != nil {
		b.Fatal(err)
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(uint(callers), 10*time.Millisecond)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	measure(b, callers, "entries/s", func(int) error {
		_, err := appender.Add(ctx, tessera.NewEntry(entry(n.Add(1))))()
		return err
	})
	if err := shutdown(ctx); err != nil {
		b.Error(err)
	}
}

// appendBolt puts an entry under its number, with one transaction for those who call at the same time.
func appendBolt(b *testing.B, callers int) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "log"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.MaxBatchSize, db.MaxBatchDelay = callers, time.Millisecond
	bucket := []byte("log")
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(bucket); return err }); err != nil {
		b.Fatal(err)
	}
	write := db.Batch
	if callers == 1 {
		write = db.Update
	}
	var n atomic.Uint64
	measure(b, callers, "entries/s", func(int) error {
		i := n.Add(1)
		return write(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucket).Put(binary.BigEndian.AppendUint64(nil, i), entry(i))
		})
	})
}

// appendSQLite inserts an entry as a row, each in its transaction.
func appendSQLite(b *testing.B, callers int) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "log")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(10000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE log (id INTEGER PRIMARY KEY, entry BLOB)"); err != nil {
		b.Fatal(err)
	}
	insert, err := db.Prepare("INSERT INTO log (entry) VALUES (?)")
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Uint64
	measure(b, callers, "entries/s", func(int) error {
		_, err := insert.Exec(entry(n.Add(1)))
		return err
	})
}
