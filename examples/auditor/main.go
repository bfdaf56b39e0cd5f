// Auditor is what an outsider runs on a copy of a log, with nothing but the log's verifier key: no database, no network, no trust in who gave the copy.
//
//	auditor verify DIR --key FILE [--since FILE] [--policy FILE]   whether the log is whole, what is in it, and whether it goes on from what was seen
//	auditor prove DIR EVENT --key FILE [--policy FILE]             a .tlog-proof of one event, for whoever has no copy
//	auditor story DIR GRANT --key FILE                             everything that led to a grant, and that came of it
//	auditor diff A B --key FILE                                    whether two copies, or checkpoints, are of one history
//	auditor rekor RECEIPT --trust FILE [DIR --key FILE]            whether a checkpoint was anchored in Rekor, and whether a copy goes on from it
//
// FILE after --key holds the verifier key, after --since a checkpoint that was kept, after --policy a policy of witnesses (c2sp.org/tlog-policy) that must accept
// the log's checkpoint, and after --trust whose receipts are believed (see package audit/rekor). With --json the answer is JSON. The exit status is 0 if there is no doubt, 1 if there is any, and so after a panic or after --timeout, and 2
// if it was called wrongly.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/trail"
	"github.com/bailiwick-go/bailiwick/audit/witness"
	"github.com/bailiwick-go/bailiwick/jit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// errUsage means that it was called wrongly.
var errUsage = errors.New("usage: auditor verify DIR | prove DIR EVENT | story DIR GRANT | diff A B, with --key FILE, or rekor RECEIPT [DIR] with --trust FILE")

// run does what the arguments say, and returns the exit status.
func run(ctx context.Context, args []string, out, errs io.Writer) (status int) {
	said := &printable{w: out}
	a := &auditor{out: said, errs: &printable{w: errs}}
	done := make(chan error, 1)
	words, err := a.parse(args)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		go func() { // what hangs on a file does not hear of a context
			defer func() {
				if p := recover(); p != nil {
					done <- fmt.Errorf("panic: %v", p)
				}
			}()
			done <- a.do(ctx, words)
		}()
		select {
		case err = <-done:
		case <-ctx.Done():
			select {
			case err = <-done:
			case <-time.After(time.Second):
				err = fmt.Errorf("not finished: %w", ctx.Err())
			}
		}
	}
	if err == nil {
		err = said.err // what nobody could read was not said
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage) || errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(a.errs, errUsage)
		return 2
	}
	fmt.Fprintln(a.errs, "DOUBT:", err)
	if a.json {
		json.NewEncoder(a.out).Encode(map[string]any{"ok": false, "doubt": err.Error()})
	}
	return 1
}

// printable takes from what is printed whatever a terminal would obey, and keeps the first error of printing.
type printable struct {
	w   io.Writer
	err error
}

func (p *printable) Write(b []byte) (int, error) {
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b), "?"))
	if _, err := io.WriteString(p.w, text); err != nil {
		p.err = cmp.Or(p.err, err)
		return 0, err
	}
	return len(b), nil
}

type auditor struct {
	out, errs          io.Writer
	key, since, policy string
	trust              string
	json               bool
	timeout            time.Duration
	vkey               string
	accepts            *witness.Policy
	progress           time.Time
	reader             *merkle.Reader
	checkpoint         merkle.Checkpoint
	cosigned           []witness.Cosignature
}

// parse takes flags from anywhere between the words.
func (a *auditor) parse(args []string) (words []string, err error) {
	f := flag.NewFlagSet("auditor", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&a.key, "key", "", "")
	f.StringVar(&a.since, "since", "", "")
	f.StringVar(&a.policy, "policy", "", "")
	f.StringVar(&a.trust, "trust", "", "")
	f.BoolVar(&a.json, "json", false, "")
	f.DurationVar(&a.timeout, "timeout", time.Hour, "")
	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			return nil, errors.Join(errUsage, err)
		}
		if args = f.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	anchored := len(words) > 0 && words[0] == "rekor"
	if len(words) == 0 || (a.trust != "") != anchored || a.key == "" && !(anchored && len(words) == 2) {
		return nil, errUsage
	}
	return words, nil
}

