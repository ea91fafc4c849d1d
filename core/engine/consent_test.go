package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// wantRefusal fails unless a verb is refused, with the words, and touches nothing.
func (l *lab) wantRefusal(verb func() error, words ...string) {
	l.t.Helper()
	before := l.kernel.String()
	err := verb()
	wantKind(l.t, err, vswitch.UplinkInUse)
	for _, w := range append(words, "--yes") {
		if err != nil && !strings.Contains(err.Error(), w) {
			l.t.Errorf("%q is not in: %v", w, err)
		}
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		l.t.Errorf("a refusal touched the kernel:\n%s", diff)
	}
}

func TestTheHostsWayOutNeedsAYes(t *testing.T) {
	ctx := context.Background()
	l := carrying(t)
	l.wantRefusal(func() error { _, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(false)}); return err }, "10.1.0.5/24", "default via 10.1.0.1 dev nic0")
	l.mustAdd(lan(true))
	l.wantRefusal(func() error { return l.setHostAccess(false) }, "10.1.0.5/24")
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	s, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(false), Yes: true})
	if err != nil || !strings.Contains(strings.Join(s.Warnings, " "), "10.1.0.5/24") {
		t.Errorf("with a yes: %v, %v", s.Warnings, err)
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantHostOn("nic0")
}

func TestAFileNeedsAYesToo(t *testing.T) {
	ctx := context.Background()
	l := carrying(t)
	req := configured(lan(false))
	l.wantRefusal(func() error { _, err := l.Apply(ctx, req); return err }, "10.1.0.5/24")
	req.Yes = true
	if d := l.mustApply(req); !strings.Contains(strings.Join(d.Warnings, " "), "10.1.0.5/24") {
		t.Errorf("warnings: %v", d.Warnings)
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
	l.wantHostOn("nic0")
}

// managed are the files of network managers, by which they are found.
func managed() map[string]struct {
	file, text string
	words      []string // of the refusal; none: a warning
} {
	return map[string]struct {
		file, text string
		words      []string
	}{
		"NetworkManager":   {"run/NetworkManager/devices/7", "[device]\nmanaged=true\n", []string{"NetworkManager", "90-patchbay.conf", "interface-name:nic0"}},
		"systemd-networkd": {"run/systemd/netif/links/7", "ADMIN_STATE=configured\n", []string{"systemd-networkd", "05-patchbay.network"}},
		"dhclient":         {"proc/4711/cmdline", "/sbin/dhclient\x00-4\x00nic0\x00", []string{"dhclient (process 4711)", "kill 4711", "pbh-lan"}},
		"dhcpcd":           {"proc/4711/cmdline", "dhcpcd: nic0 [ip4]\x00", []string{"dhcpcd", "kill 4711"}},
		"ifupdown":         {"etc/network/interfaces", "auto nic0\niface nic0 inet static\n", nil},
		"ifupdown.d":       {"etc/network/interfaces.d/nic0", "iface nic0 inet6 auto\n", nil},
	}
}

func (l *lab) openAt(root string) {
	l.open()
	l.Engine = engine.New(engine.Config{Kernel: mortal{l.kernel}, Store: l.store(), HostRoot: root})
}

func TestNetworkManagersAreNamed(t *testing.T) {
	ctx := context.Background()
	for name, c := range managed() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			nic := nics()[1]
			nic.Index = 7
			l.kernel.AddNetdev(nic)
			l.kernel.SetAddressing("nic0", hostThings())
			root := t.TempDir()
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, c.file)), 0o755))
			must(t, os.WriteFile(filepath.Join(root, c.file), []byte(c.text), 0o600))
			l.openAt(root)
			if c.words != nil {
				l.wantRefusal(func() error { _, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(true)}); return err }, c.words...)
			}
			s, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: lan(true), Yes: c.words != nil})
			if err != nil || len(s.Warnings) != 1 {
				t.Errorf("warnings %q, %v", s.Warnings, err)
			}
		})
	}
	t.Run("others", func(t *testing.T) {
		l := carrying(t)
		root := t.TempDir()
		for file, text := range map[string]string{
			"run/NetworkManager/devices/0": "managed=false\n", "run/systemd/netif/links/0": "ADMIN_STATE=unmanaged\n",
			"etc/network/interfaces": "iface nic0 inet manual\niface nic1 inet dhcp\n", "proc/1/cmdline": "dhclient\x00nic1\x00", "proc/2/cmdline": "",
		} {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755))
			must(t, os.WriteFile(filepath.Join(root, file), []byte(text), 0o600))
		}
		l.openAt(root)
		if s := l.mustAdd(lan(true)); len(s.Warnings) > 0 {
			t.Errorf("warnings %q", s.Warnings)
		}
	})
}

// What somebody gives the NIC behind our back is told, and moves when the switch is
// repaired.
func TestStrayAddressesAreToldAndMoved(t *testing.T) {
	l := newLab(t)
	l.mustAdd(lan(true))
	l.wantHealthy()
	l.kernel.SetAddressing("nic0", hostThings())
	s, err := l.Status(context.Background())
	if err != nil || len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.Drifted || !strings.Contains(s.Problems[0].Hint, "switch add lan --uplink nic0") {
		t.Errorf("status %+v, %v", s.Problems, err)
	}
	l.mustAdd(lan(true))
	l.wantHostOn("pbh-lan", "nic0")
	l.wantHealthy()
	if macs, err := l.MACs(context.Background()); err != nil || len(macs) != 0 {
		t.Errorf("the address from the pool is still held: %v, %v", macs, err)
	}
}
