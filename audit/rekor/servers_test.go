package rekor_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bailiwick-go/bailiwick/audit/merkle"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// installed returns where a program is: on the path, or where .ci/run puts the servers that it builds.
func installed(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err == nil {
		path := filepath.Join(cache, "bailiwick", "servers", name)
		if _, err = os.Stat(path); err == nil {
			return path
		}
	}
	t.Skipf("SKIP: %s is not installed", name)
	return ""
}

// output is what a process says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is a server that runs.
type process struct {
	cmd  *exec.Cmd
	said *output
	done chan struct{}
}

// start runs a server until the test ends, or it is stopped.
func start(t testing.TB, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), said: &output{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text := p.said.String()
			t.Logf("%s:\n%s", filepath.Base(program), text[max(0, len(text)-4000):])
		}
	})
	return p
}

// kill ends it at once.
func (p *process) kill() {
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.cmd.Process.Kill()
	<-p.done
}

// until waits for something that a server will do.
func until(t testing.TB, what string, p *process, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("%s: the server has ended", what)
		default:
		}
		if ready() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not ready", what)
		}
	}
}

// ports returns so many ports that are free.
func ports(n int) (free []int) {
	for range n {
		l := must(net.Listen("tcp", "127.0.0.1:0"))
		defer l.Close()
		free = append(free, l.Addr().(*net.TCPAddr).Port)
	}
	return free
}

