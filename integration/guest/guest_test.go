package guest_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/patchbay-net/patchbay/integration/guest"
)

// TestSetLink: a cable that is pulled takes the carrier of its NIC, and no other's.
func TestSetLink(t *testing.T) {
	guest.Needs(t, guest.NICs, guest.Netdev, guest.NAT)
	h, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	state := make(map[string]netlink.LinkOperState)
	await := func(nic string, want netlink.LinkOperState) {
		t.Helper()
		for state[nic] != want {
			u, ok := <-updates
			if !ok {
				t.Fatal("no more updates")
			}
			state[u.Attrs().Name] = u.Attrs().OperState
		}
	}
	for _, nic := range []string{"n0", "n1"} {
		link, err := h.LinkByName(nic)
		if err == nil {
			err = h.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	await("n0", netlink.OperUp)
	await("n1", netlink.OperUp)
	for range 2 {
		guest.SetLink(t, "n0", false)
		await("n0", netlink.OperDown)
		if state["n1"] != netlink.OperUp {
			t.Error("the other end of the cable lost its carrier too")
		}
		guest.SetLink(t, "n0", true)
		await("n0", netlink.OperUp)
	}
}
