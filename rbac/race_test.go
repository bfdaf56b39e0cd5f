//go:build race

package rbac_test

// raced is whether the race detector is on, with which deciding takes ten times as long and finds nothing new.
const raced = true
