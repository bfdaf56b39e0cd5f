package tessera

import (
	"fmt"
	"sync"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// openNames has the name of every storage that this process has open. Two appenders of one process that share a storage need not notice each other.
var openNames names

type names struct {
	mu   sync.Mutex
	open map[string]bool
}

// take returns what gives the name back.
func (n *names) take(name string) (func() error, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open[name] {
		return nil, fmt.Errorf("%w: %s", merkle.ErrLocked, name)
	}
	if n.open == nil {
		n.open = map[string]bool{}
	}
	n.open[name] = true
	return func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.open, name)
		return nil
	}, nil
}
