package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// Limits of a policy.
const (
	maxPolicy    = 1 << 20 // bytes
	maxNamed     = 256     // witnesses and groups; and logs
	maxWitnesses = 64      // all of which can sign one checkpoint, whatever their keys and names
	maxNote      = 1 << 18 // bytes of a checkpoint
)

// A Witness is one that a policy knows.
type Witness struct {
	Name string // in the policy
	Key  Key
	URL  string // its submission prefix; "" if it is not to be asked
}

// A Policy says whose signatures make a checkpoint acceptable. The zero Policy accepts nothing.
type Policy struct {
	logs      []string // verifier keys
	witnesses []Witness
	groups    []group // after the witnesses, each after its members
	quorum    int     // of witnesses and groups, from 1; 0 for none
}

// A group has witnessed what k of its members have: witnesses, and groups after them.
type group struct {
	k       int
	members []int
}

// ParsePolicy reads a policy (c2sp.org/tlog-policy), as the package's documentation lays down. The error names the line. More than 64 witnesses are one, for
// a checkpoint that all of them sign would be too large.
func ParsePolicy(text []byte) (Policy, error) {
	if len(text) > maxPolicy {
		return Policy{}, fmt.Errorf("witness: a policy of over %d bytes", maxPolicy)
	}
	p := parser{names: map[string]int{}, used: map[string]bool{}, keys: map[string]string{}}
	rest, n, more := string(text), 0, true
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		if n++; !more && line != "" {
			return Policy{}, fmt.Errorf("witness: policy: line %d is not ended", n)
		}
		if err := p.line(line); err != nil {
			return Policy{}, fmt.Errorf("witness: policy: line %d: %w", n, err)
		}
	}
	if err := p.check(); err != nil {
		return Policy{}, fmt.Errorf("witness: policy: %w", err)
	}
	return p.Policy, nil
}

type parser struct {
	Policy
	names  map[string]int // from 1: as quorum
	order  []string       // of names
	used   map[string]bool
	keys   map[string]string // what has a public key, or a key's name
	quorum bool
}

func (p *parser) line(line string) error {
	for i := range len(line) {
		if c := line[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return fmt.Errorf("a control character %#02x", c)
		}
	}
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	kind, words := words[0], words[1:]
	switch {
	case kind == "log" && (len(words) == 1 || len(words) == 2):
		return p.log(words[0])
	case kind == "witness" && (len(words) == 2 || len(words) == 3):
		return p.witness(append(words, "")[:3])
	case kind == "group" && len(words) >= 3:
		return p.group(words[0], words[1], words[2:])
	case kind == "quorum" && len(words) == 1:
		return p.setQuorum(words[0])
	}
	return fmt.Errorf("%.20q is no line of a policy", kind)
}

// taken notes that something has the public key and the key's name; each is one's own.
func (p *parser) taken(what, name string, public []byte) error {
	for _, k := range []string{"key " + string(public), "name " + name} {
		if other := p.keys[k]; other != "" {
			return fmt.Errorf("%s has a %s of %s", what, k[:strings.IndexByte(k, ' ')], other)
		}
		p.keys[k] = what
	}
	return nil
}

func (p *parser) log(vkey string) error {
	name, alg, public, err := parseVKey(vkey)
	if err == nil && (alg != algLog || len(public) != 32) {
		err = errors.New("not the key of a log, which is an Ed25519 one of type 0x01")
	}
	if err == nil && len(p.logs) == maxNamed {
		err = errors.New("too many logs")
	}
	if err == nil {
		err = p.taken("log "+name, name, public)
	}
	p.logs = append(p.logs, vkey)
	return err
}

func (p *parser) name(name string) error {
	if name == "none" || p.names[name] != 0 {
		return fmt.Errorf("the name %.80q is taken", name)
	}
	if len(p.order) == maxNamed {
		return errors.New("too many names")
	}
	p.order = append(p.order, name)
	p.names[name] = len(p.order)
	return nil
}

func (p *parser) witness(words []string) error {
	key, err := ParseKey(words[1])
	if err == nil {
		err = p.taken(fmt.Sprintf("witness %.80q", words[0]), key.name, key.public)
	}
	if err == nil && len(p.witnesses) == maxWitnesses {
		err = errors.New("too many witnesses")
	}
	if err == nil && words[2] != "" {
		_, err = endpoint(words[2], "add-checkpoint")
	}
	if err == nil {
		err = p.name(words[0])
	}
	p.groups = append(p.groups, group{k: -1 - len(p.witnesses)})
	p.witnesses = append(p.witnesses, Witness{words[0], key, words[2]})
	return err
}

func (p *parser) group(name, number string, members []string) error {
	g := group{k: len(members)}
	switch number {
	case "all":
	case "any":
		g.k = 1
	default:
		k, err := strconv.Atoi(number)
		if err != nil || k < 1 || k > len(members) || strconv.Itoa(k) != number {
			return fmt.Errorf("%.20q of %d members", number, len(members))
		}
		g.k = k
	}
	for _, m := range members {
		n := p.names[m]
		if n == 0 {
			return fmt.Errorf("%.80q is not known here", m)
		}
		if p.used[m] {
			return fmt.Errorf("%.80q is in a group already", m)
		}
		p.used[m] = true
		g.members = append(g.members, n)
	}
	p.groups = append(p.groups, g)
	return p.name(name)
}

func (p *parser) setQuorum(name string) error {
	if p.quorum {
		return errors.New("a second quorum")
	}
	p.quorum = true
	p.Policy.quorum = p.names[name]
	if name != "none" && p.Policy.quorum == 0 {
		return fmt.Errorf("%.80q is not known here", name)
	}
	return nil
}

