//go:build !race

package enginetest

const (
	manyGrants    = 1_000_000
	manyDecisions = 1_000_000
)
