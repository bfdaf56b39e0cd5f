package audit_test

import (
	"context"
	"testing"

	"github.com/bailiwick-go/bailiwick/audit"
)

// A keeper without a key that will do makes no store.
func TestStoreNeedsSealKeys(t *testing.T) {
	for name, keeper := range map[string]audit.Keeper{
		"none": nil, "no keys": audit.SealKeys{}, "nil": audit.SealKeys(nil), "nil key": audit.SealKeys{nil}, "short": audit.SealKeys{sealKey[:31]},
		"one short": audit.SealKeys{sealKey, otherKey[:31]}, "no file": audit.KeyFile("/nowhere/keys"), "no name": audit.KeyFile(""),
		"silent": keeperFunc(func() ([][]byte, error) { return nil, errInjected }),
	} {
		if s, err := audit.NewStore(t.Context(), audit.StoreConfig{Ledger: newBooks(), Origin: origin, SealKeys: keeper}); err == nil || s != nil {
			t.Error(name)
		}
	}
}

type keeperFunc func() ([][]byte, error)

func (k keeperFunc) SealKeys(context.Context) ([][]byte, error) { return k() }
