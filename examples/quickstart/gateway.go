package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
)

// A gateway is an SSH server on loopback that trusts nothing but certificates. It answers "whoami" with the account, and "hold" by keeping
// the connection open. It cuts each connection at its certificate's end, and when it is told to.
type gateway struct {
	listener net.Listener
	config   *ssh.ServerConfig
	host     ssh.Signer

	mu    sync.Mutex
	conns map[*ssh.ServerConn][]identity.ID
	why   error // of the last refusal
	wg    sync.WaitGroup
}

func newGateway(checker *sshcert.Checker) (*gateway, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	g := &gateway{conns: map[*ssh.ServerConn][]identity.ID{}}
	if g.host, err = ssh.NewSignerFromSigner(key); err != nil {
		return nil, err
	}
	g.config = &ssh.ServerConfig{PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		p, err := checker.Authenticate(conn, key)
		if _, certified := key.(*ssh.Certificate); certified {
			g.mu.Lock()
			g.why = err
			g.mu.Unlock()
		}
		return p, err
	}}
	g.config.AddHostKey(g.host)
	if g.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	g.wg.Go(g.accept)
	return g, nil
}

func (g *gateway) port() int { return g.listener.Addr().(*net.TCPAddr).Port }

// refusal returns why the last certificate was refused; nil if it was not.
func (g *gateway) refusal() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

func (g *gateway) close() {
	g.listener.Close()
	g.mu.Lock()
	for conn := range g.conns {
		conn.Close()
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// End implements [bailiwick.Sessions].
func (g *gateway) End(_ context.Context, id identity.ID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for conn, chain := range g.conns {
		if slices.Contains(chain, id) {
			conn.Close()
			delete(g.conns, conn)
		}
	}
	return nil
}

func (g *gateway) accept() {
	for {
		c, err := g.listener.Accept()
		if err != nil {
			return
		}
		g.wg.Go(func() { g.serve(c) })
	}
}

func (g *gateway) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second)) // for the handshake
	conn, channels, requests, err := ssh.NewServerConn(c, g.config)
	if err != nil {
		return
	}
	defer conn.Close()
	cert, ok := sshcert.Certificate(conn.Permissions)
	if !ok {
		return
	}
	c.SetDeadline(time.Time{})
	cut := time.AfterFunc(time.Until(time.Unix(int64(cert.ValidBefore), 0)), func() { conn.Close() })
	defer cut.Stop()
	g.mu.Lock()
	g.conns[conn] = sshcert.Chain(cert)
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.conns, conn)
		g.mu.Unlock()
	}()
	go ssh.DiscardRequests(requests)
	for ch := range channels {
		if ch.ChannelType() != "session" {
			ch.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		if channel, requests, err := ch.Accept(); err == nil {
			go session(conn.User(), channel, requests)
		}
	}
}

func session(user string, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var exec struct{ Command string }
		if r.Type != "exec" || ssh.Unmarshal(r.Payload, &exec) != nil {
			r.Reply(false, nil)
			continue
		}
		r.Reply(true, nil)
		fmt.Fprintln(channel, user)
		if exec.Command == "hold" {
			io.Copy(io.Discard, channel) // until the other side, or the gateway, ends it
		}
		channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		return
	}
}
