package main

import (
	"fmt"
	"os"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// rekor verifies a receipt of an anchor, and that a copy of the log, if there is one, goes on from what was anchored.
func (a *auditor) rekor(receipt, dir string) error {
	text, err := os.ReadFile(a.trust)
	if err != nil {
		return err
	}
	trust, err := rekor.ParseTrust(text)
	if err != nil {
		return fmt.Errorf("%s: %w", a.trust, err)
	}
	saved, err := os.ReadFile(receipt)
	if err != nil {
		return err
	}
	found, err := trust.Verify(saved)
	if err != nil {
		return fmt.Errorf("%s: %w", receipt, err)
	}
	cp := found.Checkpoint
	size := uint64(0)
	if dir != "" {
		files, err := a.open(dir)
		if err != nil {
			return err
		}
		defer files.Close()
		if err := a.reader.GoesOn(cp, a.checkpoint); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		size = a.checkpoint.Size
	}
	said := map[string]any{"log": cp.Origin, "size": cp.Size, "root": cp.Root.String(), "rekor": found.Log, "index": found.Index}
	at := "at a time that nobody told"
	if !found.Time.IsZero() {
		at = "by " + found.Time.Format(time.RFC3339)
		said["time"] = found.Time
	}
	if dir != "" {
		said["copy"] = size
	}
	return a.answer(said, func() {
		fmt.Fprintf(a.out, "log %s\nsize %d, root %s\nwas anchored as entry %d of %s, %s\n", cp.Origin, cp.Size, cp.Root, found.Index, found.Log, at)
		if dir != "" {
			fmt.Fprintf(a.out, "%s goes on from it, to size %d\n", dir, size)
		}
	})
}
