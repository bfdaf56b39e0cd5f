//go:build race

package enginetest

const raced = true // a process takes several times as long, and starts more slowly
