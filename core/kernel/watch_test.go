package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// watching is a watch of a namespace and what it has told.
type watching struct {
	t      *testing.T
	events chan Event
}

func watch(t *testing.T, ns *os.File) *watching {
	t.Helper()
	w := &watching{t: t, events: make(chan Event, 4096)}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- inNetns(ns, func() error {
			return NewLinux().Watch(ctx, func() { close(ready) }, func(e Event) { w.events <- e })
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	return w
}

// await returns the first event of a kind about a netdev.
func (w *watching) await(change Change, netdev string) Event {
	w.t.Helper()
	deadline := time.After(patience)
	var seen []string
	for {
		select {
		case e := <-w.events:
			if e.Change == change && e.Netdev == netdev {
				return e
			}
			seen = append(seen, fmt.Sprintf("%+v", e))
		case <-deadline:
			w.t.Fatalf("no event %s of %q; seen:\n%s", change, netdev, strings.Join(seen, "\n"))
		}
	}
}

// TestWatch: every change is told, of whom, and whether the netdev is ours.
func TestWatch(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "ip link add old type bridge\nip link set old alias patchbay:bridge")
	w := watch(t, ns)
	for _, x := range []struct {
		name, script string
		change       Change
		netdev       string
		ours         bool
	}{
		{"made", "ip link add br0 type bridge forward_delay 0", NetdevChanged, "br0", false},
		// Of a netdev that is down the kernel tells neither alias nor group.
		{"up", "ip link set br0 up", NetdevChanged, "br0", false},
		{"marked by alias", "ip link set br0 alias patchbay:bridge", NetdevChanged, "br0", true},
		{"known from before", "ip link set old up", NetdevChanged, "old", true},
		{"a pair", "ip link add p0 type veth peer name p1", NetdevChanged, "p0", false},
		{"pair up", "ip link set p0 up", NetdevChanged, "p0", false},
		{"marked by group", "ip link set p0 group 0x50420001", NetdevChanged, "p0", true},
		{"joined", "ip link set p0 master br0", NetdevChanged, "p0", true},
		{"flag", "bridge link set dev p0 flood off", NetdevChanged, "p0", true},
		{"unmarked, but it was", "ip link set p0 group 0", NetdevChanged, "p0", true},
		{"marked again", "ip link set p0 group 0x50420001", NetdevChanged, "p0", true},
		{"entry", "bridge fdb add 02:00:00:00:00:01 dev p0 master static", ForwardingChanged, "p0", true},
		{"entry deleted", "bridge fdb del 02:00:00:00:00:01 dev p0 master", ForwardingChanged, "p0", true},
		{"address", "ip addr add 10.0.0.1/24 dev br0", AddressChanged, "br0", true},
		{"route", "ip route add 10.1.0.0/24 dev br0", RouteChanged, "br0", true},
		{"queue", "tc qdisc add dev p0 root handle 5042: tbf rate 1mbit burst 10k latency 1ms", QueueChanged, "p0", true},
		{"queue changed", "tc qdisc replace dev p0 root handle 5042: tbf rate 2mbit burst 10k latency 1ms", QueueChanged, "p0", true},
		{"hook", "tc qdisc add dev p0 clsact", QueueChanged, "p0", true},
		{"filter", "tc filter add dev p0 ingress pref 7 u32 match u32 0 0 classid :1", QueueChanged, "p0", true},
		{"filter deleted", "tc filter del dev p0 ingress pref 7", QueueChanged, "p0", true},
		{"queue deleted", "tc qdisc del dev p0 root", QueueChanged, "p0", true},
		{"released", "ip link set p0 nomaster", NetdevChanged, "p0", true},
		{"renamed", "ip link set p0 down; ip link set p0 name q0", NetdevGone, "p0", true},
		{"renamed to", "ip link set q0 mtu 1400", NetdevChanged, "q0", true},
		{"deleted", "ip link del q0", NetdevGone, "q0", true},
		{"table of ours", "nft add table bridge patchbay", RulesChanged, "", false},
		{"copies of a port", "nft add table netdev patchbay_mirror/pb-lan/p0", MirrorChanged, "pb-lan", true},
		{"no copies", "nft delete table netdev patchbay_mirror/pb-lan/p0", MirrorChanged, "pb-lan", true},
		{"flushed", "nft flush ruleset", RulesChanged, "", false},
		{"table of guards", "nft add table bridge patchbay_guards", RulesChanged, "", false},
		{"a chain among guards", "nft add chain bridge patchbay_guards guards", RulesChanged, "", false},
		{"table of ACLs", "nft add table bridge patchbay_acl", RulesChanged, "", false},
		{"its map", "nft 'add map bridge patchbay_acl out { type ifname : verdict; }'", RulesChanged, "", false},
		{"a port's element deleted", "nft 'add chain bridge patchbay_acl p0/out; add element bridge patchbay_acl out { p0 : jump p0/out }'\nnft 'delete element bridge patchbay_acl out { p0 }'", RulesChanged, "", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.t = t
			sh(t, ns, x.script)
			e := w.await(x.change, x.netdev)
			if e.Ours != x.ours {
				t.Errorf("%+v, want ours to be %v", e, x.ours)
			}
			if x.change == ForwardingChanged && e.MAC.String() != "02:00:00:00:00:01" {
				t.Errorf("entry of %s", e.MAC)
			}
		})
	}
	w.t = t
	sh(t, ns, "nft add table inet others\nnft 'add rule bridge patchbay_acl p0/out accept'\nip link set br0 mtu 1400")
	for e := range w.events {
		if e.Change == RulesChanged {
			t.Error("told of a stranger's rules, or of what a port is given")
		}
		if e.Change == NetdevChanged && e.Netdev == "br0" {
			break
		}
	}
}

