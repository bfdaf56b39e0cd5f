//go:build race

package merkle

const raced = true // everything takes several times as long
