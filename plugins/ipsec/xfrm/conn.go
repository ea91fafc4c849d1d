package xfrm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Conn asks the kernel about the SAs of one network namespace, and moves them. Its methods
// may be called several at once; they take turns.
type Conn struct {
	mu     sync.Mutex
	fd     int
	port   uint32
	number uint32
}

// patience is how long the kernel may take to answer, in seconds: it does so before the
// question returns.
const patience = 5

// Open makes a Conn of the network namespace that the calling thread is in.
func Open() (*Conn, error) {
	fd, port, err := open()
	if err != nil {
		return nil, err
	}
	wait := unix.Timeval{Sec: patience}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Conn{fd: fd, port: port}, nil
}

// open makes a netlink socket, and says by which number the kernel knows it.
func open() (fd int, port uint32, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if err != nil {
		return 0, 0, fmt.Errorf("ask the kernel about SAs: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	name, nameErr := unix.Getsockname(fd)
	self, _ := name.(*unix.SockaddrNetlink)
	if err = errors.Join(err, nameErr); err != nil || self == nil {
		return 0, 0, errors.Join(fmt.Errorf("ask the kernel about SAs: %w", err), unix.Close(fd))
	}
	return fd, self.Pid, nil
}

// Close ends the Conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return unix.Close(c.fd)
}

// Port is what changes by this Conn are marked with, see Event.By.
func (c *Conn) Port() uint32 { return c.port }

// message is one from the kernel.
type message struct {
	kind    uint16
	flags   uint16
	number  uint32
	port    uint32
	payload []byte
}

// parseMessages divides a datagram; what is cut off at its end is left out.
func parseMessages(b []byte) (all []message) {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return all
		}
		all = append(all, message{
			kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]),
			number: binary.NativeEndian.Uint32(b[8:]), port: binary.NativeEndian.Uint32(b[12:]),
			payload: b[unix.SizeofNlMsghdr:n],
		})
		b = b[min(len(b), aligned(n)):]
	}
	return all
}

// datagram is more than the kernel puts into one.
const datagram = 1 << 16

// receive waits for a datagram of the kernel's.
func receive(fd int, buffer []byte) ([]message, error) {
	for {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		switch sender, _ := from.(*unix.SockaddrNetlink); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case sender != nil && sender.Pid == 0:
			return parseMessages(buffer[:n]), nil
		}
	}
}

// send sends requests in one datagram. The kernel carries all of them out, in order and
// whether others fail, before anybody else may change an SA, and before this returns: a
// process cannot end in between.
func (c *Conn) send(requests ...request) (first uint32, err error) {
	var b []byte
	first = c.number + 1
	for _, r := range requests {
		c.number++
		b = append(b, r.encode(c.number, c.port)...)
	}
	return first, unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// carryOut sends requests that are each answered with their success or error, which it
// returns, and hands what else comes meanwhile to hear.
func (c *Conn) carryOut(hear func(message), requests ...request) ([]error, error) {
	first, err := c.send(requests...)
	if err != nil {
		return nil, err
	}
	errs, open := make([]error, len(requests)), len(requests)
	buffer := make([]byte, datagram)
	for open > 0 {
		messages, err := receive(c.fd, buffer)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			i := int(m.number - first)
			if m.kind != unix.NLMSG_ERROR || i < 0 || i >= len(errs) {
				hear(m)
				continue
			}
			errs[i] = refusal(m)
			open--
		}
	}
	return errs, nil
}

func ignore(message) {}

// List is all SAs.
func (c *Conn) List() ([]SA, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		all, err := c.list()
		if !errors.Is(err, errChanged) {
			return all, err
		}
	}
}

// errChanged says that what was listed changed meanwhile.
var errChanged = errors.New("changed meanwhile")

func (c *Conn) list() (all []SA, err error) {
	first, err := c.send(request{kind: nl.XFRM_MSG_GETSA, flags: unix.NLM_F_DUMP})
	if err != nil {
		return nil, err
	}
	buffer := make([]byte, datagram)
	changed := false
	for {
		messages, err := receive(c.fd, buffer)
		if err != nil {
			return nil, fmt.Errorf("list SAs: %w", err)
		}
		for _, m := range messages {
			if m.number != first {
				continue
			}
			changed = changed || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.kind {
			case unix.NLMSG_DONE:
				if changed {
					return nil, errChanged
				}
				return all, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("list SAs: %w", refusal(m))
			case nl.XFRM_MSG_NEWSA:
				if sa, err := Parse(m.payload); err == nil { // one of a family that we do not know is nobody's
					all = append(all, sa)
				}
			}
		}
	}
}

// Get is the SA as it is now; ErrGone where there is none.
func (c *Conn) Get(k Key) (SA, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.get(k)
}

func (c *Conn) get(k Key) (sa SA, err error) {
	found := false
	errs, err := c.carryOut(func(m message) {
		if m.kind == nl.XFRM_MSG_NEWSA && m.port == c.port && !found {
			sa, err = Parse(m.payload)
			found = err == nil
		}
	}, k.request(nl.XFRM_MSG_GETSA, unix.NLM_F_ACK))
	if err == nil {
		err = errs[0]
	}
	switch {
	case errors.Is(err, unix.ESRCH):
		return SA{}, ErrGone
	case err == nil && !found:
		err = errors.New("the kernel did not tell")
	}
	if err != nil {
		return SA{}, fmt.Errorf("look at %s: %w", k, err)
	}
	return sa, nil
}

// ErrGone says that an SA is no more.
var ErrGone = errors.New("the SA is no more")

// refusal is the error of an acknowledgement, nil if it is none, with the kernel's words.
func refusal(m message) error {
	if len(m.payload) < 4 {
		return errors.New("an acknowledgement without a result")
	}
	code := int32(binary.NativeEndian.Uint32(m.payload))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	if words := explanation(m); words != "" {
		return &Refusal{errno, words}
	}
	return &Refusal{errno, errno.Error()}
}

// Refusal is the kernel's, or a driver's, in its words.
type Refusal struct {
	Errno unix.Errno
	Words string
}

// Error is the words.
func (r *Refusal) Error() string { return r.Words }

// Unwrap is the number.
func (r *Refusal) Unwrap() error { return r.Errno }

// explanation is what the kernel says about an error in words, if anything.
func explanation(m message) string {
	const tlvs, message = 0x200, 1 // NLM_F_ACK_TLVS, NLMSGERR_ATTR_MSG
	if m.flags&tlvs == 0 || len(m.payload) < 4+unix.SizeofNlMsghdr {
		return ""
	}
	skip := 4 + unix.SizeofNlMsghdr
	if m.flags&unix.NLM_F_CAPPED == 0 { // what was asked follows
		skip = 4 + aligned(int(binary.NativeEndian.Uint32(m.payload[4:])))
	}
	if skip < 0 || skip > len(m.payload) {
		return ""
	}
	attrs, err := parseAttrs(m.payload[skip:])
	if err != nil {
		return ""
	}
	i := slices.IndexFunc(attrs, func(a attr) bool { return a.kind == message })
	if i < 0 {
		return ""
	}
	words := attrs[i].data
	if n := slices.Index(words, 0); n >= 0 {
		words = words[:n]
	}
	return string(words)
}
