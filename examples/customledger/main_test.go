package main

func Example() {
	main()
	// Output:
	// before: false
	// the grant is active, the act allowed: true
	// the log verifies, with 1 act in it; the ledger differs from it in 0 objects
	// the host's own items: 1
}
