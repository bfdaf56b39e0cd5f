package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

// leave: everything of the contractor's is gone, and stays so.
func (s *story) leave(ctx context.Context) error {
	t := s.org.Tonight
	standing, err := s.sys.Lifecycle().State(ctx, s.ids[t.Contractor])
	if err != nil {
		return err
	}
	if standing == lifecycle.Active {
		if err := s.depart(ctx); err != nil {
			return err
		}
	} else {
		s.say(t.Contractor, "has left before, and is %s", standing)
	}
	for _, who := range []string{t.Contractor, t.ContractorAgent} {
		_, err = s.signIn(ctx, who)
		if err := s.refused(who, "to sign in", err); err != nil {
			return err
		}
	}
	return nil
}

// depart: whatever the contractor has, it is taken away at once.
func (s *story) depart(ctx context.Context) error {
	t := s.org.Tonight
	tom, err := s.signIn(ctx, t.Contractor)
	if err != nil {
		return err
	}
	resource := "ssh/" + t.ContractorLogin
	grant, err := s.sys.JIT().Request(ctx, tom, jit.Request{Role: t.ContractorRole, Scope: []string{resource}, Reason: "look at last night", Duration: rbac.Duration(time.Hour)})
	if err != nil {
		return err
	}
	if grant, err = s.sys.JIT().Activate(ctx, tom, grant.ID); err != nil {
		return err
	}
	cert, err := s.sys.Issuer().Issue(ctx, tom, credentials.Request{Type: "ssh", Grant: string(grant.ID), Principals: []string{t.ContractorLogin}, Key: s.tom.line})
	if err != nil {
		return err
	}
	open, err := s.client.login(ctx, s.tom, cert.Public, t.ContractorLogin, "hold")
	if err != nil {
		return err
	}
	s.say(t.Contractor, "works as %s", open.user)
	people, err := s.signIn(ctx, t.People)
	if err != nil {
		return err
	}
	d, err := s.sys.Leave(ctx, people, s.ids[t.Contractor])
	for tries := 0; errors.Is(err, audit.ErrUnrecorded) && tries < 10; tries++ { // a slow database: he is out, and it is not all on the record yet
		time.Sleep(time.Second)
		d, err = s.sys.Leave(ctx, people, s.ids[t.Contractor])
	}
	if err != nil || !d.Complete {
		return errors.Join(errors.New("the contractor has not left entirely"), err)
	}
	s.say(t.People, "says that %s leaves: %v", t.Contractor, d.Done)
	select {
	case <-open.done:
		s.say("the gateway", "cut %s's connection", t.Contractor)
	case <-time.After(5 * time.Second):
		return errors.New("the contractor's connection is still open")
	}
	if err := s.notAdmitted(ctx, t.Contractor, s.tom, cert.Public, t.ContractorLogin); err != nil {
		return err
	}
	if d := s.sys.JIT().Authorize(ctx, tom, "ssh:login", resource); d.Allowed {
		return errors.New("the contractor is still allowed")
	}
	return nil
}

// prove: the log verifies, and one access is a chain of events in it.
func (s *story) prove(ctx context.Context) error {
	if err := s.sys.Flush(ctx); err != nil {
		return err
	}
	files, err := os.OpenRoot(s.kept.path("log"))
	if err != nil {
		return err
	}
	defer files.Close()
	key, err := os.ReadFile(s.kept.path("log.pub"))
	if err != nil {
		return err
	}
	vkey := strings.TrimSpace(string(key))
	report, err := audit.Verify(ctx, files, vkey, nil)
	if err != nil {
		return err
	}
	s.say("an auditor", "verifies the log offline: %d events, root %s…", report.Checkpoint.Size, report.Checkpoint.Root.String()[:12])
	for _, kind := range slices.Sorted(maps.Keys(report.Kinds)) {
		fmt.Fprintf(s.out, "%31d %s\n", report.Kinds[kind], kind)
	}
	reader, err := merkle.NewReader(files, vkey)
	if err != nil {
		return err
	}
	entries, err := audit.Trace(reader, report.Checkpoint, s.cert.Event)
	if err != nil {
		return err
	}
	s.say("an auditor", "follows certificate %s back to its request:", s.cert.Serial)
	for _, e := range entries {
		proof, err := reader.Inclusion(report.Checkpoint, e.Index)
		if err != nil {
			return err
		}
		leaf, err := e.Event.Leaf()
		if err != nil {
			return err
		}
		if err := merkle.VerifyInclusion(report.Checkpoint, e.Index, leaf, proof); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%27s%3d  %-20s by %-8s %s  proven by %d hashes\n", "#", e.Index, e.Event.Kind,
			s.name(e.Event.Actor.ID), e.Event.Time.Local().Format("15:04:05.000"), len(proof))
	}
	if len(entries) < 2+len(s.grant.Votes)+2 {
		return fmt.Errorf("the access has only %d events", len(entries))
	}
	return nil
}

func (s *story) name(id identity.ID) string {
	if name, ok := s.names[id]; ok {
		return name
	}
	return "bailiwick"
}

// tamper: one byte is enough to be found out.
func (s *story) tamper(ctx context.Context) error {
	copied, err := os.MkdirTemp(s.client.dir, "copy-")
	if err != nil {
		return err
	}
	if err := os.CopyFS(copied, os.DirFS(s.kept.path("log"))); err != nil {
		return err
	}
	cp, err := s.sys.Log().Checkpoint()
	if err != nil {
		return err
	}
	entries := fmt.Sprintf("000.p/%d", cp.Size)
	if cp.Size >= 256 {
		entries = "000" // the first of several
	}
	file := filepath.Join(copied, "tile", "entries", entries)
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	files, err := os.OpenRoot(copied)
	if err != nil {
		return err
	}
	defer files.Close()
	_, err = audit.Verify(ctx, files, s.kept.log.VerifierKey(), nil)
	if err == nil {
		return errors.New("a flipped byte was not found")
	}
	s.say("an auditor", "finds the byte that somebody flipped in a copy: %v", err)
	return nil
}
