package kernel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// What a limit counts is whole Ethernet frames: this is what of one is payload.
const (
	frameSize  = 1514
	udpPayload = 1472
)

// TestLimitsAreAccurate sends as much as goes, and measures what arrives. A machine that is
// busy can only make it less for a while: all of it is to be no more than the limit, and the
// best part no less, which on such a machine may be long in coming.
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
			}{{"to the guest", l.host, l.guests[0], "10.0.0.10:7"}, {"from the guest", l.guests[0], l.host, "10.0.0.1:7"}} {
				name := fmt.Sprintf("%s %s %s", rate, network, way.name)
				t.Run(name, func(t *testing.T) {
					f := newFlow(t, network, way.address, way.from, way.to)
					whole, best := f.measure(t, rate)
					t.Logf("%s: %.2f %% of the limit, in the best part %.2f %%", name, 100*whole, 100*best)
					if whole > 1.05 || best < 0.95 {
						t.Errorf("%.2f %% of the limit arrived, in the best part %.2f %%", 100*whole, 100*best)
					}
				})
			}
		}
	}
}

// stream is one connection that sends as much as it can.
type stream struct {
	receiver net.Conn
	frames   func() (uint64, error) // that have arrived
}

func newFlow(t *testing.T, network, address string, from, to *os.File) *stream {
	t.Helper()
	f := &stream{}
	var sender net.Conn
	within(t, to, func() (err error) {
		switch network {
		case "udp":
			to, err := net.ResolveUDPAddr("udp4", address)
			if err != nil {
				return err
			}
			c, err := net.ListenUDP("udp4", to)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			f.receiver = c
			return nil
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
			c, err := l.Accept()
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			f.receiver = c
			f.frames = func() (n uint64, err error) {
				return n, control(c, func(fd int) error {
					info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
					if err == nil {
						n = uint64(info.Data_segs_in) // also those that came twice, or in another order
					}
					return err
				})
			}
			return nil
		}
	})
	if network == "udp" {
		within(t, from, func() (err error) {
			sender, err = net.Dial("udp4", address)
			return err
		})
	}
	if err := f.receiver.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan struct{})
	t.Cleanup(func() { _ = sender.Close(); <-sent })
	go func() {
		defer close(sent)
		flood(sender)
	}()
	return f
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

// measure returns what arrives as a part of a limit: of all parts, and of the best one.
func (f *stream) measure(t *testing.T, rate vswitch.Bits) (whole, best float64) {
	t.Helper()
	const parts, patience = 10, 100
	// A part takes 150 ms; what may pass at once, and TCP's beginning, is not counted.
	size := float64(rate) / 8 * 0.150
	if f.frames == nil { // a fifth of a part waits for a receiver that waits for a processor
		room := max(64<<10, int(size/5))
		if err := control(f.receiver, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) }); err != nil {
			t.Fatal(err)
		}
	}
	f.read(t, 3*size)
	begin := time.Now()
	for n := 0; n < parts || best < 0.95 && n < patience; n++ {
		before := time.Now()
		arrived := f.read(t, size) * 8
		best = max(best, arrived/time.Since(before).Seconds()/float64(rate))
		whole += arrived
	}
	return whole / time.Since(begin).Seconds() / float64(rate), best
}

// read takes what comes until so many bytes of frames have arrived, and returns how many.
func (f *stream) read(t *testing.T, size float64) float64 {
	t.Helper()
	b := make([]byte, 64<<10)
	arrived, before := uint64(0), f.arrived(t, 0)
	for float64(arrived*frameSize) < size {
		if _, err := f.receiver.Read(b); err != nil {
			t.Fatal(err)
		}
		arrived = f.arrived(t, arrived+1) - before
	}
	return float64(arrived * frameSize)
}

// arrived counts frames; datagrams are read one by one.
func (f *stream) arrived(t *testing.T, read uint64) uint64 {
	t.Helper()
	if f.frames == nil {
		return read
	}
	n, err := f.frames()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
