package offload_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"
	"github.com/patchbay-net/patchbay/sdk"
)

const full = "netdevsim: No space for SA in Rx table!"

// TestPlacement: the SAs of the host on a NIC with 33 places, up to the port's most and the
// NIC's, with iproute2 as the program that negotiates.
func TestPlacement(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	nic := newCard(t, 1)
	b := newBench(t, t.TempDir())
	count := func(all, held int) {
		t.Helper()
		if n, on := states(t); n != all || on != held || nic.held() != held {
			t.Fatalf("%d SAs, %d on the NIC, where its driver has %d; want %d, %d", n, on, nic.held(), all, held)
		}
	}

	nic.add(100, 3, gcm)
	conn, err := xfrm.Open()
	if err != nil {
		t.Fatal(err)
	}
	before, err := conn.List()
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	r := request("p", nic.nic(), 1, 2)
	if g := b.ensure(r); g.Amount != 2 || g.Reason != vswitch.LimitReached {
		t.Errorf("granted %+v", g)
	}
	b.await("p", "2 of 3 on netdevsim1 LIMIT_REACHED")
	count(3, 2)
	if c, err := b.Counters(t.Context(), r.Ref); err != nil || c["sas"] != 3 || c["sas_offloaded"] != 2 {
		t.Errorf("counters %v, %v", c, err)
	}

	for _, sa := range before { // what comes late changes nothing
		b.Hear(xfrm.Event{Kind: xfrm.Removed, SA: sa}, xfrm.Event{Kind: xfrm.Added, SA: sa})
	}
	count(3, 2)

	nic.remove(100) // which has a place: the one that waits takes it
	b.await("p", "2 of 2 on netdevsim1")
	count(2, 2)

	r.Generation, r.MaxSAs = 2, 100
	nic.add(200, 38, gcm)
	b.ensure(r)
	b.await("p", "33 of 40 on netdevsim1 NO_FREE_SA ("+full+")")
	count(40, 33)

	for spi := 200; spi < 205; spi++ { // the oldest, which have places
		nic.remove(spi)
	}
	b.await("p", "33 of 35 on netdevsim1 NO_FREE_SA ("+full+")")
	count(35, 33)

	r.Generation, r.MaxSAs = 3, 10 // keeps what it has
	b.ensure(r)
	b.await("p", "33 of 35 on netdevsim1 LIMIT_REACHED")
	nic.remove(205)
	b.await("p", "32 of 34 on netdevsim1 LIMIT_REACHED")
	count(34, 32)

	b.release(r)
	if got := b.state("p"); got != "nothing" {
		t.Errorf("after the release there is %s", got)
	}
	count(34, 0)
}

// TestWhatANICRefuses stays in software, with the driver's words; an SA whose time is over
// makes room.
func TestWhatANICRefuses(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	nic := newCard(t, 1)
	b := newBench(t, t.TempDir())
	b.ensure(request("p", nic.nic(), 1, 2))
	nic.add(1000, 1, cbc)
	b.await("p", "0 of 1 on netdevsim1 REFUSED (netdevsim: Failed to get key data for SA table)")
	nic.add(1001, 1, gcm+" limit time-hard 2") // which ends while one of the others waits
	nic.add(1002, 2, gcm)
	b.await("p", "2 of 3 on netdevsim1 REFUSED (netdevsim: Failed to get key data for SA table)")
	if nic.held() != 2 {
		t.Errorf("the driver has %d", nic.held())
	}
	run(t, "ip", "xfrm", "state", "flush")
	b.await("p", "0 of 0 on netdevsim1")
	nic.add(1001, 1, gcm)
	nic.add(1002, 1, cbc)
	b.await("p", "1 of 2 on netdevsim1 REFUSED (netdevsim: Failed to get key data for SA table)")
	run(t, "ip", "link", "set", nic.netdev, "down") // with which the kernel ends what it held
	b.until(func() bool { return strings.HasPrefix(b.state("p"), "0 of 1 ") }, func() string { return b.state("p") })
}

