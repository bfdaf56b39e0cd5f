// Package rekor anchors the checkpoints of a log in Sigstore's Rekor, and believes only receipts that prove it.
package rekor
