package witness

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// The kinds of a server's records and events.
const (
	SeenKind audit.Kind = "witness.seen" // of each log the last checkpoint
	ForkKind audit.Kind = "witness.fork" // two checkpoints of a log, of one size and both signed, that differ

	CosignedKind = "witness.cosigned" // with the fields "log", "size" and "root"
	ForkedKind   = "witness.forked"   // with the same fields, of the second of the two
)

// A ServerConfig says who witnesses what. All of it is required.
type ServerConfig struct {
	Name  string          // of the witness, a URL without a scheme
	Keys  []crypto.Signer // each signs: Ed25519 or ML-DSA-44 ([filippo.io/mldsa]), one of each at most, and for nothing but this
	Logs  []string        // verifier keys of the logs
	Store *audit.Store    // to which its log was told ([audit.Store.Recall]): one that was not takes a database that was set back for the truth
}

// A Server is a witness (c2sp.org/tlog-witness): POST add-checkpoint, and GET <SHA-256 of an origin>/checkpoint, below whatever prefix was taken
// off. Whoever reaches it needs no other leave than a log's signature.
type Server struct {
	store *audit.Store
	keys  []cosigner
	logs  map[string]string // by origin
	seen  audit.Table[seen]
	forks audit.Table[fork]
	mux   *http.ServeMux
}

// seen is the last checkpoint of a log that was cosigned.
type seen struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
	Note   string `json:"note"` // with the log's signature and the cosignatures
}

type fork struct {
	Seen  string `json:"seen"` // notes
	Other string `json:"other"`
}

// NewServer returns a witness.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Store == nil || len(cfg.Keys) == 0 || len(cfg.Logs) == 0 {
		return nil, errors.New("witness: a server without a store, a key or a log")
	}
	s := &Server{store: cfg.Store, logs: map[string]string{}, mux: http.NewServeMux(),
		seen: audit.NewTable[seen](cfg.Store, SeenKind, nil), forks: audit.NewTable[fork](cfg.Store, ForkKind, nil)}
	types := map[byte]bool{}
	for _, k := range cfg.Keys {
		c, err := newCosigner(cfg.Name, k)
		if err != nil {
			return nil, err
		}
		if types[c.alg] {
			return nil, errors.New("witness: two keys of one type under one name")
		}
		types[c.alg] = true
		s.keys = append(s.keys, c)
	}
	for _, vkey := range cfg.Logs {
		origin, _, _, err := parseVKey(vkey)
		if err == nil {
			_, err = merkle.NewReader(nothing{}, vkey)
		}
		if err == nil && s.logs[origin] != "" {
			err = fmt.Errorf("witness: two keys of log %s", origin)
		}
		if err != nil {
			return nil, err
		}
		s.logs[origin] = vkey
	}
	s.mux.HandleFunc("POST /add-checkpoint", s.add)
	s.mux.HandleFunc("GET /{log}/checkpoint", s.last)
	return s, nil
}

type nothing struct{}

func (nothing) ReadFile(string) ([]byte, error) { return nil, errors.New("nothing") }

// Keys returns the verifier keys of the witness.
func (s *Server) Keys() (keys []Key) {
	for _, c := range s.keys {
		keys = append(keys, c.Key)
	}
	return keys
}

// ServeHTTP answers as a witness.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// A refusal is an answer that is no cosignature.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, text string) error { return &refusal{status, text} }

func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNote))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	lines, err := s.cosign(r.Context(), string(body))
	var no *refusal
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, lines)
	case !errors.As(err, &no): // what is wrong here is nobody else's business
		http.Error(w, "not recorded", http.StatusInternalServerError)
	case no.status == http.StatusConflict:
		w.Header().Set("Content-Type", sizeType)
		w.WriteHeader(no.status)
		io.WriteString(w, no.text+"\n")
	default:
		http.Error(w, no.text, no.status)
	}
}

// parseAdd reads the body of a request, whoever signed what is in it.
func parseAdd(body string) (old uint64, proof merkle.Proof, signed string, err error) {
	head, signed, ok := strings.Cut(body, "\n\n")
	lines := strings.Split(head, "\n")
	text, isOld := strings.CutPrefix(lines[0], "old ")
	old, err = strconv.ParseUint(text, 10, 64)
	if !ok || !isOld || err != nil || strconv.FormatUint(old, 10) != text || len(lines) > 1+maxProof {
		return 0, nil, "", errors.New("malformed")
	}
	for _, line := range lines[1:] {
		b, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(b) != len(merkle.Hash{}) || base64.StdEncoding.EncodeToString(b) != line {
			return 0, nil, "", errors.New("malformed hash")
		}
		proof = append(proof, merkle.Hash(b))
	}
	return old, proof, signed, nil
}

