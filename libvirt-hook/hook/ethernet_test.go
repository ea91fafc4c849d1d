package hook_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

const ethernetVM = "bbbbbbbb-0000-4000-8000-000000000040"

// ethernet is a VM whose interface is of no network: with a tap that Patchbay makes.
func ethernet(wish string) string {
	return `<domain type='kvm'><name>vmeth</name><uuid>` + ethernetVM + `</uuid><metadata><p:ports xmlns:p='` + domain.Namespace + `'>` + wish + `</p:ports></metadata>
<devices><interface type='ethernet'><mac address='52:54:00:00:00:40'/><target dev='pt-e0' managed='no'/><driver queues='2'/><alias name='ua-e0'/></interface></devices></domain>`
}

func TestPremadeTap(t *testing.T) {
	l := newLab(t)
	before := l.kernel.String()
	text := ethernet(`<p:port alias='ua-e0' switch='ext' profile='plain' isolated='yes'/>`)
	call := func(operation string) string {
		return l.serve("qemu", []string{"vmeth", operation, "begin", "-"}, text)
	}
	for range 2 {
		for range 2 { // each may be repeated
			if says := call("prepare"); says != "" {
				t.Fatal(says)
			}
		}
		tap, err := l.kernel.Netdev(context.Background(), "pt-e0")
		if err != nil || tap.MAC.String() != "fe:54:00:00:00:40" {
			t.Fatalf("%+v, %v", tap, err)
		}
		for _, operation := range []string{"start", "started", "reconnect"} {
			if says := call(operation); says != "" {
				t.Fatalf("%s: %s", operation, says)
			}
		}
		ports := l.portsOf(ethernetVM)
		if len(ports) != 1 || ports[0].Netdev != "pt-e0" || ports[0].Policy.StormLimit != 1000 || !ports[0].Isolated || ports[0].Owner.Endpoint != "ua-e0" {
			t.Fatalf("%+v", ports)
		}
		for _, operation := range []string{"stopped", "release"} {
			if says := call(operation); says != "" {
				t.Fatalf("%s: %s", operation, says)
			}
		}
		if _, err := l.kernel.Netdev(context.Background(), "pt-e0"); !errors.Is(err, vswitch.NotFound) || len(l.portsOf("")) > 0 {
			t.Errorf("left: %+v, %v", l.portsOf(""), err)
		}
	}
	if now := l.kernel.String(); strings.Replace(now, "nft table patchbay_guards\n", "", 1) != before {
		t.Errorf("the kernel is\n%s\nnot\n%s", now, before)
	}
}

// TestPremadeTapLeaves: an interface that is taken out of a running VM is in no definition any more
// when the VM stops, and no hook tells of it.
func TestPremadeTapLeaves(t *testing.T) {
	for name, out := range map[string]func(*lab){
		"when patchbayd finds out": func(l *lab) {
			if err := l.ReleasePort(context.Background(), l.portsOf(ethernetVM)[0].Owner); err != nil {
				t.Fatal(err)
			}
		},
		"when the VM stops": func(l *lab) {
			bare := `<domain type='kvm'><name>vmeth</name><uuid>` + ethernetVM + `</uuid></domain>`
			if says := l.serve("qemu", []string{"vmeth", "stopped", "end", "-"}, bare); says != "" {
				t.Fatal(says)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			text := ethernet(`<p:port alias='ua-e0' switch='ext' profile='plain'/>`)
			for _, operation := range []string{"prepare", "start"} {
				if says := l.serve("qemu", []string{"vmeth", operation, "begin", "-"}, text); says != "" {
					t.Fatalf("%s: %s", operation, says)
				}
			}
			out(l)
			if _, err := l.kernel.Netdev(context.Background(), "pt-e0"); !errors.Is(err, vswitch.NotFound) || len(l.portsOf("")) > 0 {
				t.Errorf("left: %+v, %v", l.portsOf(""), err)
			}
		})
	}
}

// TestAddresses: with an address guard an interface needs the addresses that its metadata says.
func TestAddresses(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct{ addresses, says string }{
		{"", "no address of the port is known; name them in the VM's metadata"},
		{" addresses='10.88.0.5'", ""},
		{" addresses='10.88.0.5,fd00::5'", ""},
		{" addresses='nobody'", `"nobody" is not the address of a NIC`},
	} {
		text := ethernet(`<p:port alias='ua-e0' switch='ext' profile='plain'` + c.addresses + `><p:policy addressGuard='yes'/></p:port>`)
		says := l.serve("qemu", []string{"vmeth", "prepare", "begin", "-"}, text)
		if says == "" {
			says = l.serve("qemu", []string{"vmeth", "start", "begin", "-"}, text)
		}
		if c.says == "" && says != "" || !strings.Contains(says, c.says) {
			t.Errorf("%s: %q", c.addresses, says)
		}
	}
	ports := l.portsOf(ethernetVM)
	if len(ports) != 1 || len(ports[0].Addresses) != 2 || !ports[0].Policy.AddressGuard {
		t.Errorf("%+v", ports)
	}
}

