//go:build race

package enginetest

// The race detector makes SQLite, which is Go, too slow for more.
const manyGrants = 50_000
