package integration_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// patchbay runs the CLI, which must succeed.
func (h *testHost) patchbay(args ...string) string {
	h.t.Helper()
	out, err := h.Patchbay(args...)
	if err != nil {
		h.t.Fatalf("patchbay %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// file writes a configuration.
func (h *testHost) file(format string, args ...any) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "switches.yaml")
	ok(h.t, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644))
	return path
}

// wantWhole fails if the kernel has not all that the configuration says.
func (h *testHost) wantWhole() {
	h.t.Helper()
	var s struct {
		Problems []struct{ Kind, Message string }
	}
	ok(h.t, h.PatchbayJSON(&s, "status"))
	for _, p := range s.Problems {
		if p.Kind != "CAPABILITY_MISSING" && !strings.Contains(p.Message, "patchbayd does not run") {
			h.t.Errorf("%s: %s", p.Kind, p.Message)
		}
	}
}

// TestExamplesApplied applies every example on the real kernel; those with teams and VLANs
// have tests of their own, since not every kernel can do these.
func TestExamplesApplied(t *testing.T) {
	applyExamples(t, "examples/*.yaml", "")
	root := newHost(t).Root
	ok(t, filepath.WalkDir(filepath.Join(root, "examples"), func(path string, _ os.DirEntry, err error) error {
		dir, err2 := filepath.Rel(root, filepath.Dir(path))
		if filepath.Ext(path) == ".yaml" && !slices.Contains([]string{"examples", "examples/teams", "examples/vlan"}, dir) {
			t.Errorf("no test applies %s", path)
		}
		return errors.Join(err, err2)
	}))
}

func TestTeamExamplesApplied(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.Netdev)
	// The NICs of a test have no hardware.
	applyExamples(t, "examples/teams/*.yaml", "    lab: true\n")
}

func TestVLANExamplesApplied(t *testing.T) {
	guest.Needs(t, guest.VLANs)
	applyExamples(t, "examples/vlan/*.yaml", "")
}

// applyExamples applies every example that matches, with more said of each team. The
// kernel has all that it says; the same again, and its export, change nothing.
func applyExamples(t *testing.T, pattern, teams string) {
	t.Helper()
	examples, err := filepath.Glob(filepath.Join(newHost(t).Root, pattern))
	ok(t, err)
	if len(examples) == 0 {
		t.Fatalf("there is no %s", pattern)
	}
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			text, err := os.ReadFile(example)
			ok(t, err)
			h := newHost(t)
			for _, nic := range []string{"eth1", "eth2", "eth3"} {
				h.outside(nic)
			}
			file := h.file("%s", strings.ReplaceAll(string(text), "  - name: team0\n", "  - name: team0\n"+teams))
			standby := strings.Contains(string(text), "\n    standby: ")
			if standby && h.daemon == nil {
				h.startDaemon() // which has it change places
			}
			h.patchbay("apply", "-f", file)
			if standby {
				h.awaitStandby("team0")
			}
			h.wantUndrifted()
			if teams == "" { // a team of a test lacks what is not the kernel's, like a partner
				h.wantWhole()
			}
			h.changesNothing(file)
			exported := h.patchbay("export")
			h.changesNothing(h.file("%s", exported))
			if again := h.patchbay("export"); again != exported {
				t.Errorf("exported again:\n%s\nwant\n%s", again, exported)
			}
		})
	}
}

// changesNothing demands that the host is as a file says, to diff as to apply.
func (h *testHost) changesNothing(file string) {
	h.t.Helper()
	for _, verb := range []string{"diff", "apply"} { // diff fails where something differs
		if out := h.patchbay(verb, "--prune", "-f", file); !strings.HasPrefix(out, "nothing to change") {
			h.t.Errorf("%s: %s", verb, out)
		}
	}
}

