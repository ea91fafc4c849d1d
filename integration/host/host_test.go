package host_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
)

func TestMain(m *testing.M) { os.Exit(host.Main(m.Run)) }

func newHost(t *testing.T) *host.Host {
	t.Helper()
	if !host.Inside() {
		t.Skip("needs root: network namespaces")
	}
	h, err := host.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

const referenceBridge = `{"cniVersion":"1.0.0","name":"ref","plugins":[{"type":"bridge","bridge":"ref0","isGateway":true,
	"ipam":{"type":"host-local","dataDir":"DIR","ranges":[[{"subnet":"10.1.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`

// TestHarness tries the harness itself on the reference bridge plugin: that what
// is there is found and what is not there is not.
func TestHarness(t *testing.T) {
	h := newHost(t)
	n, err := h.Network(strings.ReplaceAll(referenceBridge, "DIR", h.Dir+"/ipam"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.Root, "bin/tools/cni/bridge")); err != nil {
		t.Fatalf("%v: run `make deps`", err)
	}
	a, b := container(t, h, "a"), container(t, h, "b")
	before := snapshot(t, h)
	for _, c := range []*host.Container{a, b} {
		if _, err := n.Add(c); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("ping", func(t *testing.T) {
		if err := a.Ping(netip.MustParseAddr("10.1.0.3"), 5*time.Second); err != nil {
			t.Error(err)
		}
		if err := a.Ping(netip.MustParseAddr("10.1.0.77"), 300*time.Millisecond); !errors.Is(err, host.ErrUnreachable) {
			t.Errorf("ping to nobody: %v, want unreachable", err)
		}
	})
	t.Run("tcp", func(t *testing.T) {
		l, err := b.Serve(netip.MustParseAddrPort("10.1.0.3:80"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		seen, err := a.Ask(netip.MustParseAddrPort("10.1.0.3:80"), 5*time.Second)
		if err != nil || seen.Addr() != netip.MustParseAddr("10.1.0.2") {
			t.Errorf("server saw %v (%v), want 10.1.0.2", seen, err)
		}
		if _, err := a.Ask(netip.MustParseAddrPort("10.1.0.3:81"), 5*time.Second); !errors.Is(err, host.ErrUnreachable) {
			t.Errorf("closed port: %v, want unreachable", err)
		}
	})
	t.Run("raw socket", func(t *testing.T) {
		from, to := tap(t, a.Netns, "eth0"), tap(t, h.Netns, "ref0")
		if err := from.Send(host.Frame{Dst: to.MAC(), Src: from.MAC(), Payload: "hello"}); err != nil {
			t.Fatal(err)
		}
		if ok, err := to.Hears("hello", 5*time.Second); !ok || err != nil {
			t.Errorf("frame did not arrive: %v", err)
		}
		if ok, err := to.Hears("nothing", 100*time.Millisecond); ok || err != nil {
			t.Errorf("heard a frame nobody sent: %v", err)
		}
	})
	t.Run("leaks", func(t *testing.T) {
		for _, c := range []*host.Container{a, b} {
			if err := n.Del(c); err != nil {
				t.Fatal(err)
			}
		}
		left := snapshot(t, h).Since(before)
		if len(left) != 1 || left[0] != "netdev ref0 (bridge)" {
			t.Errorf("left: %v, want the bridge alone", left)
		}
		if _, err := h.Run("nft", "add table ip t; add chain ip t c; add rule ip t c accept"); err != nil {
			t.Fatal(err)
		}
		left = snapshot(t, h).Since(before)
		if len(left) != 3 || left[1] != "rules: table ip t" || left[2] != "rules: ip t: accept" {
			t.Errorf("left: %v, want the table and the rule too", left)
		}
	})
}

func container(t *testing.T, h *host.Host, id string) *host.Container {
	t.Helper()
	c, err := h.Container(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func snapshot(t *testing.T, h *host.Host) host.Snapshot {
	t.Helper()
	s, err := h.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tap(t *testing.T, n *host.Netns, netdev string) *host.Tap {
	t.Helper()
	p, err := n.Tap(netdev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestLetGo: a container that is let go of is there for others, and closed like any.
func TestLetGo(t *testing.T) {
	h := newHost(t)
	open := func() int {
		t.Helper()
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := open()
	c := container(t, h, "a")
	if err := c.LetGo(); err != nil {
		t.Fatal(err)
	}
	if after := open(); after != before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
	if out, err := h.Run("nsenter", "--net="+c.Path, "ip", "link", "show", "lo"); err != nil {
		t.Errorf("it is gone for others too: %v: %s", err, out)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(c.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its path stays: %v", err)
	}
}

// TestRuleset: what packets put into a set is no part of it, what others do is.
func TestRuleset(t *testing.T) {
	h := newHost(t)
	rules := `table inet t {
		set kept { type ipv4_addr; elements = { 10.0.0.1 }; }
		set learnt { type ipv4_addr; size 9; flags dynamic,timeout; timeout 1h; elements = { 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5 }; }
		set after { type ipv4_addr; elements = { 10.0.0.6 }; }
	}`
	if out, err := h.Run("nft", rules); err != nil {
		t.Fatal(out)
	}
	got, err := h.Ruleset()
	if err != nil {
		t.Fatal(err)
	}
	for element, want := range map[string]bool{"10.0.0.1": true, "10.0.0.2": false, "10.0.0.3": false, "10.0.0.4": false, "10.0.0.5": false, "10.0.0.6": true} {
		if strings.Contains(got, element) != want {
			t.Errorf("%s is there: %v, want %v:\n%s", element, !want, want, got)
		}
	}
}
