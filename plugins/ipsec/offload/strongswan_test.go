package offload_test

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/ike"
)

// cable puts two NICs into namespaces of their own and joins them.
func cable(t *testing.T, left, right card) {
	t.Helper()
	ends := ""
	for i, end := range []struct {
		ns   string
		card card
	}{{"left", left}, {"right", right}} {
		run(t, "ip", "netns", "add", end.ns)
		t.Cleanup(func() { run(t, "ip", "netns", "del", end.ns) })
		nic, err := net.InterfaceByName(end.card.netdev)
		if err != nil {
			t.Fatal(err)
		}
		run(t, "ip", "link", "set", end.card.netdev, "netns", end.ns)
		run(t, "ip", "-n", end.ns, "link", "set", "lo", "up")
		run(t, "ip", "-n", end.ns, "addr", "add", fmt.Sprintf("10.0.1.%d/24", i+1), "dev", end.card.netdev)
		f, err := os.Open("/run/netns/" + end.ns)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // read only
		ends += fmt.Sprintf("%d:%d ", f.Fd(), nic.Index)
	}
	if err := os.WriteFile("/sys/bus/netdevsim/link_device", []byte(strings.TrimSpace(ends)), 0o200); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "-n", "left", "link", "set", left.netdev, "up")
	run(t, "ip", "-n", "right", "link", "set", right.netdev, "up")
}

// TestStrongSwan: a real IKE daemon at both ends, which knows nothing of any offload. Its SAs
// go to the NICs when they are made, new ones take the places of old ones at a rekey, and
// taken back they encrypt with the same keys in software, where packets pass.
func TestStrongSwan(t *testing.T) {
	guest.Needs(t, guest.Netdevsim)
	one, two := newCard(t, 1), newCard(t, 2)
	b := newBench(t, t.TempDir())
	cable(t, one, two)
	left, right := ike.Start(t, "/run/netns/left", "10.0.1.1", "10.0.1.2"), ike.Start(t, "/run/netns/right", "10.0.1.2", "10.0.1.1")
	l, r := request("l", one.nic(), 1, 2), request("r", two.nic(), 1, 2)
	l.Netns, l.Owner, r.Netns, r.Owner = "/run/netns/left", vswitch.OwnerContainer, "/run/netns/right", vswitch.OwnerContainer
	b.ensure(l)
	b.ensure(r)

	left.Swanctl("--initiate", "--child", "net")
	b.await("l", "2 of 2 on netdevsim1")
	b.await("r", "2 of 2 on netdevsim2")
	if one.held() != 2 || two.held() != 2 {
		t.Errorf("%d and %d are on the NICs, want 2 and 2", one.held(), two.held())
	}

	b.follow("left")
	b.follow("right")
	before := left.Numbers()
	left.Swanctl("--rekey", "--child", "net")
	b.until(func() bool {
		after := left.Numbers()
		return !slices.Equal(after, before) && len(after) == len(before) && slices.Equal(after, right.Numbers()) &&
			b.state("l") == "2 of 2 on netdevsim1" && b.state("r") == "2 of 2 on netdevsim2"
	}, func() string {
		return fmt.Sprintf("before the rekey there were %s, after it %s and %s", before, left.Numbers(), right.Numbers())
	})
	if one.held() != 2 || two.held() != 2 {
		t.Errorf("%d and %d are on the NICs after the rekey, want 2 and 2", one.held(), two.held())
	}

	b.release(l)
	b.release(r)
	if one.held() != 0 || two.held() != 0 {
		t.Errorf("%d and %d are on the NICs after the release", one.held(), two.held())
	}
	run(t, "ip", "netns", "exec", "left", "ping", "-c", "3", "-i", "0.05", "-W", "5", "10.0.1.2")
	if list := left.Swanctl("--list-sas"); !regexp.MustCompile(`(?s)in .* 3 packets.*out .* 3 packets`).MatchString(list) {
		t.Errorf("strongSwan says\n%s", list)
	}
	right.Swanctl("--terminate", "--ike", "peer")
	if n := append(left.Numbers(), right.Numbers()...); len(n) > 0 {
		t.Errorf("after the end there are %s", n)
	}
}