func (p *parser) check() error {
	if !p.quorum {
		return errors.New("no quorum")
	}
	return p.accepting()
}

// accepting reports that the policy accepts what nobody has signed.
func (p *Policy) accepting() error {
	if len(p.logs) == 0 && p.quorum == 0 {
		return errors.New("it accepts what nobody has signed")
	}
	return nil
}

// Witnesses returns the witnesses that the policy knows, in its order.
func (p Policy) Witnesses() []Witness { return slices.Clone(p.witnesses) }

// holds reports whether the quorum has signed.
func (p *Policy) holds(signed []bool) bool {
	met := make([]bool, len(p.groups)+1)
	for i, g := range p.groups {
		if g.k < 0 {
			met[i+1] = signed[-1-g.k]
			continue
		}
		n := 0
		for _, m := range g.members {
			if met[m] {
				n++
			}
		}
		met[i+1] = n >= g.k
	}
	return p.quorum == 0 || met[p.quorum]
}

// A Verified is a checkpoint that a policy accepts.
type Verified struct {
	merkle.Checkpoint
	Cosignatures []Cosignature // of witnesses that the policy knows, each once, in the order in which they signed
}

// ErrNoQuorum means that everything about a checkpoint is right, but that too few witnesses have cosigned it.
var ErrNoQuorum = errors.New("no quorum")

// Verify checks that the checkpoint is of a log that the policy names, if it names any, and that the quorum cosigned it. The
// error wraps [ErrNoQuorum] if that is all that is missing.
func (p Policy) Verify(signed []byte) (Verified, error) {
	v, ok, err := p.open(signed)
	if err == nil && !ok {
		err = fmt.Errorf("witness: checkpoint of %.80q at size %d with %d cosignatures: %w", v.Origin, v.Size, len(v.Cosignatures), ErrNoQuorum)
	}
	if err != nil {
		return Verified{}, err
	}
	return v, nil
}

// open verifies all signatures, and reports whether there is a quorum.
func (p *Policy) open(signed []byte) (v Verified, quorum bool, err error) {
	if err := p.accepting(); err != nil {
		return v, false, fmt.Errorf("witness: policy: %w", err)
	}
	wrong := func(err error) (Verified, bool, error) {
		return Verified{}, false, fmt.Errorf("witness: checkpoint: %w", err)
	}
	if len(signed) > maxNote {
		return wrong(fmt.Errorf("over %d bytes", maxNote))
	}
	verifiers := make([]note.Verifier, len(p.witnesses))
	for i, w := range p.witnesses {
		verifiers[i] = w.Key
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	var none *note.UnverifiedNoteError
	if errors.As(err, &none) {
		n, err = none.Note, nil
	}
	if err != nil {
		return wrong(err)
	}
	if v.Checkpoint, err = merkle.ParseText(n.Text); err != nil {
		return wrong(err)
	}
	v.Note = bytes.Clone(signed)
	if len(p.logs) > 0 {
		i := slices.IndexFunc(p.logs, func(vkey string) bool { return strings.HasPrefix(vkey, v.Origin+"+") })
		if i < 0 {
			return wrong(fmt.Errorf("of %.80q, a log that the policy does not know", v.Origin))
		}
		if v.Checkpoint, err = merkle.ParseCheckpoint(signed, p.logs[i]); err != nil {
			return wrong(err)
		}
	}
	by := make([]bool, len(p.witnesses))
	for _, s := range n.Sigs {
		sig, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		i := slices.IndexFunc(p.witnesses, func(w Witness) bool { return w.Key.name == s.Name })
		if err != nil || i < 0 || by[i] || len(sig) < 4 {
			return wrong(errors.New("malformed signature"))
		}
		at, _ := stamp(sig[4:])
		by[i] = true
		v.Cosignatures = append(v.Cosignatures, Cosignature{s.Name, time.Unix(int64(min(at, lastSecond)), 0).UTC()})
	}
	return v, p.holds(by), nil
}

// SeenAt returns the latest time at which a quorum had cosigned what [Policy.Verify] returned, by the times in the cosignatures: enough of them for the quorum are
// not older. So less than a quorum of witnesses cannot make it later. There is none where the policy demands no witnesses.
func (p Policy) SeenAt(v Verified) (at time.Time, ok bool) {
	if p.quorum == 0 {
		return time.Time{}, false
	}
	sigs := slices.Clone(v.Cosignatures)
	slices.SortFunc(sigs, func(a, b Cosignature) int { return b.Time.Compare(a.Time) })
	signed := make([]bool, len(p.witnesses))
	for _, s := range sigs {
		if i := slices.IndexFunc(p.witnesses, func(w Witness) bool { return w.Key.name == s.Witness }); i >= 0 {
			signed[i] = true
		}
		if p.holds(signed) {
			return s.Time, true
		}
	}
	return time.Time{}, false
}

// VerifyProof checks that the policy accepts the proof's checkpoint, as [Policy.Verify] does, and that the leaf is in its tree at the index
// (c2sp.org/tlog-proof). It says nothing about the extra data.
func (p Policy) VerifyProof(proof merkle.TlogProof, leaf []byte) (Verified, error) {
	v, err := p.Verify(proof.Note)
	if err == nil {
		err = merkle.VerifyInclusion(v.Checkpoint, proof.Index, leaf, proof.Inclusion)
	}
	if err != nil {
		return Verified{}, err
	}
	return v, nil
}
