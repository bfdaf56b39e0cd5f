package lifecycle_test

import (
	"errors"
	"fmt"

	"github.com/bailiwick-go/bailiwick/lifecycle"
)

// The table says what may happen, and what is then to be done.
func ExampleNext() {
	state := lifecycle.Pending
	for _, event := range []lifecycle.Event{lifecycle.Activate, lifecycle.Suspend, lifecycle.Leave, lifecycle.Resume} {
		next, err := lifecycle.Next(state, event)
		if refused, ok := errors.AsType[*lifecycle.TransitionError](err); ok {
			fmt.Println(refused)
			continue
		}
		fmt.Println(state, "->", next.To, next.Effects)
		state = next.To
	}
	// Output:
	// pending -> active []
	// active -> suspended [end_sessions revoke_credentials]
	// suspended -> leaving [end_sessions revoke_credentials end_grants end_delegations hand_over]
	// lifecycle: "resume" cannot happen to what is "leaving"
}
