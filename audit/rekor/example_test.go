package rekor_test

import (
	"fmt"
	"os"

	"github.com/bailiwick-go/bailiwick/audit/rekor"
)

// A receipt that was kept is verified offline, by keys that were pinned when there was no quarrel.
func ExampleTrust_Verify() {
	text, _ := os.ReadFile("testdata/v1.trust")
	trust, err := rekor.ParseTrust(text)
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, _ := os.ReadFile("testdata/v1.receipt")
	anchored, err := trust.Verify(receipt)
	fmt.Println(anchored.Checkpoint.Origin, !anchored.Time.IsZero(), err)

	receipt[len(receipt)/2] ^= 1
	_, err = trust.Verify(receipt)
	fmt.Println(err != nil)
	// Output:
	// secret.example/gateway true <nil>
	// true
}
