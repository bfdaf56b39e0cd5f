//go:build !race

package enginetest

const manyGrants = 200_000
