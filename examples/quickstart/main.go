// Quickstart tells the story of one evening: one privileged access, from request to proof, for a person and for an agent that acts for
// her, with real SSH logins. It exits with an error if any step does not go as promised.
//
//	go run ./examples/quickstart [-policy FILE] [-org FILE] [-dir DIR] [-pub KEY.pub]
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/bailiwick-go/bailiwick"
)

var (
	//go:embed policy.json
	defaultPolicy []byte
	//go:embed org.json
	defaultOrg []byte
)

type options struct {
	policy, org, dir, pub string
	tonight               time.Duration // how long the engineer's grant lasts
}

func main() {
	o := options{tonight: 10 * time.Second}
	flag.StringVar(&o.policy, "policy", "", "the policy `file`; a built-in one by default")
	flag.StringVar(&o.org, "org", "", "the organisation `file`; a built-in one by default")
	flag.StringVar(&o.dir, "dir", "", "the `directory` to keep the log, its key and both files in; by default one that is removed")
	flag.StringVar(&o.pub, "pub", "", "the `file` with your SSH public key; by default a fresh one")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run prepares the directory and tells the story.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	policyText, orgText := defaultPolicy, defaultOrg
	if o.policy != "" {
		if policyText, err = os.ReadFile(o.policy); err != nil {
			return err
		}
	}
	if o.org != "" {
		if orgText, err = os.ReadFile(o.org); err != nil {
			return err
		}
	}
	policy, err := bailiwick.ParsePolicy(policyText)
	if err != nil {
		return err
	}
	people, err := parseOrg(orgText)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "bailiwick-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	dir := o.dir
	if dir == "" {
		dir = filepath.Join(scratch, "state")
	}
	if _, err := os.Stat(filepath.Join(dir, "log")); err == nil {
		return fmt.Errorf("%s has a log already, and this example keeps its state in memory: name another directory", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"policy.json": policyText, "org.json": orgText} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	s, err := newStory(ctx, dir, scratch, policy, people, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	s.tonight = o.tonight
	if s.key, err = newKey(scratch, "id_engineer"); err == nil && o.pub != "" {
		s.key, err = userKey(o.pub)
	}
	if err != nil {
		return err
	}
	if err := s.tell(ctx); err != nil {
		return err
	}
	if o.dir != "" {
		s.say("the log", "stays in %s; its key is in log.pub", filepath.Join(dir, "log"))
	}
	return nil
}
