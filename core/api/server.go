package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// Server carries out verbs for clients on a unix socket, for root alone.
type Server struct {
	verbs  Verbs
	served map[string]verb
	plugin Plugin
	hook   Hook
	place  wire.Place
	build  string
	log    *slog.Logger
	slots  chan struct{}
}

// ServerConfig is what a server needs.
type ServerConfig struct {
	Verbs  Verbs
	Plugin Plugin // nil: calls of the CNI plugin are left to it
	Hook   Hook   // nil: calls of the libvirt hook are left to it
	Dirs   Directories
	Log    *slog.Logger
}

// Plugin carries out a call of the CNI plugin with these verbs. Where done is false it
// has done nothing, and the call is for the plugin's own process.
type Plugin func(ctx context.Context, v Verbs, c wire.Call) (a wire.Answer, done bool)

// NewServer returns a server of the host that the calling thread is on.
func NewServer(c ServerConfig) (*Server, error) {
	p, err := wire.Here(c.Dirs.State, c.Dirs.Run)
	if err != nil {
		return nil, err
	}
	return &Server{
		verbs: c.Verbs, served: served(), plugin: c.Plugin, hook: c.Hook, place: p, build: wire.Build,
		log: c.Log, slots: make(chan struct{}, maxConnections),
	}, nil
}

const (
	// maxConnections are served at a time; more wait to be accepted.
	maxConnections = 256
	// requestPatience is how long a client may take to send its request, and to
	// take the answer. Both are timers of the connection and gone with it.
	requestPatience = 10 * time.Second
)

// Serve accepts clients until the listener is closed or ctx ends, and returns when
// the last one has its answer. What changes the host is always finished.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	var group sync.WaitGroup
	defer group.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() { _ = l.Close() }() // twice is as good as once
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.AcceptUnix()
		if err != nil {
			<-s.slots
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		group.Go(func() {
			defer func() { <-s.slots }()
			defer func() { _ = c.Close() }() // what had to be written is
			if err := s.serve(ctx, c); err != nil {
				s.log.Warn("request refused", "err", err)
			}
		})
	}
}

// serve handles one client. Its error is about the client; that of a verb goes to
// the client.
func (s *Server) serve(ctx context.Context, c *net.UnixConn) error {
	if err := root(c); err != nil {
		return err
	}
	body, err := readRequest(ctx, c)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	run, err := s.admit(body)
	if err != nil {
		return s.refuse(c, err)
	}
	if gone(c) {
		return errors.New("the client is gone already")
	}
	ctx = context.WithoutCancel(ctx)
	if !run.changes {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go awaitEnd(c, cancel)
	}
	said := make(chan struct{})
	late := time.AfterFunc(lateness, func() {
		_, _ = c.Write([]byte{wire.Taken}) // if that fails, the client is gone
		close(said)
	})
	start := time.Now()
	result, err := run.do(ctx, s.verbs)
	s.tell(run, err, time.Since(start))
	if !late.Stop() {
		<-said
	}
	if err == errNotOurs { //nolint:errorlint // the plugin's call returns it bare
		return s.refuse(c, err)
	}
	return s.reply(c, result, err)
}

// readRequest reads a request. Most are there already when their client is accepted,
// and need no timer.
func readRequest(ctx context.Context, c *net.UnixConn) ([]byte, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	first := make([]byte, 8<<10)
	n := 0
	err = raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), first) // an error comes again below
		return true
	})
	if err != nil {
		return nil, err
	}
	r := bytes.NewReader(first[:max(n, 0)])
	if n >= wire.FrameHeader && n-wire.FrameHeader >= int(binary.BigEndian.Uint32(first)) {
		return wire.ReadFrame(r, wire.MaxRequest)
	}
	if err := c.SetReadDeadline(time.Now().Add(requestPatience)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.CloseRead() }) // nobody is waited for at the end
	defer stop()
	body, err := wire.ReadFrame(io.MultiReader(r, c), wire.MaxRequest)
	return body, errors.Join(err, c.SetReadDeadline(time.Time{}))
}

// gone reports that the client has hung up: it does by itself what it asked for.
func gone(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	hungUp := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		hungUp = err == nil && n == 0
		return true
	})
	return err != nil || hungUp
}

