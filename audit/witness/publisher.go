package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

// A PublisherConfig says what is published, and what that takes. Log, VerifierKey, Policy and Alarm are required.
type PublisherConfig struct {
	Log         merkle.Files
	VerifierKey string // the log's
	Policy      Policy // its witnesses with a URL are asked
	// Alarm is told of each round that publishes nothing although there is something new, and of each witness that has seen more of the log, or another.
	// It is told one thing at a time, and does not call Publish.
	Alarm func(error)
	// Save keeps what is about to be published for Last of the next start; nil keeps nothing. An error is an alarm, and nothing is published.
	Save func(ctx context.Context, signed []byte) error
	Last []byte
	HTTP *http.Client  // see [Client]
	Wait time.Duration // for the answers of witnesses in one round; zero means five seconds
	// Refresh is after how long a log that has not grown is cosigned again, so that whoever follows it sees by the witnesses' time that it goes on; zero means
	// an hour.
	Refresh time.Duration
	Clock   func() time.Time // nil means [time.Now]
}

// A Publisher shows a log up to the last checkpoint that the quorum of a policy cosigned. It is [merkle.Files], and safe for concurrent use.
type Publisher struct {
	cfg    PublisherConfig
	reader *merkle.Reader
	client Client
	round  sync.Mutex // one at a time

	mu   sync.Mutex
	last Verified
	at   time.Time // when that was published; zero if before the start
}

// NewPublisher returns a publisher. That Last is not what the policy accepts of this log is an error, and so is a policy that names other logs only.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.Alarm == nil {
		return nil, errors.New("witness: a publisher without an alarm")
	}
	reader, err := merkle.NewReader(cfg.Log, cfg.VerifierKey)
	if err != nil {
		return nil, err
	}
	if err := cfg.Policy.accepting(); err != nil {
		return nil, fmt.Errorf("witness: policy: %w", err)
	}
	if logs := cfg.Policy.logs; len(logs) > 0 && !slices.Contains(logs, cfg.VerifierKey) {
		return nil, errors.New("witness: the policy does not know the log that is to be published")
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 5 * time.Second
	}
	p := &Publisher{cfg: cfg, reader: reader, client: Client{HTTP: cfg.HTTP}}
	if p.cfg.Refresh <= 0 {
		p.cfg.Refresh = time.Hour
	}
	if p.cfg.Clock == nil {
		p.cfg.Clock = time.Now
	}
	if cfg.Last != nil {
		if p.last, err = p.verify(cfg.Last); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// verify checks that the log's key signed the checkpoint, and that the policy accepts it.
func (p *Publisher) verify(signed []byte) (Verified, error) {
	if _, err := merkle.ParseCheckpoint(signed, p.cfg.VerifierKey); err != nil {
		return Verified{}, err
	}
	return p.cfg.Policy.Verify(signed)
}

// Published returns the last checkpoint that was published; it has no Note if none was.
func (p *Publisher) Published() Verified {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last
	last.Note, last.Cosignatures = bytes.Clone(last.Note), slices.Clone(last.Cosignatures)
	return last
}

// ReadFile returns the last checkpoint that was published, as "checkpoint", and the log's tiles and entries: also those after the checkpoint, as soon as the
// log has them. Nothing else is a file of it.
func (p *Publisher) ReadFile(name string) ([]byte, error) {
	if strings.HasPrefix(name, "tile/") && fs.ValidPath(name) { // by no other name is it the log's own checkpoint
		return p.cfg.Log.ReadFile(name)
	}
	if last := p.Published(); name == "checkpoint" && last.Note != nil {
		return last.Note, nil
	}
	return nil, fmt.Errorf("witness: nothing was published as %.80q: %w", name, fs.ErrNotExist)
}

// Run publishes at once and then every so often, until the context is done.
func (p *Publisher) Run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		p.Publish(ctx) // an error was an alarm
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Publish has the log's checkpoint cosigned, if it is larger than the last one or that is due to be refreshed, and publishes it with all cosignatures if the policy accepts it. It returns what is
// published by then, also with an error. Of that the alarm was told too, unless the context is done; of [merkle.ErrRewound] and [merkle.ErrForked] even then.
func (p *Publisher) Publish(ctx context.Context) (Verified, error) {
	p.round.Lock()
	defer p.round.Unlock()
	v, err := p.publish(ctx, 2)
	if err != nil && (ctx.Err() == nil || worst(err)) {
		p.cfg.Alarm(err)
	}
	return v, err
}

// worst reports whether the log is not what it was.
func worst(err error) bool {
	return errors.Is(err, merkle.ErrForked) || errors.Is(err, merkle.ErrRewound)
}

// publish does that, and so often again if the log has grown meanwhile: then a witness may have seen more of it from somebody else.
func (p *Publisher) publish(ctx context.Context, again int) (Verified, error) {
	last := p.Published()
	cp, err := p.reader.Checkpoint()
	if err != nil {
		return last, err
	}
	if last.Note != nil {
		if err := p.reader.GoesOn(last.Checkpoint, cp); err != nil || cp.Size == last.Size && !p.due() {
			return last, err
		}
	}
	lines, err := p.collect(ctx, cp)
	if again > 0 && ctx.Err() == nil && errors.Is(err, merkle.ErrRewound) && !errors.Is(err, merkle.ErrForked) {
		if now, failed := p.reader.Checkpoint(); failed == nil && now.Size > cp.Size {
			return p.publish(ctx, again-1)
		}
	}
	now, ok, wrong := p.cfg.Policy.open(append(bytes.Clone(cp.Note), lines...))
	switch {
	case wrong != nil:
		return last, errors.Join(wrong, err)
	case !ok:
		return last, errors.Join(fmt.Errorf("witness: log %s: size %d is not published: %w", cp.Origin, cp.Size, ErrNoQuorum), err)
	}
	if worst(err) {
		p.cfg.Alarm(err) // whatever the others say
	}
	if p.cfg.Save != nil {
		if err := p.cfg.Save(ctx, bytes.Clone(now.Note)); err != nil {
			return last, fmt.Errorf("witness: log %s: size %d is not published: %w", cp.Origin, cp.Size, err)
		}
	}
	at := p.cfg.Clock()
	p.mu.Lock()
	p.last, p.at = now, at
	p.mu.Unlock()
	return p.Published(), nil
}

// due reports whether what is published was cosigned too long ago, or nobody knows when: before the start, or by a clock that has gone back.
func (p *Publisher) due() bool {
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at.IsZero() || now.Sub(p.at).Abs() >= p.cfg.Refresh
}

// collect asks all witnesses at once, and returns the lines of those that have signed.
func (p *Publisher) collect(ctx context.Context, cp merkle.Checkpoint) (lines []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Wait)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, w := range p.cfg.Policy.witnesses {
		if w.URL == "" {
			continue
		}
		wg.Go(func() {
			line, failed := p.client.Cosign(ctx, w, cp, p.reader)
			mu.Lock()
			defer mu.Unlock()
			lines, err = append(lines, line...), errors.Join(err, failed)
		})
	}
	wg.Wait()
	return lines, err
}
