package enginetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// TestRewinds is the table in the documentation of package audit: the machine's administrator sets back the database, the log, both, or both with the
// log's mark, while nothing runs, to what they were before maya's grant was revoked; and somebody else has a checkpoint of after.
func TestRewinds(t *testing.T) {
	for _, engine := range engines {
		for _, c := range []struct {
			back   string // what is set back
			marked bool   // whether the log has a mark
			opens  error  // why the log does not open
			goesOn error  // why the system does not start, or moves no event to the log
			finds  error  // what whoever has the later checkpoint finds
		}{
			{back: "", marked: true},
			{back: "database", marked: true, goesOn: audit.ErrRewound},
			{back: "log", marked: true, opens: merkle.ErrRewound},
			{back: "database log", marked: true, opens: merkle.ErrRewound},
			{back: "database log mark", marked: true, finds: merkle.ErrRewound},
			{back: "database", goesOn: audit.ErrRewound},
			{back: "log", goesOn: audit.ErrRewound, finds: merkle.ErrRewound},
			{back: "database log", finds: merkle.ErrRewound},
		} {
			name := engine + "/" + c.back
			if !c.marked {
				name += " without a mark"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newAdminWorld(t, engine, adminOrigin, 7)
				w.close()
				w.must(w.log.Close())
				if c.marked {
					w.mark = filepath.Join(t.TempDir(), "mark")
					signed, err := os.ReadFile(filepath.Join(w.logDir, "checkpoint"))
					w.must(errors.Join(err, os.WriteFile(w.mark, signed, 0o600)))
				}
				w.openLog(adminOrigin)
				w.must(w.start())
				w.close()
				w.must(w.log.Close())
				keep := map[string]string{"log": w.logDir, "mark": w.mark}
				w.must(os.CopyFS(w.logDir+".kept", os.DirFS(w.logDir)))
				if c.marked {
					data, err := os.ReadFile(w.mark)
					w.must(errors.Join(err, os.WriteFile(w.mark+".kept", data, 0o600)))
				}
				w.copyAll()

				w.openLog(adminOrigin)
				w.must(w.start())
				revokes(w)
				w.flush()
				mirror := filepath.Join(t.TempDir(), "mirror")
				seen, err := merkle.Mirror(w.ctx, w.log, w.log.VerifierKey(), mirror)
				w.must(err)
				w.close()
				w.must(w.log.Close())

				for _, what := range strings.Fields(c.back) {
					if what == "database" {
						w.restoreAll()
						continue
					}
					w.must(errors.Join(os.RemoveAll(keep[what]), os.Rename(keep[what]+".kept", keep[what])))
				}
				if err := w.tryLog(adminOrigin); !errors.Is(err, c.opens) {
					t.Fatalf("opening the log: %v", err)
				} else if err != nil {
					return
				}
				if err = w.start(); err == nil {
					w.active("lena", "reader")
					err = w.sys.Flush(w.ctx)
				}
				if !errors.Is(err, c.goesOn) {
					t.Errorf("going on: %v", err)
				}
				now, err := merkle.Mirror(w.ctx, w.log, w.log.VerifierKey(), mirror)
				if !errors.Is(err, c.finds) {
					t.Errorf("whoever saw %d entries finds %d: %v", seen.Size, now.Size, err)
				}
			})
		}
	}
}
