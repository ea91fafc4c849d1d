package kernel

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// Changes of a ruleset find a socket that is open already, and leave it open: closing one
// waits for what has been removed.
func TestNetfilterSocketsAreKept(t *testing.T) {
	ns := newNS(t)
	within(t, ns, func() error {
		l := NewLinux()
		var first *rtnl
		for range 3 {
			for _, step := range []plan.SetRules{{Add: sampleRules()}, {Remove: plan.Rules{Base: true}}} {
				if err := l.Apply(context.Background(), []plan.Step{step}); err != nil {
					return err
				}
				if _, err := l.Observe(context.Background(), plan.State{Rules: sampleRules()}); err != nil {
					return err
				}
				if len(l.nfnetlink.idle) != 1 {
					t.Fatalf("%d sockets are idle after a change, want 1", len(l.nfnetlink.idle))
				}
				c := <-l.nfnetlink.idle
				if first == nil {
					first = c
				}
				if c != first {
					t.Error("another socket has come")
				}
				l.nfnetlink.give(c)
			}
		}
		err := l.Close()
		if _, closed := unix.FcntlInt(uintptr(first.fd), unix.F_GETFD, 0); !errors.Is(closed, unix.EBADF) {
			t.Errorf("the socket outlives its Linux: %v", closed)
		}
		return err
	})
}

// A socket on which answers may still come is nobody's after that.
func TestBrokenSocketsAreDropped(t *testing.T) {
	for name, breaks := range map[string]func(*rtnl) error{
		"no answer in time": func(c *rtnl) error {
			if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1}); err != nil {
				return err
			}
			unacknowledged := nftMessage(unix.NFT_MSG_GETGEN, unix.NFPROTO_UNSPEC, 0, nil)
			return c.do([]request{{NetlinkRequest: unacknowledged}})
		},
		"another generation": func(c *rtnl) error {
			tx := transaction{generation: 1 << 31}
			natTable().add(&tx)
			return tx.send(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNS(t)
			within(t, ns, func() error {
				l := NewLinux()
				if err := l.netfilter(breaks); err == nil {
					t.Error("nothing broke")
				}
				if n := len(l.nfnetlink.idle); n != 0 {
					t.Errorf("%d sockets are kept", n)
				}
				return l.Close()
			})
		})
	}
}
