package integration_test

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

// finding is what `patchbay doctor -o json` lists.
type finding struct {
	Severity, Check, What string
	Mend                  []string
}

// doctor returns what blocks, and whether the exit code says so.
func (h *testHost) doctor() (blocking []finding) {
	h.t.Helper()
	out, err := h.RunEnv(h.Env(), "sh", "-c", filepath.Join(h.Root, "bin/patchbay")+" doctor -o json || echo \"exit $?\"")
	ok(h.t, err)
	document, code, failed := strings.Cut(out, "exit ")
	var d struct{ Findings []finding }
	ok(h.t, json.Unmarshal([]byte(document), &d))
	for _, f := range d.Findings {
		if f.Severity == "blocks" {
			blocking = append(blocking, f)
		}
	}
	if failed != (len(blocking) > 0) || failed && strings.TrimSpace(code) != "1" {
		h.t.Errorf("exit %q with %d findings that block", code, len(blocking))
	}
	return blocking
}

// TestDoctorMends lets a firewall cut guests off, and then does what doctor says.
func TestDoctorMends(t *testing.T) {
	h := newHost(t)
	h.patchbay("switch", "add", "lan", "--type", "internal", "--gateway", "192.0.2.1/24")
	net := h.network(inplace)
	a, _ := h.attached(net, "a")
	b, r := h.attached(net, "b")
	address := netip.MustParsePrefix(addresses(r)[0]).Addr()
	if blocking := h.doctor(); len(blocking) > 0 {
		t.Fatalf("a host that is well: %+v", blocking)
	}
	h.run(h.Netns, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
	h.run(h.Netns, "nft", "add table inet wall; add chain inet wall forward { type filter hook forward priority 0; policy drop; }")
	cut := a.Ping(address, silence) != nil
	blocking := h.doctor()
	var checks []string
	for _, f := range blocking {
		checks = append(checks, f.Check)
	}
	if got := strings.Join(checks, " "); got != "forward-drop-bridged forward-drop-routed" || !cut {
		t.Fatalf("cut off %v, found %q", cut, got)
	}
	for _, f := range blocking {
		for _, m := range f.Mend {
			if strings.HasPrefix(m, "nft ") {
				h.run(h.Netns, "sh", "-ec", m)
			}
		}
	}
	reaches(t, a.Netns, address.String())
	if blocking := h.doctor(); len(blocking) > 0 {
		t.Errorf("after all was mended: %+v", blocking)
	}

	h.run(h.Netns, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	if blocking := h.doctor(); len(blocking) != 1 || blocking[0].Check != "forwarding-ipv4" {
		t.Errorf("without forwarding: %+v", blocking)
	}
	h.patchbay("restore")
	if blocking := h.doctor(); len(blocking) > 0 {
		t.Errorf("after restore: %+v", blocking)
	}
	h.run(h.Netns, "nft", "delete table inet wall")
	ok(t, net.Del(a))
	ok(t, net.Del(b))
}

// TestExplained carries out what explain prints, in another namespace: it makes the
// switch. The rules are left out: their tables are made by Patchbay alone.
func TestExplained(t *testing.T) {
	h := newHost(t)
	h.patchbay("switch", "add", "lan", "--type", "internal", "--gateway", "192.0.2.1/24", "--gateway", "fd00:2::1/64", "--masquerade")
	var x struct {
		Parts []struct {
			What     string
			Commands []string
		}
	}
	ok(t, h.PatchbayJSON(&x, "explain", "lan"))
	other, err := h.Neighbour("other")
	ok(t, err)
	for _, p := range x.Parts {
		if p.What == "rules" {
			continue
		}
		for _, c := range p.Commands {
			h.run(other, "sh", "-ec", c)
		}
	}
	for _, show := range [][]string{
		{"ip", "-br", "addr", "show", "pbh-lan"},
		{"bridge", "fdb", "show", "br", "pb-lan", "dev", "pbp-lan", "static"},
		{"ip", "-d", "-o", "link", "show", "type", "bridge"},
	} {
		want, got := words(h.run(h.Netns, show...)), words(h.run(other, show...))
		if want != got {
			t.Errorf("%v shows\n%s\nwant\n%s", show, got, want)
		}
	}
}

// words are an output without what is another one in each namespace: indexes and
// timers.
func words(out string) string {
	var kept []string
	timer := false
	for _, w := range strings.Fields(out) {
		if timer = timer || strings.HasSuffix(w, "_timer") || w == "gc_timer"; timer {
			timer = false
			continue
		}
		if strings.ContainsAny(w, ".:@") && !strings.Contains(w, "/") && strings.Count(w, ":") != 5 {
			continue
		}
		kept = append(kept, w)
	}
	return strings.Join(kept, " ")
}
