package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

const (
	maxAnswer = 1 << 16 // bytes
	maxProof  = 63      // lines
	sizeType  = "text/x.tlog.size"
)

// A Client asks witnesses for cosignatures (c2sp.org/tlog-witness). The zero Client is ready, and safe for concurrent use.
type Client struct {
	// HTTP asks. Nil means one that waits for ten seconds. Redirects are not followed, whatever it says.
	HTTP *http.Client

	mu   sync.Mutex
	last map[string]uint64 // the size that a witness has last seen of a log
}

// endpoint returns where to send a request to a witness.
func endpoint(prefix, name string) (string, error) {
	u, err := url.Parse(prefix)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("its URL is no submission prefix: http or https, without user, query and fragment") // which may be secret
	}
	return u.JoinPath(name).String(), nil
}

// Cosign has the checkpoint of the reader's log cosigned, with its Note, and returns the signature line, which it has verified. The error wraps
// [merkle.ErrRewound] if the witness has seen more of the log, and [merkle.ErrForked] if it does not find that the log goes on from what it has seen: by
// the log's tiles, it does. A witness without a URL and a nil reader are errors.
func (c *Client) Cosign(ctx context.Context, w Witness, cp merkle.Checkpoint, log *merkle.Reader) (line []byte, err error) {
	if log == nil {
		return nil, errors.New("witness: no log")
	}
	tree, err := log.Tree(cp)
	if err != nil {
		return nil, err
	}
	to, err := endpoint(w.URL, "add-checkpoint")
	if err != nil {
		return nil, fmt.Errorf("witness %.80q: %w", w.Name, err)
	}
	known := w.Key.String() + "\n" + cp.Origin
	c.mu.Lock()
	old := c.last[known]
	c.mu.Unlock()
	for range 4 { // the witness may see more of the log meanwhile
		var seen uint64
		line, seen, err = c.ask(ctx, to, w, cp, tree, min(old, cp.Size))
		if err != nil || line != nil {
			break
		}
		if seen > cp.Size {
			err = fmt.Errorf("%w: it has seen size %d, beyond %d", merkle.ErrRewound, seen, cp.Size)
			break
		}
		if old, err = seen, errors.New("it tells of one size after another"); ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("witness %.80q: log %s: %w", w.Name, cp.Origin, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]uint64{}
	}
	c.last[known] = max(c.last[known], cp.Size)
	return line, nil
}

// ask sends one request. Without a line and an error, the witness has seen another size.
func (c *Client) ask(ctx context.Context, to string, w Witness, cp merkle.Checkpoint, tree *merkle.Tree, old uint64) (line []byte, seen uint64, err error) {
	before, err := tree.Earlier(old)
	if err != nil {
		return nil, 0, err
	}
	proof, err := tree.Consistency(before)
	if err != nil {
		return nil, 0, err
	}
	body := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		body = append(base64.StdEncoding.AppendEncode(body, h[:]), '\n')
	}
	body = append(append(body, '\n'), cp.Note...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	client := http.Client{Timeout: 10 * time.Second}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, 0, err
	}
	if len(answer) > maxAnswer {
		return nil, 0, fmt.Errorf("its answer has over %d bytes", maxAnswer)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		line, err = signatureOf(w.Key, cp, answer)
		return line, 0, err
	case http.StatusConflict:
		text, ended := strings.CutSuffix(string(answer), "\n")
		seen, err = strconv.ParseUint(text, 10, 64)
		if err != nil || !ended || strconv.FormatUint(seen, 10) != text || resp.Header.Get("Content-Type") != sizeType || seen == old {
			return nil, 0, fmt.Errorf("it does not say what it has seen: %.80q", answer)
		}
		return nil, seen, nil
	case http.StatusUnprocessableEntity:
		if old > 0 {
			return nil, 0, fmt.Errorf("%w: it has seen another at size %d: %.80q", merkle.ErrForked, old, answer)
		}
	}
	return nil, 0, fmt.Errorf("it answers %d: %.80q", resp.StatusCode, answer)
}

// signatureOf returns the key's line of an answer.
func signatureOf(k Key, cp merkle.Checkpoint, answer []byte) ([]byte, error) {
	text, _, ok := bytes.Cut(cp.Note, []byte("\n\n"))
	if !ok {
		return nil, errors.New("a checkpoint without a signature")
	}
	n, err := note.Open(slices.Concat(text, []byte("\n\n"), answer), note.VerifierList(k))
	if err != nil {
		return nil, fmt.Errorf("what it answers is no cosignature of its key: %w", err)
	}
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil { // package note takes more than one spelling
		return nil, errors.New("what it answers is malformed")
	}
	return []byte("— " + n.Sigs[0].Name + " " + n.Sigs[0].Base64 + "\n"), nil
}