// awaitEnd calls cancel when the client hangs up; it sends nothing any more.
func awaitEnd(c *net.UnixConn, cancel func()) {
	var b [1]byte
	_, _ = c.Read(b[:]) // whatever comes ends it
	cancel()
}

// admit reads a request. Nothing has been done while it fails.
func (s *Server) admit(body []byte) (run call, err error) {
	if wire.IsCall(body) {
		return s.admitCall(body)
	}
	if wire.IsHookCall(body) {
		return s.admitHookCall(body)
	}
	var r request
	if err := decodeStrict(body, &r); err != nil {
		return run, fmt.Errorf("malformed request: %w", err)
	}
	if r.Protocol != protocol {
		return run, skewError{fmt.Errorf("the client is of protocol %d, this is %d", r.Protocol, protocol)}
	}
	if err := s.fits(r.Build, r.Place); err != nil {
		return run, err
	}
	v, ok := s.served[r.Verb]
	if !ok {
		return run, fmt.Errorf("unknown verb %.64q", r.Verb)
	}
	run, err = v.parse(r.Args)
	run.verb, run.changes = r.Verb, v.changes
	return run, err
}

// fits refuses a client that does not work as this process does, or not here.
func (s *Server) fits(build string, p wire.Place) error {
	if build != s.build {
		return skewError{fmt.Errorf("the client is of build %.64q, this is %q", build, s.build)}
	}
	if reason := s.place.Difference(p); reason != "" {
		return elsewhereError{errors.New(reason)}
	}
	return nil
}

// The clients that rightly carry their verbs out themselves: one of another build,
// and one that is not on this host.
type (
	skewError      struct{ error }
	elsewhereError struct{ error }
)

// refuse tells a client why, and returns what the log should know.
func (s *Server) refuse(c *net.UnixConn, reason error) error {
	_, skewed := reason.(skewError)         //nolint:errorlint // admit returns it bare
	_, elsewhere := reason.(elsewhereError) //nolint:errorlint // likewise
	out, err := frame(wire.Refused, refusal{Reason: reason.Error(), Skewed: skewed, Build: s.build, PID: os.Getpid()}, wire.MaxRequest)
	if err == nil {
		_, err = c.Write(out)
	}
	if elsewhere || reason == errNotOurs { //nolint:errorlint // likewise
		return err
	}
	return errors.Join(reason, err)
}

// reply sends the answer. A client that does not take it is given up.
func (s *Server) reply(c *net.UnixConn, result any, failed error) error {
	out, err := answerFrame(result, failed)
	if err != nil {
		return err
	}
	const buffered = 64 << 10 // a write of so much does not wait
	if len(out) > buffered {
		if err := c.SetWriteDeadline(time.Now().Add(requestPatience)); err != nil {
			return err
		}
	}
	_, err = c.Write(out)
	return err
}

func answerFrame(result any, failed error) ([]byte, error) {
	if a, ok := result.(wire.Answer); ok {
		return wire.AppendAnswer(nil, a)
	}
	raw, err := json.Marshal(result)
	if err != nil {
		failed = errors.Join(failed, fmt.Errorf("answer: %w", err))
	}
	out, err := frame(wire.Answered, answer{Result: raw, Error: encodeError(failed, 0)}, wire.MaxAnswer)
	if err != nil {
		out, err = frame(wire.Answered, answer{Error: encodeError(errors.Join(failed, err), 0)}, wire.MaxAnswer)
	}
	return out, err
}

// root refuses everybody but root, as the socket's mode does already.
func root(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		peer, optErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, optErr); err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	if peer.Uid != 0 {
		return fmt.Errorf("process %d of user %d is not root", peer.Pid, peer.Uid)
	}
	return nil
}

// tell logs a change, or a failure to make one.
func (s *Server) tell(run call, err error, took time.Duration) {
	if !run.changes || run.verb == nameCanAttach || run.verb == namePlugin || run.verb == nameHook { // whose verbs tell
		return
	}
	about := []any{"took", took.Round(time.Microsecond)}
	for _, a := range run.args {
		about = append(about, subject(a)...)
	}
	if err != nil {
		s.log.Warn(run.verb, append(about, "kind", string(vswitch.KindOf(err)), "err", err)...)
		return
	}
	s.log.Info(run.verb, about...)
}
