package rekor_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sigstore/rekor/pkg/util"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A false1 answers as a Rekor of the first version does, but signs whatever its operator wants it to: a real one does not.
type false1 struct {
	*httptest.Server
	t     testing.TB
	key   *ecdsa.PrivateKey
	mu    sync.Mutex
	note  func(text string) string // is the text of a checkpoint, before it is signed
	shard string                   // the active one
	trees map[string]merkle.Log
	sign  func(cp *util.Checkpoint, set map[string]any)                       // what is signed, before it is
	lie   func(w http.ResponseWriter, r *http.Request, answer any) bool       // in place of an answer
	told  func(id string, e map[string]any, proof map[string]any) (as string) // of an answer, after it was signed
}

func aFalse1(t testing.TB) *false1 {
	f := &false1{t: t, key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), trees: map[string]merkle.Log{}}
	f.opens("1")
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// opens makes a shard the active one, which is empty if it is new.
func (f *false1) opens(shard string) {
	if f.trees[shard] == nil {
		_, key := newKey()
		f.trees[shard] = must(merkle.NewMemory("tree", key))
	}
	f.shard = shard
}

// grow adds entries of others to the active shard.
func (f *false1) grow(n int) {
	must(f.trees[f.shard].Append(context.Background(), make([][]byte, n)))
}

func (f *false1) origin() string { return "rekor.local - " + f.shard }

func (f *false1) trust(shards ...string) (text string) {
	for _, s := range shards {
		text += "rekor1 " + pkix(&f.key.PublicKey) + " rekor.local - " + s + "\n"
	}
	return text
}

func (f *false1) reader(shard string) (*merkle.Reader, merkle.Checkpoint) {
	r := must(merkle.NewReader(f.trees[shard], f.trees[shard].VerifierKey()))
	return r, must(r.Checkpoint())
}

func (f *false1) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var answer any
	status := http.StatusOK
	switch path := r.URL.Path; {
	case r.Method == http.MethodPost:
		var entry map[string]any
		json.NewDecoder(r.Body).Decode(&entry)
		body := must(json.Marshal(entry)) // in the order of its keys
		status = http.StatusCreated
		if f.has(body) >= 0 {
			status = http.StatusConflict
			w.Header().Set("Location", "/api/v1/log/entries/"+merkle.LeafHash(body).String())
			answer = map[string]any{"code": status, "message": "there"}
			break
		}
		must(f.trees[f.shard].Append(r.Context(), [][]byte{body}))
		answer = f.entry(body)
	case strings.HasPrefix(path, "/api/v1/log/entries/"):
		reader, cp := f.reader(f.shard)
		for leaf, err := range reader.Entries(cp, 0, cp.Size) {
			if err == nil && strings.HasSuffix(path, merkle.LeafHash(leaf).String()) {
				answer = f.entry(leaf)
			}
		}
	case path == "/api/v1/log/proof":
		q := r.URL.Query()
		reader, cp := f.reader(q.Get("treeID"))
		from, to := must(strconv.ParseUint(q.Get("firstSize"), 10, 64)), must(strconv.ParseUint(q.Get("lastSize"), 10, 64))
		tree := must(reader.Tree(cp))
		was, now := must(tree.Earlier(min(from, cp.Size))), must(tree.Earlier(min(to, cp.Size)))
		hashes := []string{}
		for _, h := range must(must(reader.Tree(now)).Consistency(was)) {
			hashes = append(hashes, h.String())
		}
		answer = map[string]any{"hashes": hashes, "rootHash": now.Root.String()}
	}
	if answer == nil {
		status = http.StatusNotFound
		answer = map[string]any{"code": status, "message": "no"}
	}
	if f.lie != nil && f.lie(w, r, answer) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(must(json.Marshal(answer)))
}

// has returns where a leaf is, or -1.
func (f *false1) has(body []byte) int64 {
	reader, cp := f.reader(f.shard)
	n := int64(0)
	for leaf := range reader.Entries(cp, 0, cp.Size) {
		if string(leaf) == string(body) {
			return n
		}
		n++
	}
	return -1
}

// entry returns a leaf with what is signed of it.
func (f *false1) entry(body []byte) any {
	reader, cp := f.reader(f.shard)
	at := f.has(body)
	hashes := []string{}
	for _, h := range must(reader.Inclusion(cp, uint64(at))) {
		hashes = append(hashes, h.String())
	}
	id := sha256.Sum256(must(x509.MarshalPKIXPublicKey(&f.key.PublicKey)))
	set := map[string]any{"body": base64.StdEncoding.EncodeToString(body), "integratedTime": int64(1796081354), "logIndex": at, "logID": hex.EncodeToString(id[:])}
	of := util.Checkpoint{Origin: f.origin(), Size: cp.Size, Hash: cp.Root[:]}
	if f.sign != nil {
		f.sign(&of, set)
	}
	signer := must(signature.LoadSigner(f.key, crypto.SHA256))
	note := must(util.CreateSignedCheckpoint(of))
	if f.note != nil {
		note.Note = f.note(note.Note)
	}
	must(note.Sign("rekor.local", signer, options.WithContext(context.Background())))
	digest := sha256.Sum256(must(json.Marshal(set)))
	signed := must(ecdsa.SignASN1(rand.Reader, f.key, digest[:]))
	proof := map[string]any{"checkpoint": string(must(note.MarshalText())), "hashes": hashes, "logIndex": at, "rootHash": cp.Root.String(), "treeSize": of.Size}
	set["verification"] = map[string]any{"inclusionProof": proof, "signedEntryTimestamp": base64.StdEncoding.EncodeToString(signed)}
	as := fmt.Sprintf("%016x", 1) + merkle.LeafHash(body).String()
	if f.told != nil {
		as = f.told(as, set, proof)
	}
	return map[string]any{as: set}
}

func pemOf(public any) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(public))})
}
