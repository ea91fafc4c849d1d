package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// rtnl is a socket to rtnetlink in one network namespace. Many requests travel
// in one send: an ADD is a handful of system calls instead of dozens.
type rtnl struct {
	fd     int
	buf    []byte
	broken bool // there may be answers left that nobody has waited for
}

// request is one message with what to do with its answer.
type request struct {
	*nl.NetlinkRequest
	step    int                  // index of the step it belongs to
	answer  func(payload []byte) // called with each message that is no acknowledgement; may be nil
	absent  bool                 // "not there" counts as success
	explain func(error) error    // turns an errno into something with a kind; may be nil
}

// rtnlTimeout bounds the wait for an answer that never comes; the kernel answers
// synchronously, so it never passes unless the machine is dying.
const rtnlTimeout = 60

// dialRTNL opens a socket in the namespace of the calling thread.
func dialRTNL() (*rtnl, error) {
	c, err := dialNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	// The kernel's own words on failure, which those before 4.12 have none of.
	_ = unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return c, nil
}

// dialNetlink opens a socket of a protocol in the namespace of the calling thread.
func dialNetlink(protocol int) (*rtnl, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	// Short acknowledgements. Kernels before 4.12 answer at length.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: rtnlTimeout})
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &rtnl{fd: fd, buf: make([]byte, 32<<10)}, nil
}

// dialRTNLAt opens a socket in another namespace.
func dialRTNLAt(ns *os.File) (c *rtnl, err error) {
	err = inNetns(ns, func() error {
		c, err = dialRTNL()
		return err
	})
	return c, err
}

func (c *rtnl) close() { _ = unix.Close(c.fd) }

// maxSend is how many requests travel together: the socket has room for the answers
// of so many (212 kB by default, of which a netdev takes up to 4), and the kernel
// drops what finds none.
const maxSend = 48

// do carries out the requests and waits for all their answers. The kernel handles
// them in order and does not stop at a failure among those that travel together; the
// first one is returned, with the step it belongs to.
func (c *rtnl) do(requests []request) error {
	for together := range slices.Chunk(requests, maxSend) {
		if err := c.exchange(together); err != nil {
			return err
		}
	}
	return nil
}

// exchange is do for requests that travel together.
func (c *rtnl) exchange(requests []request) error {
	var out []byte
	waiting := make(map[uint32]int, len(requests))
	for i, r := range requests {
		waiting[r.Seq] = i
		out = append(out, r.Serialize()...)
		for len(out)%unix.NLMSG_ALIGNTO != 0 {
			out = append(out, 0)
		}
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return &requestError{step: requests[0].step, err: os.NewSyscallError("netlink send", err)}
	}
	failed := make([]error, len(requests))
	for len(waiting) > 0 {
		if err := c.receive(requests, waiting, failed); err != nil {
			c.broken = true
			return &requestError{step: requests[0].step, err: err}
		}
	}
	for i, err := range failed {
		if err != nil {
			return &requestError{step: requests[i].step, err: err}
		}
	}
	return nil
}

// maxDumpTries is how often a dump is begun again because what it lists changed
// meanwhile.
const maxDumpTries = 5

// dump sends a dump request and hands each message to answer. It is the one place
// that begins again when the kernel says that the list is torn; reset is called
// before each try.
func (c *rtnl) dump(r *nl.NetlinkRequest, reset func(), answer func([]byte)) (err error) {
	for range maxDumpTries {
		reset()
		if err = c.do([]request{{NetlinkRequest: r, answer: answer}}); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return err
}

// receive handles one datagram.
func (c *rtnl) receive(requests []request, waiting map[uint32]int, failed []error) error {
	n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("netlink receive", err)
	}
	messages, err := syscall.ParseNetlinkMessage(c.buf[:n])
	if err != nil {
		return fmt.Errorf("netlink answer: %w", err)
	}
	for _, m := range messages {
		i, ours := waiting[m.Header.Seq]
		if !ours {
			continue // the rest of an answer to a request that was given up
		}
		switch {
		case m.Header.Type == unix.NLMSG_DONE:
			delete(waiting, m.Header.Seq)
			if m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
				failed[i] = unix.EINTR
			}
		case m.Header.Type == unix.NLMSG_ERROR:
			delete(waiting, m.Header.Seq)
			failed[i] = requests[i].verdict(ackError(m))
		case requests[i].answer != nil:
			requests[i].answer(m.Data)
		}
	}
	return nil
}

// verdict is what an acknowledgement means for the request.
func (r request) verdict(err error) error {
	if err == nil || r.absent && isAbsent(err) {
		return nil
	}
	if r.explain != nil {
		return r.explain(err)
	}
	return err
}

// isAbsent reports the ways in which the kernel says that something is not there.
func isAbsent(err error) bool {
	for _, errno := range []syscall.Errno{unix.ENODEV, unix.ENOENT, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENXIO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// requestError carries a failure to its step.
type requestError struct {
	step int
	err  error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// kernelSaid is an errno with the text that the kernel gave for it.
type kernelSaid struct {
	errno syscall.Errno
	text  string
}

func (e *kernelSaid) Error() string { return fmt.Sprintf("%s (%s)", e.errno.Error(), e.text) }
func (e *kernelSaid) Unwrap() error { return e.errno }

// ackError reads an NLMSG_ERROR: nil for an acknowledgement, otherwise the errno
// and, from the extended acknowledgement, the kernel's explanation.
func ackError(m syscall.NetlinkMessage) error {
	if len(m.Data) < unix.SizeofNlMsgerr {
		return unix.EBADMSG
	}
	code := int32(binary.NativeEndian.Uint32(m.Data))
	if code == 0 {
		return nil
	}
	errno := syscall.Errno(-code)
	const ackTLVs = 0x200 // NLM_F_ACK_TLVS
	if m.Header.Flags&ackTLVs == 0 {
		return errno
	}
	rest := m.Data[unix.SizeofNlMsgerr:]
	const capped = 0x100 // NLM_F_CAPPED: the request's payload is left out
	if m.Header.Flags&capped == 0 {
		payload := int(binary.NativeEndian.Uint32(m.Data[4:])) - unix.SizeofNlMsghdr
		if payload < 0 || payload > len(rest) {
			return errno
		}
		rest = rest[payload:]
	}
	attributes, err := nl.ParseRouteAttr(rest)
	if err != nil {
		return errno
	}
	const nlmsgerrAttrMsg = 1
	for _, a := range attributes {
		if a.Attr.Type == nlmsgerrAttrMsg {
			return &kernelSaid{errno: errno, text: strings.TrimRight(string(a.Value), "\x00")}
		}
	}
	return errno
}
