package hook_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/call"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/hook"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// lab is a host with a Fake kernel and two switches: "ext" and "iso".
type lab struct {
	t *testing.T
	*engine.Engine
	kernel *kernel.Fake
	index  int // of the last tap
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, kernel: kernel.NewFake(kernel.FakeConfig{
		Netdevs: []kernel.Netdev{{Name: "lo", Loopback: true, Up: true}},
		Capabilities: kernel.Capabilities{
			PortLocked: true, BridgeRules: true, GuardRules: true, ACLRules: true, NAT: true, Limits: true, Mirroring: true, VLANFiltering: true,
		},
	})}
	dirs := store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}
	l.Engine = engine.New(engine.Config{Kernel: l.kernel, Store: store.New(store.Config{Dirs: dirs, BootID: "boot", MachineID: "machine"})})
	for _, s := range []vswitch.Switch{extSwitch(), {Name: "iso", Type: vswitch.Private}} {
		if _, err := l.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: s}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// extSwitch is what the recorded network ext-bridge becomes.
func extSwitch() vswitch.Switch {
	storm := 1000
	return vswitch.Switch{Name: "ext", Type: vswitch.Internal, PortProfiles: []vswitch.PortProfile{
		{Name: "access100", Default: true, Isolated: true},
		{Name: "plain", Policy: vswitch.PolicyChange{StormLimit: &storm}},
	}}
}

// serve carries out a call as the hook does, and returns what libvirt's user would see.
func (l *lab) serve(driver string, args []string, stdin string) string {
	l.t.Helper()
	c, ok := call.Parse(append([]string{"/etc/libvirt/hooks/" + driver + ".d/50-patchbay"}, args...))
	if !ok {
		l.t.Fatalf("%s %v is no call", driver, args)
	}
	c.Stdin = []byte(stdin)
	a := hook.Serve(context.Background(), l.Engine, c)
	if a.Failed == (len(a.Out) == 0) {
		l.t.Errorf("failed %v with %q", a.Failed, a.Out)
	}
	return string(a.Out)
}

func (l *lab) portsOf(domainUUID string) (all []vswitch.Port) {
	l.t.Helper()
	for _, name := range []string{"ext", "iso"} {
		ports, err := l.Ports(context.Background(), name)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, p := range ports {
			if p.Owner.Kind == vswitch.OwnerVM && (domainUUID == "" || p.Owner.ID == domainUUID) {
				all = append(all, p)
			}
		}
	}
	return all
}

// setTaps makes the host's taps these, each in a bridge.
func (l *lab) setTaps(now map[string]string, macs map[string]vswitch.MAC) {
	l.t.Helper()
	seen, err := l.kernel.Netdevs(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	has := make(map[string]kernel.Netdev)
	for _, n := range seen {
		if n.Kind == "tun" || n.Kind == "veth" && n.Peer != 0 { // a container's is libvirt's too
			has[n.Name] = n
			if _, stays := now[n.Name]; !stays {
				l.kernel.RemoveNetdev(n.Name)
			}
		}
	}
	for name, bridge := range now {
		if n, there := has[name]; there && n.Master == bridge {
			continue
		}
		l.index++
		l.kernel.AddNetdev(kernel.Netdev{
			Name: name, Index: 100 + l.index, Kind: "tun", MAC: macs[name].TapMAC(), MTU: 1500, Master: bridge, Ethernet: true, Up: true, Carrier: true,
		})
	}
}

// Recorded names and what they become on a host with Patchbay.
func renamed(s string) string {
	return strings.NewReplacer("br-ext0", "pb-ext", "virbr-iso", "pb-iso").Replace(s)
}

var (
	networkElement  = regexp.MustCompile(`(?s)<network[ >].*</network>`)
	metadataElement = regexp.MustCompile(`(?s)<metadata>.*</metadata>`)
)

// adopted is a recorded document as it would be had the networks been made by Patchbay.
func adopted(t *testing.T, r recordedCall) string {
	t.Helper()
	text := renamed(string(r.Stdin))
	if r.Hook != call.Network {
		wish := domain.WriteWish("ua-nic0", domain.Wish{Narrowing: narrowed()})
		if !strings.Contains(text, "<alias name='ua-nic0'/>") {
			wish = ""
		}
		return metadataElement.ReplaceAllLiteralString(text, "<metadata>"+wish+"</metadata>")
	}
	s, ours := map[string]vswitch.Switch{"ext-bridge": extSwitch(), "iso": {Name: "iso"}}[r.Args[0]]
	if !ours {
		return text
	}
	definition, err := network.Definition(s, r.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	text = networkElement.ReplaceAllLiteralString(text, definition)
	return strings.Replace(text, "<plug type='network'", "<plug type='bridge'", 1)
}

func narrowed() vswitch.Narrowing {
	on := true
	return vswitch.Narrowing{Policy: vswitch.PolicyChange{DHCPGuard: &on}}
}
