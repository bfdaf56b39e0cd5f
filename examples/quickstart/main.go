// Quickstart tells the story of one evening: one privileged access, from request to proof, for a person and for an agent that acts for
// her, with real SSH logins. It exits with an error if any step does not go as promised.
//
//	go run ./examples/quickstart [-policy FILE] [-org FILE] [-dir DIR [-db DSN]] [-pub KEY.pub]
//
// With -dir, the log, the keys and the state stay in the directory, and the next evening on it goes on where the last one stopped, or was
// stopped: what was left open is ended, and who has left is gone. The state is in SQLite, in the file state.db; with -db it is in the schema
// "bailiwick_quickstart" of a PostgreSQL database, to be named at each evening. The first evening keeps the policy and the organisation in the
// directory for those that follow, which cannot have another policy.
package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
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
	policy, org, dir, db, pub string
	ssh                       string        // the OpenSSH client; empty for x/crypto/ssh
	tonight                   time.Duration // how long the engineer's grant lasts
}

func main() {
	o := options{tonight: 10 * time.Second}
	o.ssh, _ = exec.LookPath("ssh")
	flag.StringVar(&o.policy, "policy", "", "the policy `file`; by default the directory's, or a built-in one")
	flag.StringVar(&o.org, "org", "", "the organisation `file`; by default the directory's, or a built-in one")
	flag.StringVar(&o.dir, "dir", "", "the `directory` to keep everything in, and to go on in; by default one that is removed")
	flag.StringVar(&o.db, "db", "", "the data source `name` of a PostgreSQL database to keep the state in; by default it is in the directory, in SQLite")
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
	if o.db != "" && o.dir == "" {
		return errors.New("-db needs -dir: the log and the keys lie there, and without them the state cannot be gone on with")
	}
	scratch, err := os.MkdirTemp("", "bailiwick-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	dir := cmp.Or(o.dir, filepath.Join(scratch, "state"))
	texts := map[string][]byte{"policy.json": defaultPolicy, "org.json": defaultOrg}
	for name, file := range map[string]string{"policy.json": o.policy, "org.json": o.org} {
		text, err := os.ReadFile(cmp.Or(file, filepath.Join(dir, name)))
		if err == nil {
			texts[name] = text
		} else if file != "" || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	policy, err := bailiwick.ParsePolicy(texts["policy.json"])
	if err != nil {
		return err
	}
	people, err := parseOrg(texts["org.json"])
	if err != nil {
		return err
	}
	kept, err := openState(ctx, dir, o.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.close()) }()
	if kept.size == 0 {
		for name, text := range texts {
			if err := kept.keep(name, text); err != nil {
				return err
			}
		}
	}
	s, err := newStory(ctx, kept, scratch, o.ssh, policy, people, out)
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
		s.say("everything", "stays in %s, and the next evening goes on there; the log's key is in log.pub", dir)
	}
	return nil
}
