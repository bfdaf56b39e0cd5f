package rbac_test

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"testing"

	"github.com/bailiwick-go/bailiwick/internal/schema"
	"github.com/bailiwick-go/bailiwick/rbac"
)

var update = flag.Bool("update", false, "write schema.json anew")

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	want, err := schema.Of(reflect.TypeFor[rbac.Policy](), "A policy of package rbac")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", want, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(rbac.Schema(), want) {
		t.Error("schema.json is not up to date: go generate .")
	}
}