// cosign decides one request, and returns the signature lines. An error that is no refusal is one of this side.
func (s *Server) cosign(ctx context.Context, body string) (lines string, err error) {
	old, proof, signed, err := parseAdd(body)
	if err != nil {
		return "", refuse(http.StatusBadRequest, err.Error())
	}
	text, _, _ := strings.Cut(signed, "\n\n")
	origin, rest, _ := strings.Cut(text, "\n")
	vkey := s.logs[origin]
	if vkey == "" {
		return "", refuse(http.StatusNotFound, "unknown log")
	}
	n, err := note.Open([]byte(signed), note.VerifierList(logVerifier(vkey)))
	if err != nil {
		return "", refuse(http.StatusForbidden, "not signed by the log")
	}
	cp, err := merkle.ParseCheckpoint([]byte(signed), vkey)
	switch {
	case err != nil && strings.HasPrefix(rest, "0\n"):
		return "", refuse(http.StatusUnprocessableEntity, "another root than that of the empty tree")
	case err != nil:
		return "", refuse(http.StatusBadRequest, "no checkpoint")
	case old > cp.Size:
		return "", refuse(http.StatusBadRequest, "the old size is larger")
	}
	id := idOf(origin)
	row, before, err := s.load(ctx, id, origin)
	if err != nil {
		return "", err
	}
	if before.Size != old {
		return "", refuse(http.StatusConflict, strconv.FormatUint(before.Size, 10))
	}
	n.UnverifiedSigs = nil // anybody can have written them
	if cp.Note, err = note.Sign(n); err != nil {
		return "", err
	}
	if err := merkle.VerifyConsistency(before, cp, proof); err != nil {
		if old == cp.Size && before.Root != cp.Root { // whatever the proof is
			err = s.keepFork(ctx, row.Value.Note, cp)
			if err != nil {
				return "", err
			}
		}
		return "", refuse(http.StatusUnprocessableEntity, "not consistent with what was seen")
	}
	lines, err = s.sign(n)
	if err != nil {
		return "", err
	}
	if row.Version > 0 && before.Size == cp.Size {
		err = s.store.Confirm(ctx, s.seen.Read(row))
	} else {
		row.ID, row.Value = id, seen{origin, cp.Size, cp.Root.String(), string(cp.Note) + lines}
		ev := s.store.NewEvent(CosignedKind, audit.Actor{}, audit.EventID{})
		ev.Fields = fields(cp)
		err = s.store.Commit(ctx, audit.Tx{Writes: []audit.Write{s.seen.Put(row, ev)}})
	}
	if errors.Is(err, audit.ErrConflict) { // another request was faster
		if _, now, again := s.load(ctx, id, origin); again == nil && now.Size != old {
			return "", refuse(http.StatusConflict, strconv.FormatUint(now.Size, 10))
		}
	}
	if err != nil {
		return "", err
	}
	return lines, nil
}

func fields(cp merkle.Checkpoint) map[string]string {
	return map[string]string{"log": cp.Origin, "size": strconv.FormatUint(cp.Size, 10), "root": cp.Root.String()}
}

// sign returns the lines of all keys.
func (s *Server) sign(n *note.Note) (lines string, err error) {
	now := uint64(s.store.Now().Unix())
	if s.store.Jumped() { // nobody would believe the time
		return "", audit.ErrClock
	}
	for _, k := range s.keys {
		k.at = now
		signed, err := note.Sign(&note.Note{Text: n.Text}, k)
		if err != nil {
			return "", err
		}
		lines += string(signed[len(n.Text)+1:])
	}
	return lines, nil
}

// load returns what was seen of a log, which is of size zero if nothing was.
func (s *Server) load(ctx context.Context, id audit.ID, origin string) (row audit.Row[seen], cp merkle.Checkpoint, err error) {
	row, err = s.seen.Load(ctx, id)
	if errors.Is(err, audit.ErrNotFound) && !errors.Is(err, audit.ErrSeal) {
		return audit.Row[seen]{}, merkle.Checkpoint{Origin: origin, Root: sha256.Sum256(nil)}, nil
	}
	if err != nil {
		return row, cp, err
	}
	root, err := hex.DecodeString(row.Value.Root)
	if err != nil || len(root) != len(cp.Root) || row.Value.Origin != origin {
		return row, cp, fmt.Errorf("witness: what was seen of %s is another's", origin)
	}
	return row, merkle.Checkpoint{Origin: origin, Size: row.Value.Size, Root: merkle.Hash(root)}, nil
}

// keepFork records the proof that a log has two histories, once.
func (s *Server) keepFork(ctx context.Context, seen string, other merkle.Checkpoint) error {
	ev := s.store.NewEvent(ForkedKind, audit.Actor{}, audit.EventID{})
	ev.Outcome, ev.Fields = audit.Denied, fields(other)
	row := audit.Row[fork]{ID: idOf(fmt.Sprint(other.Origin, "\n", other.Size, "\n", other.Root)), Value: fork{seen, string(other.Note)}}
	err := s.store.Commit(ctx, audit.Tx{Writes: []audit.Write{s.forks.Put(row, ev)}})
	if errors.Is(err, audit.ErrConflict) {
		return nil
	}
	return err
}

func idOf(s string) audit.ID {
	h := sha256.Sum256([]byte(s))
	return audit.ID(hex.EncodeToString(h[:]))
}

// logVerifier returns the verifier of a key that was checked.
func logVerifier(vkey string) note.Verifier {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return Key{}
	}
	return v
}

func (s *Server) last(w http.ResponseWriter, r *http.Request) {
	for origin := range s.logs {
		if string(idOf(origin)) != r.PathValue("log") {
			continue
		}
		row, _, err := s.load(r.Context(), idOf(origin), origin)
		if err != nil {
			http.Error(w, "not readable", http.StatusInternalServerError)
			return
		}
		if row.Version > 0 {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			io.WriteString(w, row.Value.Note)
			return
		}
	}
	http.Error(w, "nothing was seen of it", http.StatusNotFound)
}
