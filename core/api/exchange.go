package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"syscall"
	"time"
)

// errDied says that patchbayd took a request and did not answer it.
var errDied = errors.New("patchbayd did not answer")

// refusedError says that patchbayd does not carry the request out.
type refusedError struct{ refusal }

func (e *refusedError) Error() string { return "patchbayd: " + e.Reason }

// patience bounds the wait for a sign of patchbayd: one that is stopped must not keep
// containers from starting. A request that takes longer is told to be taken.
const (
	patience = 2 * time.Second
	lateness = 500 * time.Millisecond
)

// exchange sends a verb to patchbayd and waits for the answer. Any error but
// errDied means that nothing was done. The socket is used without package net's
// poller, whose start costs a plugin more than the exchange.
func (c *remote) exchange(ctx context.Context, name string, a args) (answer, error) {
	var reply answer
	if err := ctx.Err(); err != nil {
		return reply, err
	}
	s, err := connect(c.socket)
	if err != nil {
		return reply, err
	}
	defer s.close()
	out, err := c.request(name, a)
	if err != nil {
		return reply, err
	}
	stop := context.AfterFunc(ctx, s.hangUp)
	defer stop()
	if _, err := s.Write(out); err != nil {
		return reply, err
	}
	err = s.await(&reply)
	return reply, err
}

func (c *remote) request(name string, a args) ([]byte, error) {
	r := request{Protocol: protocol, Build: c.build, Verb: name, Args: make([]json.RawMessage, len(a))}
	var err error
	for i, v := range a {
		if r.Args[i], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	if r.Place, err = here(c.dirs); err != nil {
		return nil, err
	}
	return frame(0, r, maxRequest)
}

// skewed asks a patchbayd of another build who it is; nil if there is none.
func (c *remote) skewed(ctx context.Context) *refusal {
	var r *refusedError
	if _, err := c.exchange(ctx, nameMACPool, args{}); errors.As(err, &r) && r.Skewed {
		return &r.refusal
	}
	return nil
}

// wire is a connected socket.
type wire int

// connect fails at once where nobody listens.
func connect(path string) (wire, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	wait := syscall.NsecToTimeval(patience.Nanoseconds())
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &wait) // of connect too
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait)
	for {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		if err == nil {
			return wire(fd), nil
		}
		if !errors.Is(err, syscall.EINTR) {
			_ = syscall.Close(fd)
			return -1, err
		}
	}
}

func (w wire) close() { _ = syscall.Close(int(w)) }

// hangUp ends whatever waits for the other side.
func (w wire) hangUp() { _ = syscall.Shutdown(int(w), syscall.SHUT_RDWR) }

// Write sends all of b.
func (w wire) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		n, err := syscall.SendmsgN(int(w), b[sent:], nil, nil, syscall.MSG_NOSIGNAL)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// Read is io.Reader's.
func (w wire) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(w), b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// await reads the answer, or a refusal as a *refusedError. Once the request is taken
// there is no limit: it ends, or patchbayd does. A patchbayd that comes to it too late
// finds the line dead and does not begin.
func (w wire) await(reply *answer) error {
	r := bufio.NewReaderSize(w, 8<<10)
	kind, err := r.ReadByte()
	if err == nil && kind == taken {
		if err := syscall.SetsockoptTimeval(int(w), syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{}); err != nil {
			return err
		}
		kind, err = r.ReadByte()
	}
	if errors.Is(err, syscall.EAGAIN) {
		return err // it has not begun
	}
	var body []byte
	if err == nil {
		body, err = readFrame(r, maxAnswer)
	}
	var no refusal
	switch {
	case err != nil:
	case kind == refused:
		if err = json.Unmarshal(body, &no); err == nil {
			return &refusedError{no}
		}
	default:
		err = json.Unmarshal(body, reply)
	}
	if err != nil {
		return errors.Join(errDied, err)
	}
	return nil
}
