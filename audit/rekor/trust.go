package rekor

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
	"github.com/bailiwick-go/bailiwick/audit/witness"
)

// A Trust has the keys by which receipts are believed. The zero Trust believes none.
type Trust struct {
	logs []string // verifier keys
	keys []ed25519.PublicKey
	v1   []v1Key
	v2   witness.Policy
}

// v1Key is the key of a log of the first version: of one shard, for that is what an origin names.
type v1Key struct {
	origin   string
	id       string // SHA-256 of the key in DER, in hexadecimal
	verifier signature.Verifier
}

// ParseTrust reads what receipts are believed by, one thing a line; empty lines, and those that begin with #, say nothing.
//
//	log <verifier key>                    whose checkpoints are anchored
//	key <Ed25519 key>                     who has signed them for the anchor
//	rekor1 <key> <origin>                 a log of the first version, as "rekor.sigstore.dev - 1193050959916656506"
//	rekor2 log <verifier key>             logs of the second version, and their witnesses:
//	rekor2 witness <name> <verifier key>  what stands after rekor2 is a [witness.Policy]
//	rekor2 quorum <name>|none
//
// Keys other than verifier keys are DER (PKIX), in base64. There is at least one log, one key, and one rekor1 or rekor2. Everything else is an error.
func ParseTrust(text []byte) (Trust, error) {
	var t Trust
	var policy strings.Builder
	for i, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch {
		case line == "" || line[0] == '#':
		case word == "log":
			t.logs, err = append(t.logs, rest), checkVKey(rest)
		case word == "key":
			var key crypto.PublicKey
			if key, err = parseKey(rest); err == nil {
				public, ok := key.(ed25519.PublicKey)
				if t.keys = append(t.keys, public); !ok {
					err = fmt.Errorf("a key of type %T is no Ed25519 key", key)
				}
			}
		case word == "rekor1":
			err = t.addV1(rest)
		case word == "rekor2":
			fmt.Fprintln(&policy, rest)
		default:
			err = fmt.Errorf("%.80q says nothing", word)
		}
		if err != nil {
			return Trust{}, fmt.Errorf("rekor: trust: line %d: %w", i+1, err)
		}
	}
	if policy.Len() > 0 {
		var err error
		if t.v2, err = witness.ParsePolicy([]byte(policy.String())); err != nil {
			return Trust{}, fmt.Errorf("rekor: trust: %w", err)
		}
		if !strings.Contains("\n"+policy.String(), "\nlog ") { // its witnesses may cosign logs of anybody
			return Trust{}, errors.New("rekor: trust: no rekor2 log")
		}
	}
	if len(t.logs) == 0 || len(t.keys) == 0 || len(t.v1) == 0 && policy.Len() == 0 {
		return Trust{}, errors.New("rekor: trust: it takes a log, a key and a rekor1 or rekor2")
	}
	return t, nil
}

// nothing is the files of no log.
type nothing struct{}

func (nothing) ReadFile(string) ([]byte, error) { return nil, errors.New("nothing") }

func checkVKey(vkey string) error {
	_, err := merkle.NewReader(nothing{}, vkey)
	return err
}

func parseKey(text string) (crypto.PublicKey, error) {
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(der) != text { // it reads over the ends of lines
		return nil, errors.New("a key is not base64")
	}
	return x509.ParsePKIXPublicKey(der)
}

func (t *Trust) addV1(text string) error {
	text, origin, _ := strings.Cut(text, " ")
	key, err := parseKey(text)
	if err != nil {
		return err
	}
	host, tree, _ := strings.Cut(origin, " - ")
	if n, _ := strconv.ParseUint(tree, 10, 63); strconv.FormatUint(n, 10) != tree || host == "" ||
		strings.ContainsFunc(host, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) || !utf8.ValidString(host) {
		return fmt.Errorf("%.80q is no origin of a log of the first version", origin)
	}
	if slices.ContainsFunc(t.v1, func(l v1Key) bool { return l.origin == origin }) {
		return fmt.Errorf("two keys of %.80q", origin)
	}
	l := v1Key{origin: origin}
	if l.verifier, err = signature.LoadVerifier(key, crypto.SHA256); err != nil {
		return err
	}
	if l.id, err = logID(key); err != nil {
		return err
	}
	t.v1 = append(t.v1, l)
	return nil
}

// An Anchored says what a receipt proves.
type Anchored struct {
	Checkpoint merkle.Checkpoint // what was anchored
	Log        string            // the origin of where
	Index      uint64            // in its tree
	Size       uint64            // of its tree then
	// Time is when it was there at the latest: by the word of a log of the first version, or by that of the witnesses who cosigned one of the second, the last of
	// them. Zero if nobody said.
	Time time.Time
}

// Verify checks a saved receipt, offline: that a checkpoint of a log that is trusted was signed by a key that is, and is in a log that is, as its signed checkpoint
// proves, with the cosignatures that the policy demands. An error wraps [ErrReceipt].
func (t Trust) Verify(saved []byte) (a Anchored, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = Anchored{}, fmt.Errorf("%w: panic: %v", ErrReceipt, p)
		}
	}()
	r, err := parseReceipt(saved)
	if err != nil {
		return Anchored{}, err
	}
	a, _, err = t.verify(r)
	return a, err
}

func (t *Trust) knows(key ed25519.PublicKey) bool {
	return slices.ContainsFunc(t.keys, func(k ed25519.PublicKey) bool { return k.Equal(key) })
}

// verify also returns the log's checkpoint.
func (t *Trust) verify(r receipt) (a Anchored, of string, err error) {
	e := r.entry()
	if err := e.verify(); err != nil {
		return a, "", err
	}
	if !t.knows(e.Key) {
		return a, "", fmt.Errorf("%w: it was signed by a key that is not trusted", ErrReceipt)
	}
	origin, _, _ := strings.Cut(string(r.Checkpoint), "\n")
	var ours merkle.Checkpoint
	err = fmt.Errorf("log %.80q is not trusted", origin)
	for _, vkey := range t.logs {
		if name, _, _ := strings.Cut(vkey, "+"); name == origin {
			if ours, err = merkle.ParseCheckpoint(r.Checkpoint, vkey); err == nil {
				break
			}
		}
	}
	if err != nil {
		return a, "", fmt.Errorf("%w: what was anchored: %w", ErrReceipt, err)
	}
	if r.V1 != nil {
		a, err = t.verifyV1(e, r.V1)
		of = r.V1.Note
	} else {
		a, of, err = t.verifyV2(e, r.V2)
	}
	if err != nil {
		return Anchored{}, "", err
	}
	a.Checkpoint = ours
	return a, of, nil
}