func get(url string) string {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	b.ReadFrom(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return b.String()
}

// rekor1 is a Rekor of the first version, with Trillian and MariaDB.
type rekor1 struct {
	t       testing.TB
	dir     string
	key     *ecdsa.PrivateKey
	tree    string // "" before the first start
	url     string
	servers []*process
}

// aRekor1 starts one.
func aRekor1(t testing.TB) *rekor1 {
	for _, name := range []string{"mariadbd", "mariadb", "mariadb-install-db", "trillian_log_server", "trillian_log_signer", "trillian.sql", "rekor-server"} {
		installed(t, name)
	}
	r := &rekor1{t: t, dir: must(os.MkdirTemp("", "rekor")), key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	t.Cleanup(func() { os.RemoveAll(r.dir) })
	os.Chmod(r.dir, 0o755)
	der := must(x509.MarshalPKCS8PrivateKey(r.key))
	os.WriteFile(filepath.Join(r.dir, "key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	data := filepath.Join(r.dir, "data")
	os.Mkdir(data, 0o700)
	args := []string{"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db"}
	if out, err := exec.Command(installed(t, "mariadb-install-db"), append(args, r.asUser(data)...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.start()
	return r
}

// asUser gives a directory to who may run MariaDB, and returns the flags that say so.
func (r *rekor1) asUser(dir string) []string {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("mysql")
	if err != nil {
		r.t.Fatal(err)
	}
	uid, gid := must(strconv.Atoi(u.Uid)), must(strconv.Atoi(u.Gid))
	filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	})
	return []string{"--user=mysql"}
}

// start starts all of it, on the data that is there.
func (r *rekor1) start() {
	r.t.Helper()
	p := ports(6)
	data, socket := filepath.Join(r.dir, "data"), filepath.Join(r.dir, "data", "s")
	db := start(r.t, installed(r.t, "mariadbd"), append([]string{"--no-defaults", "--datadir=" + data, "--socket=" + socket, "--bind-address=127.0.0.1",
		"--port=" + strconv.Itoa(p[0]), "--skip-log-bin", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2"}, r.asUser(data)...)...)
	ask := func(sql string) error {
		cmd := exec.Command(installed(r.t, "mariadb"), "--no-defaults", "-u", "root", "-S", socket)
		cmd.Stdin = strings.NewReader(sql)
		return cmd.Run()
	}
	until(r.t, "MariaDB", db, func() bool { return ask("SELECT 1;") == nil })
	if r.tree == "" {
		schema := must(os.ReadFile(installed(r.t, "trillian.sql")))
		if err := ask("CREATE DATABASE trillian; CREATE USER 'trillian'@'127.0.0.1' IDENTIFIED BY 'pw'; CREATE USER 'trillian'@'localhost' IDENTIFIED BY 'pw';" +
			"GRANT ALL ON trillian.* TO 'trillian'@'127.0.0.1'; GRANT ALL ON trillian.* TO 'trillian'@'localhost'; USE trillian;" + string(schema)); err != nil {
			r.t.Fatal(err)
		}
	}
	at := func(i int) string { return "127.0.0.1:" + strconv.Itoa(p[i]) }
	mysql := []string{"--storage_system=mysql", "--mysql_uri=trillian:pw@tcp(" + at(0) + ")/trillian", "--quota_system=noop", "--logtostderr"}
	server := start(r.t, installed(r.t, "trillian_log_server"), append(mysql, "--rpc_endpoint="+at(1), "--http_endpoint="+at(2))...)
	signer := start(r.t, installed(r.t, "trillian_log_signer"), append(mysql, "--force_master", "--rpc_endpoint="+at(3), "--http_endpoint="+at(4),
		"--sequencer_interval=50ms", "--batch_size=1000")...)
	until(r.t, "Trillian", server, func() bool { return get("http://"+at(2)+"/healthz") != "" })
	until(r.t, "Trillian's signer", signer, func() bool { return get("http://"+at(4)+"/healthz") != "" })
	args := []string{"serve", "--rekor_server.address=127.0.0.1", "--port=" + strconv.Itoa(p[5]), "--trillian_log_server.address=127.0.0.1",
		"--trillian_log_server.port=" + strconv.Itoa(p[1]), "--rekor_server.hostname=rekor.local", "--rekor_server.signer=" + filepath.Join(r.dir, "key"),
		"--max_request_body_size=1048576", "--enable_retrieve_api=false", "--log_type=prod",
		"--enabled_api_endpoints=getLogInfo,getPublicKey,getLogProof,createLogEntry,getLogEntryByIndex,getLogEntryByUUID,searchLogQuery"}
	if r.tree != "" {
		args = append(args, "--trillian_log_server.tlog_id="+r.tree)
	}
	front := start(r.t, installed(r.t, "rekor-server"), args...)
	r.url = "http://" + at(5)
	until(r.t, "Rekor", front, func() bool { return get(r.url+"/ping") != "" })
	var info struct{ TreeID string }
	if err := json.Unmarshal([]byte(get(r.url+"/api/v1/log")), &info); err != nil || info.TreeID == "" || r.tree != "" && r.tree != info.TreeID {
		r.t.Fatalf("Rekor has tree %q, and had %q: %v", info.TreeID, r.tree, err)
	}
	r.tree, r.servers = info.TreeID, []*process{front, signer, server, db}
}

func (r *rekor1) stop() {
	for _, p := range r.servers {
		p.kill()
	}
}

func (r *rekor1) origin() string { return "rekor.local - " + r.tree }

func (r *rekor1) trust() string {
	return "rekor1 " + pkix(&r.key.PublicKey) + " " + r.origin() + "\n"
}

// copied returns another Rekor, which has this one's key and history until now, and stops this one.
func (r *rekor1) copied() *rekor1 {
	other := *r
	other.dir = must(os.MkdirTemp("", "rekor"))
	r.t.Cleanup(func() { os.RemoveAll(other.dir) })
	os.Chmod(other.dir, 0o755)
	r.stop()
	if out, err := exec.Command("cp", "-a", r.dir+"/.", other.dir).CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	return &other
}

func pkix(public any) string {
	return base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(public)))
}

// rekor2 is a Rekor of the second version, on a directory, with a server of its files.
type rekor2 struct {
	t     testing.TB
	dir   string
	key   ed25519.PrivateKey
	url   string
	front *process
}

// aRekor2 starts one, with a policy of witnesses.
func aRekor2(t testing.TB, key ed25519.PrivateKey, policy string) *rekor2 {
	r := &rekor2{t: t, dir: t.TempDir(), key: key}
	der := must(x509.MarshalPKCS8PrivateKey(key))
	os.WriteFile(filepath.Join(r.dir, "key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	os.WriteFile(filepath.Join(r.dir, "policy"), []byte(policy), 0o600)
	os.Mkdir(filepath.Join(r.dir, "log"), 0o700)
	r.start()
	return r
}

func (r *rekor2) start() {
	r.t.Helper()
	p := ports(3)
	r.front = start(r.t, installed(r.t, "rekor-server-posix"), "serve", "--http-address", "127.0.0.1", "--http-port", strconv.Itoa(p[0]), "--grpc-address", "127.0.0.1", "--grpc-port", strconv.Itoa(p[1]),
		"--http-metrics-port", strconv.Itoa(p[2]), "--hostname", "rekor2.local", "--storage-dir", filepath.Join(r.dir, "log"),
		"--signer-filepath", filepath.Join(r.dir, "key"), "--checkpoint-interval", "200ms", "--batch-max-age", "20ms", "--persistent-antispam",
		"--witness-policy-path", filepath.Join(r.dir, "policy"))
	r.url = fmt.Sprintf("http://127.0.0.1:%d", p[0])
	until(r.t, "Rekor", r.front, func() bool { return get(r.url+"/healthz") != "" })
}

func (r *rekor2) files() merkle.Files {
	root := must(os.OpenRoot(filepath.Join(r.dir, "log")))
	r.t.Cleanup(func() { root.Close() })
	return root
}

func newKey() (ed25519.PublicKey, ed25519.PrivateKey) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	return public, must(key, err)
}

func signers(s ...crypto.Signer) []crypto.Signer { return s }

// copied returns another Rekor, which has this one's key and history until now, and stops this one.
func (r *rekor2) copied() *rekor2 {
	other := *r
	other.dir = r.t.TempDir()
	r.front.kill()
	if out, err := exec.Command("cp", "-a", r.dir+"/.", other.dir).CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	return &other
}

// within returns a context that is done when the test is, or after two minutes.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
