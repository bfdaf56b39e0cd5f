package merkle

import "golang.org/x/mod/sumdb/tlog"

func hashes(p Proof) []tlog.Hash {
	out := make([]tlog.Hash, len(p))
	for i, d := range p {
		out[i] = tlog.Hash(d)
	}
	return out
}
