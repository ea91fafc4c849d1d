package wire

import (
	"errors"
	"io"
	"syscall"
)

// Conn is a client's connected socket. It is used without package net's poller, whose
// start costs a plugin more than the exchange.
type Conn int

// Patience bounds in seconds how long a client waits for a sign of patchbayd: one that
// is stopped must not keep containers from starting. A request that takes longer is
// told to be taken.
const Patience = 2

// ErrDied says that patchbayd took a request and did not answer it.
var ErrDied = errors.New("patchbayd did not answer")

// Dial connects. It fails at once where nobody listens.
func Dial(path string) (Conn, error) { return dial(path, syscall.Timeval{Sec: Patience}) }

func dial(path string, silent syscall.Timeval) (Conn, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &silent) // of connect too
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &silent)
	for {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		if err == nil {
			return Conn(fd), nil
		}
		if err != syscall.EINTR {
			_ = syscall.Close(fd)
			return -1, err
		}
	}
}

// Close ends the connection.
func (c Conn) Close() { _ = syscall.Close(int(c)) }

// HangUp ends whatever waits for the other side.
func (c Conn) HangUp() { _ = syscall.Shutdown(int(c), syscall.SHUT_RDWR) }

// Write sends all of b.
func (c Conn) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		n, err := syscall.SendmsgN(int(c), b[sent:], nil, nil, syscall.MSG_NOSIGNAL)
		if err == syscall.EINTR {
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
func (c Conn) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(c), b)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Await reads what patchbayd says to a request: Answered or Refused, with what is in the
// frame. Once the request is taken there is no limit: it ends, or patchbayd does. A
// patchbayd that comes to it too late finds the line dead and does not begin. An error
// that is not ErrDied means that nothing was done.
func (c Conn) Await() (kind byte, body []byte, err error) { return c.await(syscall.Timeval{}) }

// errLate says that patchbayd has taken a request and not ended in time.
var errLate = errors.New("patchbayd is at it still")

// await is Await with a limit to what follows once the request is taken, if there is any.
func (c Conn) await(busy syscall.Timeval) (kind byte, body []byte, err error) {
	var first [1]byte
	_, err = io.ReadFull(c, first[:])
	if err == nil && first[0] == Taken {
		if err := syscall.SetsockoptTimeval(int(c), syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &busy); err != nil {
			return 0, nil, err
		}
		if _, err = io.ReadFull(c, first[:]); errors.Is(err, syscall.EAGAIN) {
			return 0, nil, errLate
		}
	}
	if errors.Is(err, syscall.EAGAIN) {
		return 0, nil, err // it has not begun
	}
	if err == nil {
		body, err = ReadFrame(c, MaxAnswer)
	}
	if err == nil && first[0] != Refused && first[0] != Answered {
		err = errors.New("not an answer")
	}
	if err != nil {
		return 0, nil, errors.Join(ErrDied, err)
	}
	return first[0], body, nil
}
