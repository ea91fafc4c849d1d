package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// udpPayload is what of a whole Ethernet frame is a datagram's.
const udpPayload = 1472

// TestLimitsAreAccurate sends as much as goes, and counts what the token bucket has let
// through against the time that it took. A machine that is busy can make it less, for who
// serves the bucket comes late, but never more: one of several seconds is to be right, and
// none too much.
func TestLimitsAreAccurate(t *testing.T) {
	l := newLinuxLab(t, 1)
	had := plan.State{}
	for _, rate := range []vswitch.Bits{10e6, 1e9} {
		limited := l.limited(rate, rate)
		l.reach(limited, had)
		had = limited
		for _, network := range []string{"tcp", "udp"} {
			for _, way := range []struct {
				name     string
				from, to *os.File
				address  string
				shaper   string
			}{{"to the guest", l.host, l.guests[0], "10.0.0.10:7", limitedPort}, {"from the guest", l.guests[0], l.host, "10.0.0.1:7", limiter}} {
				name := fmt.Sprintf("%s %s %s", rate, network, way.name)
				t.Run(name, func(t *testing.T) {
					receiver := newFlow(t, network, way.address, way.from, way.to)
					parts := l.measure(t, receiver, way.shaper, rate)
					t.Logf("%s: %.1f %% of the limit", name, parts)
					if best := parts[len(parts)-1]; best < 95 || slices.Max(parts) > 105 {
						t.Errorf("%.1f %% of the limit passed", parts)
					}
				})
			}
		}
	}
}

// measure returns what passes a token bucket in a second, in per cent of a limit, of several
// seconds up to the first that is right.
func (l *linuxLab) measure(t *testing.T, receiver net.Conn, shaper string, rate vswitch.Bits) (parts []float64) {
	t.Helper()
	const second, patience = time.Second, 15
	drain(t, receiver, second/3) // what may pass at once, and TCP's beginning
	for range patience {
		before, began := l.passed(t, shaper)
		drain(t, receiver, second)
		after, ended := l.passed(t, shaper)
		part := float64(after-before) * 8 / ended.Sub(began).Seconds() / float64(rate) * 100
		if parts = append(parts, part); part >= 95 {
			break
		}
	}
	return parts
}

// passed is how many bytes a netdev's root queue has let through by when.
func (l *linuxLab) passed(t *testing.T, netdev string) (bytes uint64, at time.Time) {
	t.Helper()
	within(t, l.host, func() error {
		c, err := dialRTNL()
		if err != nil {
			return err
		}
		defer c.close()
		link, err := c.link(netdev)
		if err != nil {
			return err
		}
		return c.rootQueue(link.index, func(b []byte) {
			const header = 20 // struct tcmsg
			for kind, v := range attributes(b[header:]) {
				if kind == nl.TCA_STATS { // struct tc_stats
					bytes, at = binary.NativeEndian.Uint64(v), time.Now()
				}
			}
		})
	})
	return bytes, at
}

// drain takes what comes for a while.
func drain(t *testing.T, receiver net.Conn, while time.Duration) {
	t.Helper()
	b := make([]byte, 64<<10)
	for began := time.Now(); time.Since(began) < while; {
		if _, err := receiver.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// newFlow connects two namespaces by one connection that sends as much as it can, and
// returns its other end.
func newFlow(t *testing.T, network, address string, from, to *os.File) (receiver net.Conn) {
	t.Helper()
	var sender net.Conn
	within(t, to, func() (err error) {
		switch network {
		case "udp":
			at, err := net.ResolveUDPAddr("udp4", address)
			if err != nil {
				return err
			}
			receiver, err = net.ListenUDP("udp4", at)
			return err
		default:
			l, err := net.Listen("tcp4", address)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			if err := inNetns(from, func() (err error) {
				sender, err = net.Dial("tcp4", address)
				return err
			}); err != nil {
				return err
			}
			receiver, err = l.Accept()
			return err
		}
	})
	t.Cleanup(func() { _ = receiver.Close() })
	if network == "udp" {
		within(t, from, func() (err error) {
			sender, err = net.Dial("udp4", address)
			return err
		})
	}
	if err := receiver.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	t.Cleanup(func() { _ = sender.Close(); <-sent })
	go func() {
		defer close(sent)
		flood(sender)
	}()
	return receiver
}

// flood sends until the connection is closed, or its other end is. Datagrams go by the
// dozen, of the size of a frame.
func flood(c net.Conn) {
	size := 64 << 10
	if _, is := c.(*net.UDPConn); is {
		size = 40 * udpPayload
		_ = control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, udpPayload) })
	}
	b := make([]byte, size)
	for {
		_, err := c.Write(b)
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
}

// control runs fn with a connection's file descriptor.
func control(c net.Conn, fn func(fd int) error) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = fn(int(fd)) }), err)
}
