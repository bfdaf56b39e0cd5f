//go:build race

package enginetest

// The race detector makes SQLite, which is Go, too slow for more, and a decision.
const (
	manyGrants    = 50_000
	manyDecisions = 50_000
)