func TestEthernetRefused(t *testing.T) {
	l := newLab(t)
	for wish, says := range map[string]string{
		`<p:port alias='ua-e0'/>`:                                                  "an interface of type ethernet needs a switch",
		`<p:port alias='ua-e0' switch='none'/>`:                                    "no such switch",
		`<p:port alias='ua-e0' switch='ext' profile='plane'/>`:                     `did you mean "plain"?`,
		`<p:port alias='e0' switch='ext'/>`:                                        "call the interface ua-e0",
		`<p:port switch='ext'/>`:                                                   "names no interface",
		`<p:port alias='ua-e0' switch='ext'/><p:port alias='ua-e0' switch='ext'/>`: "is said of one interface twice",
		`<p:port alias='ua-e0' mac='52:54:00:00:00:41' switch='ext'/>`:             "the domain has no such interface",
		`<p:port alias='ua-e0' swich='ext'/>`:                                      `did you mean "switch"?`,
	} {
		if got := l.serve("qemu", []string{"vmeth", "prepare", "begin", "-"}, ethernet(wish)); !strings.Contains(got, says) {
			t.Errorf("%s: %q does not say %q", wish, got, says)
		}
	}
	if _, err := l.kernel.Netdev(context.Background(), "pt-e0"); err == nil {
		t.Error("a tap was made for what is refused")
	}
}

// An interface on the bridge of a switch, by itself.
func TestBridge(t *testing.T) {
	l := newLab(t)
	text := func(more string) string {
		return fmt.Sprintf(`<domain type='kvm'><name>vmbr</name><uuid>%s</uuid><devices><interface type='bridge'%s<mac address='52:54:00:00:00:40'/>
<source bridge='pb-ext'/><target dev='vnet0'/></interface></devices></domain>`, ethernetVM, more)
	}
	l.setTaps(map[string]string{"vnet0": "pb-ext"}, map[string]vswitch.MAC{"vnet0": {0x52, 0x54, 0, 0, 0, 0x40}})
	start := func(more string) string { return l.serve("qemu", []string{"vmbr", "start", "begin", "-"}, text(more)) }
	if says := start(">"); says != "" {
		t.Fatal(says)
	}
	ports := l.portsOf(ethernetVM)
	if len(ports) != 1 || ports[0].Netdev != "vnet0" || !ports[0].Isolated || ports[0].Owner.Endpoint != "52-54-00-00-00-40" { // the default profile
		t.Errorf("%+v", ports)
	}
	for more, says := range map[string]string{
		" trustGuestRxFilters='yes'>":          "trustGuestRxFilters lets the guest change its address",
		"><filterref filter='clean-traffic'/>": "<filterref>",
		"><vlan><tag id='7'/></vlan>":          "libvirt's own <vlan>",
		"><bandwidth/>":                        "libvirt's own <bandwidth>",
		"><virtualport type='openvswitch'/>":   "libvirt's own <virtualport>",
	} {
		if got := start(more); !strings.Contains(got, says) {
			t.Errorf("%s: %q does not say %q", more, got, says)
		}
	}
	// A bridge that only looks like one of ours.
	foreign := strings.ReplaceAll(text(">"), "pb-ext", "pb-theirs")
	if says := l.serve("qemu", []string{"vmbr", "start", "begin", "-"}, foreign); says != "" {
		t.Errorf("somebody else's bridge: %s", says)
	}
}

// An interface whose network libvirt has forgotten (`virsh domif-setlink`) keeps its port.
func TestForgottenNetwork(t *testing.T) {
	l := newLab(t)
	l.setTaps(map[string]string{"vnet0": "pb-ext"}, map[string]vswitch.MAC{"vnet0": {0x52, 0x54, 0, 0, 0, 1}})
	const port = "72f87c96-1cef-45d4-997f-00552898ed44"
	network := adopted(t, recordedCall{Hook: "network", Args: []string{"ext-bridge"}, Stdin: []byte(`<hookData><network></network><networkport><uuid>` + port +
		`</uuid><owner><name>vm1</name><uuid>` + ethernetVM + `</uuid></owner><group>plain</group><mac address='52:54:00:00:00:01'/><plug type='bridge' bridge='pb-ext'/></networkport></hookData>`)})
	domain := func(source string) string {
		return `<domain><name>vm1</name><uuid>` + ethernetVM + `</uuid><devices><interface type='bridge'><mac address='52:54:00:00:00:01'/><source ` + source +
			` bridge='pb-ext'/><target dev='vnet0'/><alias name='ua-nic0'/></interface></devices></domain>`
	}
	for _, step := range []struct{ driver, operation, text string }{
		{"network", "port-created", network},
		{"qemu", "start", domain(`network='ext-bridge' portgroup='plain' portid='` + port + `'`)},
		{"network", "port-deleted", network},
		{"qemu", "reconnect", domain("")},
	} {
		if says := l.serve(step.driver, []string{"x", step.operation, "begin", "-"}, step.text); says != "" {
			t.Fatalf("%s: %s", step.operation, says)
		}
	}
	ports := l.portsOf(ethernetVM)
	if len(ports) != 1 || ports[0].Owner.Endpoint != port || ports[0].Policy.StormLimit != 1000 || ports[0].Isolated {
		t.Errorf("%+v", ports)
	}
}
