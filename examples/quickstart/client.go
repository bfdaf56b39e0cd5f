package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// An sshKey is a key pair in files, as ssh uses it.
type sshKey struct {
	file string // of the private key
	line []byte // the public key, in authorized_keys format
}

// newKey writes a fresh pair.
func newKey(dir, name string) (sshKey, error) {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return sshKey{}, err
	}
	block, err := ssh.MarshalPrivateKey(priv, name)
	if err != nil {
		return sshKey{}, err
	}
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		return sshKey{}, err
	}
	file := filepath.Join(dir, name)
	return sshKey{file, ssh.MarshalAuthorizedKey(k)}, os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
}

// userKey is the pair that a public key file names. The private key lies beside it, or an agent has it.
func userKey(pub string) (sshKey, error) {
	line, err := os.ReadFile(pub)
	if err != nil {
		return sshKey{}, err
	}
	file := strings.TrimSuffix(pub, ".pub")
	if _, err := os.Stat(file); err != nil {
		file = pub
	}
	return sshKey{file, line}, nil
}

// A client logs in with certificates: with OpenSSH where it is installed.
type client struct {
	dir     string
	openssh string // its path; empty for x/crypto/ssh
	port    int
	host    ssh.PublicKey
}

func newClient(dir, openssh string, g *gateway) (*client, error) {
	c := &client{dir: dir, openssh: openssh, port: g.port(), host: g.host.PublicKey()}
	known := fmt.Sprintf("[127.0.0.1]:%d %s", c.port, ssh.MarshalAuthorizedKey(c.host))
	return c, os.WriteFile(filepath.Join(dir, "known_hosts"), []byte(known), 0o600)
}

func (c *client) name() string {
	if c.openssh == "" {
		return "x/crypto/ssh"
	}
	return "OpenSSH"
}

// A login is an open connection.
type login struct {
	user string // as the server sees it
	done chan error
	end  func()
}

// login runs the command as the user, and returns once the server has answered.
func (c *client) login(ctx context.Context, key sshKey, cert []byte, user, command string) (*login, error) {
	file := filepath.Join(c.dir, "login-cert.pub")
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		return nil, err
	}
	start := c.inProcess
	if c.openssh != "" {
		start = c.process
	}
	out, wait, end, err := start(ctx, key, file, user, command)
	if err != nil {
		return nil, err
	}
	l := &login{done: make(chan error, 1), end: end}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		end()
		return nil, errors.Join(errors.New("the server did not admit it"), wait())
	}
	l.user = strings.TrimSpace(line)
	go func() { l.done <- wait() }()
	return l, nil
}

func (c *client) process(ctx context.Context, key sshKey, cert, user, command string) (io.Reader, func() error, func(), error) {
	cmd := exec.CommandContext(ctx, c.openssh, "-F", "none", "-p", strconv.Itoa(c.port), "-i", key.file,
		"-o", "CertificateFile="+cert, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "PreferredAuthentications=publickey",
		"-o", "UserKnownHostsFile="+filepath.Join(c.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=none",
		"-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR", user+"@127.0.0.1", command)
	stdin, err := cmd.StdinPipe() // stays open while the connection does
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, err
	}
	return out, cmd.Wait, func() { stdin.Close() }, nil
}

func (c *client) inProcess(ctx context.Context, key sshKey, cert, user, command string) (io.Reader, func() error, func(), error) {
	private, err := os.ReadFile(key.file)
	if err != nil {
		return nil, nil, nil, err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, nil, nil, err
	}
	line, err := os.ReadFile(cert)
	if err != nil {
		return nil, nil, nil, err
	}
	parsed, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, nil, nil, err
	}
	certificate, ok := parsed.(*ssh.Certificate)
	if !ok {
		return nil, nil, nil, errors.New("not a certificate")
	}
	if signer, err = ssh.NewCertSigner(certificate, signer); err != nil {
		return nil, nil, nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
	if err != nil {
		return nil, nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	sc, channels, requests, err := ssh.NewClientConn(conn, "127.0.0.1", &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(c.host)})
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	cl := ssh.NewClient(sc, channels, requests)
	s, err := cl.NewSession()
	if err != nil {
		cl.Close()
		return nil, nil, nil, err
	}
	stdin, err := s.StdinPipe()
	if err != nil {
		cl.Close()
		return nil, nil, nil, err
	}
	out, err := s.StdoutPipe()
	if err == nil {
		err = s.Start(command)
	}
	if err != nil {
		cl.Close()
		return nil, nil, nil, err
	}
	return out, func() error { defer cl.Close(); return s.Wait() }, func() { stdin.Close() }, nil
}

// run logs in for a command that answers and ends.
func (c *client) run(ctx context.Context, key sshKey, cert []byte, user string) error {
	l, err := c.login(ctx, key, cert, user, "whoami")
	if err != nil {
		return err
	}
	if err := <-l.done; err != nil {
		return err
	}
	if l.user != user {
		return fmt.Errorf("the server took %s for %s", user, l.user)
	}
	return nil
}