func (a *auditor) do(ctx context.Context, words []string) error {
	if a.key != "" {
		key, err := os.ReadFile(a.key)
		if err != nil {
			return err
		}
		a.vkey = strings.TrimSpace(string(key))
	}
	if a.policy != "" {
		text, err := os.ReadFile(a.policy)
		if err != nil {
			return err
		}
		p, err := witness.ParsePolicy(text)
		if err != nil {
			return err
		}
		a.accepts = &p
	}
	switch {
	case words[0] == "verify" && len(words) == 2:
		return a.verify(ctx, words[1])
	case words[0] == "prove" && len(words) == 3:
		return a.prove(ctx, words[1], words[2])
	case words[0] == "story" && len(words) == 3:
		return a.story(ctx, words[1], words[2])
	case words[0] == "diff" && len(words) == 3:
		return a.diff(words[1], words[2])
	case words[0] == "rekor" && len(words) == 2:
		return a.rekor(words[1], "")
	case words[0] == "rekor" && len(words) == 3:
		return a.rekor(words[1], words[2])
	}
	return errUsage
}

// say tells how far long work has come.
func (a *auditor) say(entries uint64) {
	if now := time.Now(); now.Sub(a.progress) > time.Second {
		if !a.progress.IsZero() {
			fmt.Fprintf(a.errs, "%d entries\n", entries)
		}
		a.progress = now
	}
}

// open reads the checkpoint of a copy; whatever is proven afterwards is proven under it.
func (a *auditor) open(dir string) (*os.Root, error) {
	files, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	if a.reader, err = merkle.NewReader(files, a.vkey); err == nil {
		a.checkpoint, err = a.reader.Checkpoint()
	}
	if err == nil {
		err = a.witnessed(a.checkpoint)
	}
	if err != nil {
		files.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "checkpoint"), err)
	}
	return files, nil
}

// witnessed checks a checkpoint by the policy, if there is one.
func (a *auditor) witnessed(cp merkle.Checkpoint) error {
	if a.accepts == nil {
		return nil
	}
	v, err := a.accepts.Verify(cp.Note)
	a.cosigned = v.Cosignatures
	return err
}

// answer prints what was found: as JSON, or as the function does.
func (a *auditor) answer(found map[string]any, print func()) error {
	if !a.json {
		print()
		return nil
	}
	found["ok"] = true
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(found)
}

func (a *auditor) verify(ctx context.Context, dir string) error {
	files, err := a.open(dir)
	if err != nil {
		return err
	}
	defer files.Close()
	report, err := audit.Verify(ctx, files, a.vkey, a.say)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if err := a.witnessed(report.Checkpoint); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	since := uint64(0)
	if a.since != "" {
		signed, err := os.ReadFile(a.since)
		if err != nil {
			return err
		}
		seen, err := merkle.ParseCheckpoint(signed, a.vkey)
		if err == nil {
			err = a.reader.GoesOn(seen, report.Checkpoint)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", a.since, err)
		}
		since = seen.Size
	}
	cp := report.Checkpoint
	return a.answer(map[string]any{"log": cp.Origin, "size": cp.Size, "root": cp.Root.String(), "first": report.First, "since": since,
		"cosignatures": a.cosigned, "kinds": report.Kinds}, func() {
		fmt.Fprintf(a.out, "log %s\nsize %d, root %s\n", cp.Origin, cp.Size, cp.Root)
		if report.First > 0 {
			fmt.Fprintf(a.out, "pruned below entry %d, and an event says so\n", report.First)
		}
		if a.since != "" {
			fmt.Fprintf(a.out, "goes on from size %d\n", since)
		}
		for _, c := range a.cosigned {
			fmt.Fprintf(a.out, "seen by %s at %s\n", c.Witness, c.Time.Format(time.RFC3339))
		}
		for _, kind := range slices.Sorted(maps.Keys(report.Kinds)) {
			fmt.Fprintf(a.out, "%9d %s\n", report.Kinds[kind], kind)
		}
	})
}

