//go:build race

package audit_test

const raced = true // everything takes several times as long
