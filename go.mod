module github.com/bailiwick-go/bailiwick

go 1.26.0

require (
	filippo.io/mldsa v1.0.0 // for audit/witness: cosignatures by ML-DSA-44, which C2SP recommends and the standard library of Go 1.26 lacks; it requires nothing itself
	github.com/google/uuid v1.6.0
	golang.org/x/crypto v0.58.0
	golang.org/x/mod v0.42.0
	golang.org/x/text v0.43.0
	pgregory.net/rapid v1.3.0
)

require golang.org/x/sys v0.49.0 // indirect