func (a *auditor) prove(ctx context.Context, dir, event string) error {
	files, err := a.open(dir)
	if err != nil {
		return err
	}
	defer files.Close()
	id, err := audit.ParseEventID(event)
	if err != nil {
		return errors.Join(errUsage, err)
	}
	index, err := a.index(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	page, err := index.Ask(ctx, trail.Query{ID: id}, 2, "")
	if err == nil && len(page.Entries) != 1 {
		err = fmt.Errorf("%d events %s", len(page.Entries), id)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	e := page.Entries[0]
	leaf, err1 := e.Event.Leaf()
	inclusion, err2 := a.reader.Inclusion(a.checkpoint, e.Index)
	p := merkle.TlogProof{Index: e.Index, Inclusion: inclusion, Note: a.checkpoint.Note}
	text, err3 := p.Marshal()
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%s: entry %d: %w", dir, e.Index, err)
	}
	if _, err := p.Verify(a.vkey, leaf); err != nil { // as whoever gets it will
		return fmt.Errorf("%s: entry %d: %w", dir, e.Index, err)
	}
	return a.answer(map[string]any{"index": e.Index, "leaf": string(leaf), "proof": string(text)}, func() {
		fmt.Fprintf(a.errs, "entry %d is %s\n", e.Index, leaf)
		fmt.Fprintf(a.out, "%s", text)
	})
}

// index reads the whole log up to the checkpoint, and verifies it.
func (a *auditor) index(ctx context.Context) (*trail.Index, error) {
	index, err := trail.NewIndex(a.reader)
	if err == nil {
		err = index.Update(ctx, a.say)
	}
	return index, err
}

func (a *auditor) story(ctx context.Context, dir, grant string) error {
	files, err := a.open(dir)
	if err != nil {
		return err
	}
	defer files.Close()
	index, err := a.index(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	all := map[uint64]audit.Event{}
	ask := func(q trail.Query) error {
		for cursor := ""; ; {
			page, err := index.Ask(ctx, q, trail.MaxPage, cursor)
			if err != nil {
				return err
			}
			for _, e := range page.Entries {
				all[e.Index] = e.Event
			}
			if cursor = page.Next; cursor == "" {
				return nil
			}
		}
	}
	if err := ask(trail.Query{ObjectKind: jit.GrantKind, ObjectID: audit.ID(grant)}); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if len(all) == 0 {
		return fmt.Errorf("%s: no event is about a grant %q", dir, grant)
	}
	first := all[slices.Min(slices.Collect(maps.Keys(all)))]
	if err := ask(trail.Query{Ancestor: first.ID}); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	before, err := audit.Trace(a.reader, a.checkpoint, first.ID)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	for _, e := range before {
		all[e.Index] = e.Event
	}
	var entries []audit.Entry
	for _, i := range slices.Sorted(maps.Keys(all)) {
		entries = append(entries, audit.Entry{Index: i, Event: all[i]})
	}
	return a.answer(map[string]any{"grant": grant, "events": entries}, func() {
		for _, e := range entries {
			by := "the library"
			if !e.Event.Actor.ID.IsZero() {
				by = fmt.Sprint(e.Event.Actor.Kind, " ", e.Event.Actor.ID)
			}
			fmt.Fprintf(a.out, "#%-6d %s  %-22s %-8s by %s", e.Index, e.Event.Time.Format("2006-01-02T15:04:05.000Z"), e.Event.Kind, e.Event.Outcome, by)
			for _, k := range slices.Sorted(maps.Keys(e.Event.Fields)) {
				fmt.Fprintf(a.out, " %s=%q", k, e.Event.Fields[k])
			}
			fmt.Fprintln(a.out)
		}
	})
}

// view opens a copy, or a checkpoint in a file.
func view(name string) (merkle.View, func() error, error) {
	info, err := os.Stat(name)
	if err != nil {
		return merkle.View{}, nil, err
	}
	if info.IsDir() {
		files, err := os.OpenRoot(name)
		if err != nil {
			return merkle.View{}, nil, err
		}
		return merkle.View{Files: files}, files.Close, nil
	}
	signed, err := os.ReadFile(name)
	return merkle.View{Note: signed}, func() error { return nil }, err
}

func (a *auditor) diff(left, right string) error {
	l, closeLeft, err := view(left)
	if err != nil {
		return err
	}
	defer closeLeft()
	r, closeRight, err := view(right)
	if err != nil {
		return err
	}
	defer closeRight()
	c, err := merkle.Compare(a.vkey, l, r)
	if err != nil {
		return err
	}
	if c.Forked {
		where := ""
		if c.Leaves[0] != nil {
			where = fmt.Sprintf("; they share %d entries, and entry %d is %s in one and %s in the other", c.Shared, c.Shared, c.Leaves[0], c.Leaves[1])
		}
		return fmt.Errorf("%w: both of these are signed%s\n%s\n%s", merkle.ErrForked, where, c.Old.Note, c.New.Note)
	}
	return a.answer(map[string]any{"old": c.Old.Size, "new": c.New.Size, "proof": len(c.Proof)}, func() {
		fmt.Fprintf(a.out, "one history: size %d goes on from size %d, proven by %d hashes\n", c.New.Size, c.Old.Size, len(c.Proof))
	})
}