// TestAnotherNIC: at a failover the port is ensured on another NIC, to which the owner's
// packets are routed by then; its SAs go there.
func TestAnotherNIC(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	one, other := newCard(t, 1), newCard(t, 2)
	b := newBench(t, t.TempDir())
	one.add(100, 20, gcm)
	b.ensure(request("p", one.nic(), 1, 15))
	b.await("p", "15 of 20 on netdevsim1 LIMIT_REACHED")

	run(t, "ip", "addr", "del", "10.0.1.1/24", "dev", one.netdev)
	run(t, "ip", "addr", "add", "10.0.1.1/24", "dev", other.netdev)
	b.ensure(request("p", other.nic(), 2, 15))
	b.await("p", "15 of 20 on netdevsim2 LIMIT_REACHED")
	if one.held() != 0 || other.held() != 15 {
		t.Errorf("%d and %d", one.held(), other.held())
	}
	if n, _ := states(t); n != 20 {
		t.Errorf("%d SAs, want 20", n)
	}

	// Packets that go elsewhere would never use a place on the NIC.
	b.ensure(request("p", one.nic(), 3, 15))
	b.await("p", "0 of 20 on netdevsim1 NEEDS_SOFTWARE_PATH (packets are routed to "+other.netdev+", not to "+one.netdev+")")
	if one.held() != 0 || other.held() != 0 {
		t.Errorf("%d and %d", one.held(), other.held())
	}
	run(t, "ip", "addr", "del", "10.0.1.1/24", "dev", other.netdev)
	run(t, "ip", "addr", "add", "10.0.1.1/24", "dev", one.netdev)
	b.await("p", "15 of 20 on netdevsim1 LIMIT_REACHED")
}

// TestOwnersNamespace: SAs of a namespace go to the NIC in it; without one there the
// answer says so; and the end of the namespace ends the grant and is not held up.
func TestOwnersNamespace(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	nic := newCard(t, 1)
	b := newBench(t, t.TempDir())
	run(t, "ip", "netns", "add", "own")
	r := request("p", nic.nic(), 1, 5)
	r.Netns, r.Owner = "/run/netns/own", vswitch.OwnerContainer
	if _, err := b.Ensure(t.Context(), r); sdk.ReasonOf(err) != vswitch.NeedsSoftwarePath {
		t.Errorf("without the NIC: %v", err)
	}
	run(t, "ip", "link", "set", nic.netdev, "netns", "own")
	run(t, "ip", "-n", "own", "link", "set", nic.netdev, "up")
	run(t, "ip", "-n", "own", "addr", "add", "10.0.1.1/24", "dev", nic.netdev)
	b.ensure(r)
	run(t, "sh", "-c", "ip -n own xfrm state add src 10.0.1.1 dst 10.0.1.2 proto esp spi 7 "+quoted(gcm)+" && ip -n own xfrm state add src 10.0.1.2 dst 10.0.1.1 proto esp spi 8 "+quoted(gcm))
	b.await("p", "2 of 2 on netdevsim1")
	if got := run(t, "ip", "-n", "own", "xfrm", "state"); nic.held() != 2 || !contains(got, "dir in", "dir out") {
		t.Errorf("%d on the NIC:\n%s", nic.held(), got)
	}
	vm := r
	vm.Owner, vm.Port = vswitch.OwnerVM, "vm"
	if _, err := b.Ensure(t.Context(), vm); sdk.ReasonOf(err) != vswitch.NeedsSoftwarePath {
		t.Errorf("for a VM: %v", err)
	}

	run(t, "ip", "netns", "del", "own")
	for e := range b.events {
		if e.Kind == sdk.GrantLost {
			break
		}
	}
	if got := b.state("p"); got != "nothing" {
		t.Errorf("there is %s", got)
	}
	var e *vswitch.Error
	if _, err := b.Ensure(t.Context(), r); !errors.As(err, &e) || e.Kind != vswitch.NetnsNotFound || e.Hint == "" {
		t.Errorf("in a namespace that is gone: %v", err)
	}
}

// TestGrantsAfterARestart: what ports hold is known again, and SAs stay on the NIC meanwhile.
func TestGrantsAfterARestart(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	nic := newCard(t, 1)
	state := t.TempDir()
	first := newBench(t, state)
	first.ensure(request("p", nic.nic(), 4, 3))
	nic.add(100, 2, gcm)
	first.await("p", "2 of 2 on netdevsim1")
	before, _ := first.Grants(t.Context())
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	nic.add(200, 2, gcm)
	if nic.held() != 2 {
		t.Errorf("%d SAs without the plugin, want 2", nic.held())
	}
	again := newBench(t, state)
	again.await("p", "3 of 4 on netdevsim1 LIMIT_REACHED")
	after, _ := again.Grants(t.Context())
	if len(after) != 1 || after[0].Ref != before[0].Ref || after[0].Generation != 4 || after[0].Amount != 3 {
		t.Errorf("was %+v, is %+v", before, after)
	}
	again.release(request("p", nic.nic(), 4, 3))
	if nic.held() != 0 {
		t.Errorf("after the release the NIC has %d", nic.held())
	}
}
