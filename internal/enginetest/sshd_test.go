package enginetest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/credentialstest"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
)

// sshKey writes a new private key to the file and returns it with its line for authorized_keys.
func sshKey(t *testing.T, file string) (crypto.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, ssh.MarshalAuthorizedKey(pub)
}

func writeFile(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sshCert mints a certificate at the time at, for ten minutes, and returns it.
func sshCert(t *testing.T, ca crypto.Signer, at time.Time, principal string, key []byte) []byte {
	t.Helper()
	m, err := sshcert.New(ca)
	if err != nil {
		t.Fatal(err)
	}
	s := credentialstest.NewSystem(map[string]credentials.Minter{"ssh": m}, nil)
	s.Now, s.Bounds.NotAfter = at, at.Add(10*time.Minute)
	cred, err := s.Issue(context.Background(), s.Caller(credentialstest.Human), credentials.Request{
		Type: "ssh", Grant: "g", Principals: []string{principal}, Key: key,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cred.Public
}

func TestSSHDAdmitsWhatIsMinted(t *testing.T) {
	client, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("SKIP: no OpenSSH client is installed")
	}
	server, err := exec.LookPath("sshd")
	if err != nil {
		server = "/usr/sbin/sshd" // often not in a user's PATH
		if _, err := os.Stat(server); err != nil {
			t.Skip("SKIP: no sshd is installed")
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's empty directory
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	ca, caLine := sshKey(t, in("ca"))
	other, _ := sshKey(t, in("other"))
	_, hostLine := sshKey(t, in("host"))
	_, userLine := sshKey(t, in("user"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	writeFile(t, in("ca.pub"), caLine)
	writeFile(t, in("known_hosts"), fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, hostLine))
	writeFile(t, in("config"), fmt.Appendf(nil, `ListenAddress %s
HostKey %s
TrustedUserCAKeys %s
AuthorizedKeysFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
LogLevel VERBOSE
`, addr, in("host"), in("ca.pub")))

	var logs bytes.Buffer
	sshd := exec.Command(server, "-D", "-e", "-f", in("config"))
	sshd.Stderr = &logs
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sshd.Process.Kill()
		_ = sshd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", logs.String())
		}
	})
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			break
		}
		if time.Now().After(until) {
			t.Fatal("sshd does not listen")
		}
	}

	now := time.Now()
	for name, c := range map[string]struct {
		cert []byte
		ok   bool
	}{
		"minted":            {sshCert(t, ca, now, me.Username, userLine), true},
		"another principal": {sshCert(t, ca, now, me.Username+"x", userLine), false},
		"expired":           {sshCert(t, ca, now.Add(-time.Hour), me.Username, userLine), false},
		"another CA":        {sshCert(t, other, now, me.Username, userLine), false},
	} {
		writeFile(t, in("cert.pub"), c.cert)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		out, err := exec.CommandContext(ctx, client, "-F", "none", "-p", port, "-l", me.Username, "-i", in("user"),
			"-o", "CertificateFile="+in("cert.pub"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
			"-o", "UserKnownHostsFile="+in("known_hosts"), "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
			"127.0.0.1", "echo ok").CombinedOutput()
		cancel()
		if c.ok && (err != nil || !strings.HasSuffix(string(out), "ok\n")) {
			t.Errorf("%s: refused: %v: %s", name, err, out)
		}
		if !c.ok && (err == nil || !strings.Contains(string(out), "Permission denied")) {
			t.Errorf("%s: not refused: %v: %s", name, err, out)
		}
	}
}