// TestApplySwapsUplinks exchanges the NICs of two switches in one file: no order of
// single changes could. A guest keeps its port and finds itself on the other network.
func TestApplySwapsUplinks(t *testing.T) {
	h := newHost(t)
	east, west := h.outside("eth1"), h.outside("eth2")
	for _, n := range []*host.Netns{east, west} {
		h.run(n, "ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
	}
	swapped := func(lan, other string) string {
		return h.file("version: 1\nswitches:\n- {name: lan, uplink: %s}\n- {name: other, uplink: %s, mtu: 1400}\n", lan, other)
	}
	h.patchbay("apply", "-f", swapped("eth1", "eth2"))
	net := h.network(inplace)
	a, r := h.attached(net, "a")
	address := netip.MustParsePrefix(addresses(r)[0]).Addr()
	reaches(t, east, address.String())
	out := h.patchbay("apply", "--explain", "-f", swapped("eth2", "eth1"))
	for _, want := range []string{"~ switch lan: uplink eth1 -> eth2", "~ switch other: uplink eth2 -> eth1", "ip link set eth2 ", "2 changes applied"} {
		if !strings.Contains(out, want) {
			t.Errorf("apply does not say %q:\n%s", want, out)
		}
	}
	reaches(t, west, address.String())
	if err := east.Ping(address, silence); err == nil {
		t.Error("the guest is still on the network that its switch has left")
	}
	h.wantWhole()
	ok(t, net.Del(a))
}

// TestRestoreAfterReboot takes everything from the kernel and the run directory, as a
// reboot does, and has it back in well under a second.
func TestRestoreAfterReboot(t *testing.T) {
	h := newHost(t)
	h.outside("eth1")
	config := "version: 1\nswitches:\n- {name: wan, uplink: eth1, mtu: 1400}\n- {name: gone, uplink: eth9}\n"
	for i := range 6 {
		config += fmt.Sprintf("- {name: lan%d, type: internal, gateway: [10.7.%d.1/24, \"fd00:%d::1/64\"], masquerade: true}\n", i, i, i)
	}
	config += "- {name: lab, type: private}\n"
	h.run(h.Netns, "ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth9-peer")
	h.patchbay("apply", "-f", h.file("%s", config))
	before := h.patchbay("export")

	for _, n := range []string{"wan", "gone", "lab", "lan0", "lan1", "lan2", "lan3", "lan4", "lan5"} {
		h.run(h.Netns, "ip", "link", "del", "pb-"+n)
		if n != "lab" {
			h.run(h.Netns, "ip", "link", "del", "pbh-"+n)
		}
	}
	h.run(h.Netns, "ip", "link", "del", "eth9")
	h.run(h.Netns, "ip", "link", "set", "eth1", "group", "0", "mtu", "1500")
	h.run(h.Netns, "nft", "flush", "ruleset")
	entries, err := os.ReadDir(h.RunDir())
	ok(t, err)
	for _, e := range entries {
		ok(t, os.RemoveAll(filepath.Join(h.RunDir(), e.Name())))
	}

	start := time.Now()
	out, err := h.Patchbay("restore")
	took := time.Since(start)
	if err == nil || !strings.Contains(out, "8 of 9 switches are there") || !strings.Contains(out, "there is no NIC eth9") {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("8 switches restored in %v", took)
	if took > time.Second {
		t.Errorf("8 switches took %v", took)
	}
	if after := h.patchbay("export"); after != before {
		t.Errorf("the configuration is another:\n%s", after)
	}
	h.patchbay("switch", "delete", "gone")
	h.wantWhole()
	if out := h.patchbay("restore"); !strings.Contains(out, "8 of 8 switches are there") {
		t.Errorf("again: %s", out)
	}
}

// TestApplyIsAllOrNothing lets the kernel refuse the last of three changes.
func TestApplyIsAllOrNothing(t *testing.T) {
	h := newHost(t)
	h.outside("eth1")
	h.patchbay("apply", "-f", h.file("version: 1\nswitches:\n- {name: lan, type: internal, gateway: [10.3.0.1/24]}\n"))
	before, links := h.patchbay("export"), h.run(h.Netns, "ip", "-br", "link")
	h.run(h.Netns, "ip", "link", "set", "eth1", "addrgenmode", "none")
	out, err := h.Patchbay("apply", "-f", h.file("version: 1\nswitches:\n- {name: lan, type: private}\n- {name: wan, uplink: eth1}\n- {name: nic, uplink: lo}\n"))
	if err == nil || !strings.Contains(out, "lo cannot be an uplink") {
		t.Errorf("%v: %s", err, out)
	}
	if after := h.patchbay("export"); after != before {
		t.Errorf("the configuration is another:\n%s", after)
	}
	if after := h.run(h.Netns, "ip", "-br", "link"); after != links {
		t.Errorf("the kernel has\n%s, want\n%s", after, links)
	}
}

// TestKilledApplyOnLinux kills the CLI, as by kill -9, before each step in the kernel of
// an apply that exchanges uplinks, makes a switch and deletes one. The same apply again
// reaches what was asked for.
func TestKilledApplyOnLinux(t *testing.T) {
	h := newHost(t)
	h.outside("eth1")
	h.outside("eth2")
	cli := filepath.Join(h.Root, "bin/faults/patchbay")
	if _, err := os.Stat(cli); err != nil {
		t.Fatalf("%v; run `make build-faults`", err)
	}
	before := h.file("version: 1\nswitches:\n- {name: a, uplink: eth1}\n- {name: b, uplink: eth2, mtu: 1400}\n- {name: old, type: private}\n")
	after := h.file("version: 1\nswitches:\n- {name: a, uplink: eth2}\n- {name: b, uplink: eth1}\n- {name: new, type: internal, gateway: [10.3.0.1/24], masquerade: true}\n")
	killed := 0
	for step := 1; ; step++ {
		h.patchbay("apply", "--prune", "-f", before)
		_, err := h.RunEnv(append(h.Env(), fmt.Sprintf("PATCHBAY_DIE_AT=%d", step)), cli, "apply", "--prune", "-f", after)
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("before step %d: %v", step, err)
		}
		killed++
		h.patchbay("apply", "--prune", "-f", after)
		if out := h.patchbay("diff", "--prune", "-f", after); out != "nothing to change\n" {
			t.Errorf("killed before step %d, then: %s", step, out)
		}
		h.wantWhole()
	}
	if killed == 0 {
		t.Error("the CLI was never killed: the build has no faults")
	}
	t.Logf("killed before each of %d steps", killed)
}
