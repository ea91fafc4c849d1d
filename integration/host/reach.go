package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnreachable says that nothing came back in time, or that there was no route.
var ErrUnreachable = errors.New("unreachable")

const resend = 200 * time.Millisecond // a lost first frame must not fail a ping

// Ping sends ICMP echo requests from the namespace until dst answers or the time
// is up, and then fails with ErrUnreachable. A link-local dst needs its zone.
func (n *Netns) Ping(dst netip.Addr, within time.Duration) error {
	return n.Do(func() error {
		p, err := newPinger(dst)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(p.fd) }() // a socket has nothing to flush
		deadline := time.Now().Add(within)
		for seq := uint16(1); time.Now().Before(deadline); seq++ {
			ok, err := p.once(seq, min(resend, time.Until(deadline)))
			if ok {
				return nil
			}
			if err != nil {
				return fmt.Errorf("ping %s: %w: %w", dst, ErrUnreachable, err)
			}
		}
		return fmt.Errorf("ping %s: %w: no answer within %s", dst, ErrUnreachable, within)
	})
}

type pinger struct {
	fd  int
	dst netip.Addr
	to  unix.Sockaddr
	id  uint16
}

func newPinger(dst netip.Addr) (*pinger, error) {
	p := &pinger{dst: dst, id: uint16(rand.Uint32())}
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if dst.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		sa := &unix.SockaddrInet6{Addr: dst.As16()}
		if dst.Zone() != "" {
			nic, err := net.InterfaceByName(dst.Zone())
			if err != nil {
				return nil, err
			}
			sa.ZoneId = uint32(nic.Index)
		}
		p.to = sa
	} else {
		p.to = &unix.SockaddrInet4{Addr: dst.As4()}
	}
	var err error
	p.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	return p, err
}

// once sends one request and waits for its answer.
func (p *pinger) once(seq uint16, wait time.Duration) (bool, error) {
	err := unix.Sendto(p.fd, p.request(seq, 0), 0, p.to)
	// A full table of neighbours, which all namespaces share, is EINVAL with IPv6 and
	// ENOBUFS with IPv4, and gets room again: that is no answer yet.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOBUFS) {
		return false, err
	}
	buf := make([]byte, 1500)
	for deadline := time.Now().Add(wait); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return false, err
		}
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		if p.answers(buf[:n], from, seq) {
			return true, nil
		}
	}
}

// request is an echo request with a number; the kernel fills in ICMPv6's checksum itself.
func (p *pinger) request(seq uint16, number uint64) []byte {
	b := make([]byte, 16)
	b[0] = 8
	if p.dst.Is6() {
		b[0] = 128
	}
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	binary.BigEndian.PutUint64(b[8:], number)
	if p.dst.Is4() {
		var sum uint32
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum+sum>>16))
	}
	return b
}

func (p *pinger) answers(b []byte, from unix.Sockaddr, seq uint16) bool {
	reply := byte(0)
	switch sa := from.(type) {
	case *unix.SockaddrInet4:
		if len(b) < 20 || netip.AddrFrom4(sa.Addr) != p.dst {
			return false
		}
		b = b[int(b[0]&15)*4:]
	case *unix.SockaddrInet6:
		if netip.AddrFrom16(sa.Addr) != p.dst.WithZone("") {
			return false
		}
		reply = 129
	}
	return len(b) >= 8 && b[0] == reply &&
		binary.BigEndian.Uint16(b[4:]) == p.id && binary.BigEndian.Uint16(b[6:]) >= 1 && binary.BigEndian.Uint16(b[6:]) <= seq
}

// Serve answers TCP connections in the namespace with the address they come
// from, until the listener is closed.
func (n *Netns) Serve(addr netip.AddrPort) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() (err error) { l, err = net.Listen("tcp", addr.String()); return err })
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().String()) // the client sees an empty answer
			_ = c.Close()
		}
	}()
	return l, nil
}

// Ask connects to a server started with Serve and returns the address that the
// server saw. It fails with ErrUnreachable when nobody answers in time.
func (n *Netns) Ask(server netip.AddrPort, within time.Duration) (netip.AddrPort, error) {
	seen, err := n.Exchange(server, "", within)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(seen)
}

// Exchange sends a request to a TCP server and returns what it answers before it
// closes the connection. It fails with ErrUnreachable when nobody answers in time.
func (n *Netns) Exchange(server netip.AddrPort, request string, within time.Duration) (string, error) {
	var answer []byte
	err := n.Do(func() error {
		c, err := net.DialTimeout("tcp", server.String(), within)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }() // read to its end
		if err := c.SetDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, request); err != nil {
			return err
		}
		answer, err = io.ReadAll(c)
		return err
	})
	for _, silent := range []error{os.ErrDeadlineExceeded, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNREFUSED} {
		if errors.Is(err, silent) {
			return "", fmt.Errorf("connect to %s: %w: %w", server, ErrUnreachable, err)
		}
	}
	return string(answer), err
}
