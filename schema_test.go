package bailiwick_test

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"testing"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/internal/schema"
)

var update = flag.Bool("update", false, "write schema.json anew")

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	of := reflect.TypeFor[bailiwick.Policy]()
	want, err := schema.Of(of, "A policy of bailiwick")
	if err != nil {
		t.Fatal(err)
	}
	if unused, err := schema.Unused(of); err != nil || len(unused) > 0 {
		t.Errorf("there are words about nothing: %v %v", unused, err)
	}
	if *update {
		if err := os.WriteFile("schema.json", want, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(bailiwick.Schema(), want) {
		t.Error("schema.json is not up to date: go generate .")
	}
}
