package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bailiwick-go/bailiwick"
	"github.com/bailiwick-go/bailiwick/audit"
	"github.com/bailiwick-go/bailiwick/credentials"
	"github.com/bailiwick-go/bailiwick/credentials/sshcert"
	"github.com/bailiwick-go/bailiwick/identity"
	"github.com/bailiwick-go/bailiwick/jit"
	"github.com/bailiwick-go/bailiwick/lifecycle"
	"github.com/bailiwick-go/bailiwick/rbac"
)

type story struct {
	out     io.Writer
	kept    *state
	tonight time.Duration // how long the engineer's grant lasts
	org     org
	ring    *keyring
	sys     *bailiwick.System
	gate    *gateway
	client  *client
	ca      ed25519.PrivateKey
	key     sshKey // the engineer's
	agent   sshKey // the agent's
	tom     sshKey // the contractor's

	ids   map[string]identity.ID
	names map[identity.ID]string

	grant jit.Grant
	cert  credentials.Credential
	open  *login // the engineer's connection that stays open
}

func newStory(ctx context.Context, kept *state, scratch, openssh string, policy bailiwick.Policy, people org, out io.Writer) (_ *story, err error) {
	s := &story{out: out, kept: kept, org: people, ids: map[string]identity.ID{}, names: map[identity.ID]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	founders, err := people.founders()
	if err != nil {
		return nil, err
	}
	if s.ring, err = newKeyring(&people, kept, time.Now); err != nil {
		return nil, err
	}
	if s.ca, err = kept.key("ca"); err != nil {
		return nil, err
	}
	receipts, err := kept.key("receipts")
	if err != nil {
		return nil, err
	}
	minter, err := sshcert.New(s.ca)
	if err != nil {
		return nil, err
	}
	if err := kept.keep("log.pub", []byte(kept.log.VerifierKey()+"\n")); err != nil {
		return nil, err
	}
	checker := &sshcert.Checker{Authorities: []ssh.PublicKey{minter.Authority()}}
	if s.gate, err = newGateway(checker); err != nil {
		return nil, err
	}
	s.sys, err = bailiwick.New(ctx, bailiwick.Config{
		Ledger: kept.ledger, Log: kept.log, SealKeys: kept.seal(), ReceiptKey: receipts,
		Policy: policy, Founders: founders, // which only the first evening takes
		Authenticators: map[string]identity.Authenticator{people.Issuer: s.ring},
		Minters:        map[string]credentials.Minter{"ssh": minter},
		Sessions:       s.gate,
	})
	if err != nil {
		return nil, err
	}
	checker.ReceiptKey = s.sys.ReceiptKey()
	checker.Revoked = func(serial uint64) bool {
		return s.sys.Issuer().Revoked(context.Background(), credentials.Serial(serial))
	}
	for _, p := range people.People {
		h := p.Handle.String()
		id, err := s.sys.Lifecycle().Find(ctx, identity.External{Issuer: people.Issuer, Subject: h})
		if err != nil {
			return nil, fmt.Errorf("organisation: whoever was not there on the first evening would have to be registered, and %s is not: %w", h, err)
		}
		s.ids[h], s.names[id.ID] = id.ID, h
	}
	if s.client, err = newClient(scratch, openssh, s.gate); err != nil {
		return nil, err
	}
	for name, key := range map[string]*sshKey{"id_agent": &s.agent, "id_contractor": &s.tom} {
		if *key, err = newKey(scratch, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *story) close(ctx context.Context) error {
	if s.gate != nil {
		s.gate.close()
	}
	if s.sys == nil {
		return nil
	}
	return s.sys.Close(ctx)
}

// say prints a line of the timeline.
func (s *story) say(who, format string, args ...any) {
	fmt.Fprintf(s.out, "%s  %-12s %s\n", time.Now().Format("15:04:05.000"), who, fmt.Sprintf(format, args...))
}

// signIn proves who somebody is.
func (s *story) signIn(ctx context.Context, handle string) (identity.Caller, error) {
	return s.sys.Gate().Caller(ctx, s.org.Issuer, s.ring.prove(handle))
}

// refused expects the error to be a refusal, and tells it.
func (s *story) refused(who, what string, err error) error {
	if !errors.Is(err, identity.ErrDenied) {
		return fmt.Errorf("%s should have been refused to %s, but: %v", what, who, err)
	}
	s.say(who, "is refused %s", what)
	s.say("", "  because %v", err)
	return nil
}

func (s *story) tell(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		s.resume, s.request, s.approve, s.connect, s.delegate, s.forge, s.expire, s.leave, s.prove, s.tamper,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// resume: what an earlier evening left is there as it was, and what it left open is ended first.
func (s *story) resume(ctx context.Context) error {
	if s.kept.size == 0 {
		return nil
	}
	t := s.org.Tonight
	report, err := audit.Verify(ctx, s.kept.log, s.kept.log.VerifierKey(), nil)
	if err != nil {
		return err
	}
	found, err := s.sys.Verify(ctx, audit.Inspection{})
	if err = errors.Join(err, audit.Findings(found)); err != nil {
		return err
	}
	s.say("the log", "goes on: it has %d events since %s, and verifies; the state is as it tells",
		report.Checkpoint.Size, report.Genesis.Time.Local().Format(time.DateTime))
	// Taking away is never left half done.
	standing, err := s.sys.Lifecycle().State(ctx, s.ids[t.Contractor])
	if err != nil {
		return err
	}
	if standing == lifecycle.Leaving {
		people, err := s.signIn(ctx, t.People)
		if err != nil {
			return err
		}
		d, err := s.sys.Leave(ctx, people, s.ids[t.Contractor])
		if err != nil {
			return err
		}
		s.say(t.People, "had just said that %s leaves when an evening was interrupted; that is done now: %v", t.Contractor, d.Done)
	}
	if err := s.sys.Sweep(ctx); err != nil {
		return err
	}
	maya, err := s.signIn(ctx, t.Engineer)
	if err != nil {
		return err
	}
	open, err := s.sys.JIT().RevokeSubject(ctx, maya, maya.ID(), audit.EventID{})
	if err != nil {
		return err
	}
	for _, id := range open {
		g, err := s.sys.JIT().Load(ctx, id)
		if err != nil {
			return err
		}
		s.say(t.Engineer, "still had %s of %s open, which ends now: it is %s", g.Request.Role, g.FiledAt.Local().Format(time.DateTime), g.Status)
	}
	return s.sys.Lifecycle().EndDelegations(ctx, maya, maya.ID(), audit.EventID{})
}

// request: eligible is not privileged.
func (s *story) request(ctx context.Context) error {
	t := s.org.Tonight
	maya, err := s.signIn(ctx, t.Engineer)
	if err != nil {
		return err
	}
	d := s.sys.JIT().Authorize(ctx, maya, "ssh:login", "ssh/"+t.Login)
	if d.Allowed || len(d.Requestable) == 0 {
		return fmt.Errorf("%s should have had nothing, and been eligible for %s: %+v", t.Engineer, t.Role, d)
	}
	s.say(t.Engineer, "signs in; she may not log in as %s, but is eligible through %v", t.Login, d.Requestable)
	s.grant, err = s.sys.JIT().Request(ctx, maya, jit.Request{
		Role: t.Role, Scope: []string{"ssh/" + t.Login, "ssh/" + t.AgentLogin}, Reason: t.Reason, Duration: rbac.Duration(s.tonight),
	})
	if err != nil {
		return err
	}
	s.say(t.Engineer, "asks for %s on ssh/%s and ssh/%s for %v: %q", t.Role, t.Login, t.AgentLogin, s.tonight, t.Reason)
	return nil
}

// approve: not by herself, not by her agent; by as many others as the policy says.
func (s *story) approve(ctx context.Context) error {
	t := s.org.Tonight
	hash := s.grant.Hash(s.sys.Origin())
	for _, who := range []string{t.Engineer, t.Agent} {
		c, err := s.signIn(ctx, who)
		if err != nil {
			return err
		}
		_, err = s.sys.JIT().Approve(ctx, c, s.grant.ID, hash)
		if err := s.refused(who, "to approve it", err); err != nil {
			return err
		}
	}
	maya, err := s.signIn(ctx, t.Engineer)
	if err != nil {
		return err
	}
	for _, who := range t.Approvers {
		_, err := s.sys.JIT().Activate(ctx, maya, s.grant.ID)
		if err := s.refused(t.Engineer, "to start", err); err != nil {
			return err
		}
		c, err := s.signIn(ctx, who)
		if err != nil {
			return err
		}
		if s.grant, err = s.sys.JIT().Approve(ctx, c, s.grant.ID, hash); err != nil {
			return err
		}
		s.say(who, "approves request %s…; it is %s", hash.String()[:12], s.grant.Status)
	}
	s.grant, err = s.sys.JIT().Activate(ctx, maya, s.grant.ID)
	if err != nil {
		return err
	}
	s.say(t.Engineer, "activates it; it ends at %s", s.grant.NotAfter.Local().Format("15:04:05.000"))
	return nil
}

// connect: a certificate for what was granted, and a login with it.
func (s *story) connect(ctx context.Context) error {
	t := s.org.Tonight
	maya, err := s.signIn(ctx, t.Engineer)
	if err != nil {
		return err
	}
	issue := func(principals ...string) (credentials.Credential, error) {
		return s.sys.Issuer().Issue(ctx, maya, credentials.Request{Type: "ssh", Grant: string(s.grant.ID), Principals: principals, Key: s.key.line})
	}
	_, err = issue(t.Login, t.OtherLogin)
	if err := s.refused(t.Engineer, "a certificate for "+t.OtherLogin, err); err != nil {
		return err
	}
	if s.cert, err = issue(t.Login); err != nil {
		return err
	}
	s.say(t.Engineer, "has certificate %s for %s until %s", s.cert.Serial, t.Login, s.cert.NotAfter.Local().Format("15:04:05"))
	if s.open, err = s.client.login(ctx, s.key, s.cert.Public, t.Login, "hold"); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	s.say(t.Engineer, "logs in as %s with %s, and keeps the connection open", s.open.user, s.client.name())
	return s.notAdmitted(ctx, t.Engineer, s.key, s.cert.Public, t.AgentLogin)
}

// notAdmitted expects the gateway to refuse the login.
func (s *story) notAdmitted(ctx context.Context, who string, key sshKey, cert []byte, user string) error {
	if err := s.client.run(ctx, key, cert, user); err == nil {
		return fmt.Errorf("%s should not have been able to log in as %s", who, user)
	}
	why := s.gate.refusal()
	if why == nil {
		return errors.New("a login failed, but not because the certificate was refused")
	}
	s.say("the gateway", "refuses %s as %s: %v", who, user, why)
	return nil
}

// delegate: an agent gets a part of what she has, and no more.
func (s *story) delegate(ctx context.Context) error {
	t := s.org.Tonight
	maya, err := s.signIn(ctx, t.Engineer)
	if err != nil {
		return err
	}
	scope := identity.Scope{Actions: []string{"ssh:login"}, Resources: []string{"ssh/" + t.AgentLogin}}
	d, err := s.sys.Lifecycle().Delegate(ctx, maya, s.ids[t.Agent], scope, time.Minute, 0)
	if err != nil {
		return err
	}
	s.say(t.Engineer, "lets %s log in as %s for her, for a minute", t.Agent, t.AgentLogin)
	self, err := s.signIn(ctx, t.Agent)
	if err != nil {
		return err
	}
	agent, err := s.sys.Gate().Under(ctx, self, d.ID)
	if err != nil {
		return err
	}
	issue := func(principals ...string) (credentials.Credential, error) {
		return s.sys.Issuer().Issue(ctx, agent, credentials.Request{Type: "ssh", Grant: string(s.grant.ID), Principals: principals, Key: s.agent.line})
	}
	cert, err := issue(t.AgentLogin)
	if err != nil {
		return err
	}
	if err := s.client.run(ctx, s.agent, cert.Public, t.AgentLogin); err != nil {
		return err
	}
	s.say(t.Agent, "logs in as %s, with a certificate of its own", t.AgentLogin)
	_, err = issue(t.Login)
	if err := s.refused(t.Agent, "a certificate for "+t.Login, err); err != nil {
		return err
	}
	_, err = s.sys.JIT().Use(ctx, agent, "ssh:login", "ssh/"+t.Login)
	return s.refused(t.Agent, "to act as "+t.Login, err)
}

// forge: the CA key alone is not enough.
func (s *story) forge(ctx context.Context) error {
	t := s.org.Tonight
	parsed, _, _, _, err := ssh.ParseAuthorizedKey(s.cert.Public)
	if err != nil {
		return err
	}
	real, ok := parsed.(*ssh.Certificate)
	if !ok {
		return errors.New("what was minted is not a certificate")
	}
	signer, err := ssh.NewSignerFromSigner(s.ca)
	if err != nil {
		return err
	}
	s.say("a thief", "has the CA's key, and signs certificates with it")
	for _, receipt := range []string{"", real.Extensions[sshcert.ReceiptExtension]} {
		forged := *real
		forged.Extensions = map[string]string{"permit-pty": ""}
		forged.ValidPrincipals = []string{t.Login, t.OtherLogin}
		if receipt != "" {
			forged.Extensions[sshcert.ReceiptExtension] = receipt
		}
		if err := forged.SignCert(rand.Reader, signer); err != nil {
			return err
		}
		if err := s.notAdmitted(ctx, "a thief", s.key, ssh.MarshalAuthorizedKey(&forged), t.OtherLogin); err != nil {
			return err
		}
	}
	return nil
}

// expire: the grant ends with a connection open.
func (s *story) expire(ctx context.Context) error {
	t := s.org.Tonight
	select {
	case <-s.open.done:
		if early := time.Until(s.cert.NotAfter.Truncate(time.Second)); early > 0 {
			return fmt.Errorf("the connection was cut %v early", early)
		}
	case <-time.After(time.Until(s.grant.NotAfter) + 2*time.Second):
		return errors.New("the connection outlived the grant")
	case <-ctx.Done():
		return ctx.Err()
	}
	s.say("the gateway", "cuts %s's connection: the certificate is over", t.Engineer)
	if err := s.notAdmitted(ctx, t.Engineer, s.key, s.cert.Public, t.Login); err != nil {
		return err
	}
	time.Sleep(time.Until(s.grant.NotAfter))
	maya, err := s.signIn(ctx, t.Engineer)
	if err != nil {
		return err
	}
	_, err = s.sys.JIT().Use(ctx, maya, "ssh:login", "ssh/"+t.Login)
	if err := s.refused(t.Engineer, "to go on", err); err != nil {
		return err
	}
	return s.sys.Sweep(ctx)
}
