package identity

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of attributes.
const (
	maxAttributes = 32
	maxAttribute  = 512 // bytes of a name, and of a value
)

// takenAttributes are what the members of subjects and resources are called where policies compare them.
var takenAttributes = []string{"id", "kind", "name", "sensitivity", "owner", "ownerGroup"}

// CheckAttributes reports what is wrong with the attributes of an identity, or the claims of an [Assertion]. There are at most 32. A name is of letters,
// digits, _ and -, and none of id, kind, name, sensitivity, owner and ownerGroup. A value is valid UTF-8 of 1 to 512 bytes; the error does not hold it.
func CheckAttributes(attributes map[string]string) error {
	if len(attributes) > maxAttributes {
		return fmt.Errorf("more than %d attributes", maxAttributes)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		v := attributes[name]
		switch {
		case name == "" || len(name) > maxAttribute || strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
		}):
			return errors.New("the name of an attribute is of letters, digits, _ and -")
		case slices.Contains(takenAttributes, name):
			return fmt.Errorf("attribute %q: the name is taken", name)
		case v == "" || len(v) > maxAttribute || !utf8.ValidString(v):
			return fmt.Errorf("attribute %q: its value is not valid UTF-8 of 1 to %d bytes", name, maxAttribute)
		}
	}
	return nil
}