// TestPrints: a netdev that is as it was has the same print, any other has not.
func TestPrints(t *testing.T) {
	ns := newNS(t)
	sh(t, ns, "ip link add br0 type bridge\nip link add p0 type veth peer name p1\nip link set p0 master br0")
	w := watch(t, ns)
	print := func(script string) uint64 {
		t.Helper()
		sh(t, ns, script)
		for {
			if e := w.await(NetdevChanged, "p0"); e.Print != 0 {
				return e.Print
			}
		}
	}
	first := print("ip link set p0 mtu 1400")
	if other := print("ip link set p0 mtu 1300"); other == first {
		t.Error("another MTU has the same print")
	}
	if again := print("ip link set p0 mtu 1400"); again != first {
		t.Error("the same MTU has another print")
	}
}

// TestOverrun: what the kernel could not tell is told as lost.
func TestOverrun(t *testing.T) {
	ns := newNS(t)
	var f *os.File
	within(t, ns, func() (err error) {
		f, err = openWatch(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
		return err
	})
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096) })
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for i := range 20 {
		fmt.Fprintf(&script, "ip link add b%d type bridge\n", i)
	}
	sh(t, ns, script.String())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	batches := make(chan []syscall.NetlinkMessage)
	ended := make(chan error, 1)
	go func() { ended <- readWatch(ctx, f, batches) }()
	var told []Event
	w := watcher{tell: func(e Event) { told = append(told, e) }, netdevs: make(map[int]watched)}
	for len(told) == 0 || told[len(told)-1].Change != Lost {
		select {
		case b := <-batches:
			w.take(b)
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(patience):
			t.Fatal("nothing was lost")
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for {
		select {
		case <-batches:
		case err := <-ended:
			if !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
			return
		}
	}
}

// TestNetnsID: a namespace has one number by whatever path, and another one has
// another.
func TestNetnsID(t *testing.T) {
	a, b := newNS(t), newNS(t)
	k := NewLinux()
	id := func(path string) NetnsID {
		t.Helper()
		id, err := k.NetnsID(path)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	self := id("/proc/thread-self/ns/net") // not the first thread's, which may be in one of the test's
	if cookie, err := netnsCookie(a); err != nil || NetnsID(cookie) != id(nsPath(a)) {
		t.Errorf("an older kernel tells %d, %v", cookie, err)
	}
	if id(nsPath(a)) != id(fmt.Sprintf("/proc/self/fd/%d", a.Fd())) {
		t.Error("one namespace, two numbers")
	}
	if id(nsPath(a)) == id(nsPath(b)) || id(nsPath(a)) == self {
		t.Error("two namespaces, one number")
	}
	if _, err := k.NetnsID("/nowhere"); err == nil {
		t.Error("nowhere has a number")
	}
}

// Whoever only looks at limits tells nobody that they have changed: patchbayd would look for
// ever.
func TestLookingIsNoChange(t *testing.T) {
	l := newLinuxLab(t, 1)
	limited := l.limited(10e6, 1e9)
	l.reach(limited, plan.State{})
	w := watch(t, l.host)
	for range 3 {
		l.observe(limited)
	}
	sh(t, l.host, "ip link set pb-s mtu 1400")
	deadline := time.After(patience)
	for {
		select {
		case e := <-w.events:
			if e.Change == QueueChanged {
				t.Errorf("looking is told as %+v", e)
			}
			if e.Change == NetdevChanged && e.Netdev == "pb-s" {
				return
			}
		case <-deadline:
			t.Fatal("no event of the change")
		}
	}
}
