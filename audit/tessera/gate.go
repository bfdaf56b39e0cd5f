package tessera

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A gate is the signer that Tessera has. It signs checkpoints of the trees that it was told of and no others, so that nothing that Tessera finds in its
// storage, or loses from it, becomes a checkpoint of the log: not a tree that another made, nor one with a part of an Append. The zero gate signs nothing.
type gate struct {
	note.Signer

	mu   sync.Mutex
	may  []string // the texts
	last string   // that was signed
	at   time.Time
}

func (g *gate) open(texts ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.may = texts
}

// Sign is called by Tessera, in goroutines of its own, where a panic would end the process.
func (g *gate) Sign(msg []byte) (sig []byte, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.may, string(msg)) {
		return nil, errors.New("not a tree that the log may sign now")
	}
	defer func() {
		if p := recover(); p != nil {
			sig, err = nil, fmt.Errorf("signing: panic of a %T", p) // which may hold the key
		}
	}()
	if sig, err = g.Signer.Sign(msg); err == nil {
		g.last, g.at = string(msg), time.Now()
	}
	return sig, err
}

// signed returns what was signed last, and when.
func (g *gate) signed() (text string, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last, g.at
}
