package enginetest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A pgProxy passes connections on to a PostgreSQL server, and knows of the protocol what it needs to see a COMMIT.
type pgProxy struct {
	listener net.Listener
	server   string

	mu      sync.Mutex
	conns   map[*proxied]bool
	commits int                  // how many were seen
	onCut   func(n int) proxyAct // what to do at the n-th; nil passes all
	deaf    bool                 // nothing passes on new connections
	cuts    int
}

// A proxyAct is what happens to a COMMIT.
type proxyAct int

const (
	passOn    proxyAct = iota
	cutBefore          // the server does not get it
	cutAfter           // the server has done it, and its answer is lost
	hangAfter          // the same, and the connection stays
)

func newProxy(t testing.TB, s *postgres) *pgProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pgProxy{listener: l, server: fmt.Sprintf("127.0.0.1:%d", s.port), conns: map[*proxied]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); p.drop() })
	return p
}

// dsn is that of the server by way of the proxy.
func (p *pgProxy) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", p.listener.Addr().(*net.TCPAddr).Port)
}

// set changes how the proxy behaves.
func (p *pgProxy) set(f func(p *pgProxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// drop closes every connection.
func (p *pgProxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.close()
	}
}

// hang stops everything on the connections that are there, without closing them; and on new ones, too, if deaf.
func (p *pgProxy) hang(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
	for c := range p.conns {
		c.hang()
	}
}

// A proxied is one connection.
type proxied struct {
	p              *pgProxy
	client, server net.Conn

	mu    sync.Mutex
	act   proxyAct      // at the COMMIT that is under way
	stuck chan struct{} // nil, or closed when the connection is
}

func (c *proxied) close() {
	c.client.Close()
	c.server.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck == nil {
		c.stuck = make(chan struct{})
	}
	select {
	case <-c.stuck:
	default:
		close(c.stuck)
	}
}

func (c *proxied) hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck == nil {
		c.stuck = make(chan struct{})
	}
}

// flow waits while the connection hangs. It reports whether it is still there.
func (c *proxied) flow() bool {
	c.mu.Lock()
	stuck := c.stuck
	c.mu.Unlock()
	if stuck == nil {
		return true
	}
	<-stuck
	return false
}

func (p *pgProxy) serve(client net.Conn) {
	p.mu.Lock()
	to := p.server
	p.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	c := &proxied{p: p, client: client, server: server}
	p.mu.Lock()
	p.conns[c] = true
	if p.deaf {
		c.hang()
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.toServer(); c.close() })
	both.Go(func() { c.toClient(); c.close() })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// message reads one message: a type, unless it is the first one of a client, a length that counts itself, and a body.
func message(r io.Reader, first bool) (kind byte, whole []byte, err error) {
	head := make([]byte, 5)
	if first {
		head = head[:4]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	if !first {
		kind = head[0]
	}
	n := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	if n < 0 || n > 1<<24 {
		return 0, nil, fmt.Errorf("a message of %d bytes", n)
	}
	whole = append(head, make([]byte, n)...)
	_, err = io.ReadFull(r, whole[len(head):])
	return kind, whole, err
}

// isCommit reports whether a client's message commits: as a simple query, or by being parsed for the extended protocol.
func isCommit(kind byte, whole []byte) bool {
	if kind != 'Q' && kind != 'P' {
		return false
	}
	parts := strings.Split(string(whole[5:]), "\x00")
	text := parts[0]
	if kind == 'P' && len(parts) > 1 { // after the statement's name
		text = parts[1]
	}
	return strings.EqualFold(strings.TrimSpace(text), "commit")
}

func (c *proxied) toServer() {
	r := bufio.NewReader(c.client)
	for first := true; ; first = false {
		kind, whole, err := message(r, first)
		if err != nil || !c.flow() {
			return
		}
		if isCommit(kind, whole) {
			act := c.p.commit()
			c.mu.Lock()
			c.act = act
			c.mu.Unlock()
			if act == cutBefore {
				return
			}
		}
		if _, err := c.server.Write(whole); err != nil {
			return
		}
	}
}

// commit counts one, and says what is to become of it.
func (p *pgProxy) commit() proxyAct {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commits++
	if p.onCut == nil {
		return passOn
	}
	act := p.onCut(p.commits)
	if act != passOn {
		p.cuts++
	}
	return act
}

func (c *proxied) toClient() {
	r := bufio.NewReader(c.server)
	for {
		kind, whole, err := message(r, false)
		if err != nil || !c.flow() {
			return
		}
		c.mu.Lock()
		act := c.act
		c.mu.Unlock()
		switch {
		case act != cutAfter && act != hangAfter:
			if _, err := c.client.Write(whole); err != nil {
				return
			}
		case kind != 'Z': // ready for the next query: this one is over
		case act == hangAfter:
			c.hang()
		default:
			return
		}
	}
}
