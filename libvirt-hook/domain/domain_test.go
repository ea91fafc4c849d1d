package domain_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/recorded"
)

const id = "bbbbbbbb-0000-4000-8000-000000000001"

func mac(last byte) vswitch.MAC { return vswitch.MAC{0x52, 0x54, 0, 0, 0, last} }

// What real libvirt daemons wrote of one VM while it ran: the port's id is there of the
// interface that is plugged into a bridge, which libvirtxml would drop.
func TestRecorded(t *testing.T) {
	for _, version := range recorded.Versions() {
		for _, r := range recorded.Calls(t, version) {
			if r.Name() != "basic/qemu-start-begin" {
				continue
			}
			d, err := domain.Parse(r.Stdin)
			if err != nil {
				t.Fatal(err)
			}
			ext, iso := d.NICs[0].PortID, d.NICs[1].PortID
			want := domain.Domain{Name: "vm1", UUID: id, Type: "qemu", NICs: []domain.NIC{
				{Type: "bridge", Alias: "ua-nic0", MAC: mac(1), Network: "ext-bridge", Portgroup: "plain", PortID: ext, Bridge: "br-ext0", Netdev: "vnet0", Queues: 2},
				{Type: "network", Alias: "ua-nic1", MAC: mac(2), Network: "iso", PortID: iso, Bridge: "virbr-iso", Netdev: "vnet1"},
				{Type: "bridge", Alias: "ua-nic2", MAC: mac(3), Bridge: "br-raw0", Netdev: "vnet2"},
				{Type: "ethernet", Alias: "ua-nic3", MAC: mac(4), Netdev: "tap-pre0", Premade: true},
			}}
			if diff := cmp.Diff(want, d, cmpopts.IgnoreUnexported(domain.NIC{})); diff != "" || len(ext) != 36 || len(iso) != 36 {
				t.Errorf("%s, ports %q and %q (-want +got):\n%s", version, ext, iso, diff)
			}
		}
	}
}

// A team's VF is an interface, of a network or not, or a device that libvirt knows no more of.
func TestPrimaries(t *testing.T) {
	const text = `<domain type='kvm'><name>vm1</name><uuid>` + id + `</uuid><devices>
		<interface type='bridge'><mac address='52:54:00:00:00:01'/><source network='wan' portid='x' bridge='pb-wan'/><target dev='vnet0'/><teaming type='persistent'/><alias name='ua-one'/></interface>
		<interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:01'/><driver name='vfio'/>
			<source><address type='pci' domain='0x0000' bus='0x01' slot='0x10' function='0x2'/></source>
			<teaming type='transient' persistent='ua-one'/><alias name='hostdev0'/><address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></interface>
		<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0001' bus='0xaf' slot='0x1f' function='0x7'/></source>
			<teaming type='transient' persistent='ua-two'/><alias name='hostdev1'/></hostdev>
		<interface type='network'><mac address='52:54:00:00:00:03'/><source network='wan-sriov'/><teaming type='transient' persistent='ua-three'/><alias name='ua-three-vf'/></interface>
		<hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x06' slot='0x00' function='0x0'/></source><alias name='hostdev2'/></hostdev>
	</devices></domain>`
	d, err := domain.Parse([]byte(text))
	want := []domain.Primary{{"hostdev0", "ua-one", "0000:01:10.2"}, {"ua-three-vf", "ua-three", ""}, {"hostdev1", "ua-two", "0001:af:1f.7"}}
	if diff := cmp.Diff(want, d.Primaries); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	for _, n := range d.NICs {
		if n.Team != (n.Alias == "ua-one") {
			t.Errorf("%s is of a team: %v", n.Alias, n.Team)
		}
	}
}

// Every recorded domain is read, and the id of each alike.
func TestEveryRecordedDomain(t *testing.T) {
	seen := 0
	for _, version := range recorded.Versions() {
		for _, r := range recorded.Calls(t, version) {
			if r.Hook == "network" {
				continue
			}
			seen++
			d, err := domain.Parse(r.Stdin)
			name, uuid, idErr := domain.ParseID(r.Stdin)
			if err != nil || idErr != nil || d.Name != r.Args[0] || name != d.Name || uuid != d.UUID || len(d.NICs) == 0 {
				t.Errorf("%s: %+v, %v; %s %s, %v", r.Name(), d, err, name, uuid, idErr)
			}
		}
	}
	if seen < 130 {
		t.Errorf("%d domains", seen)
	}
}

func definition(metadata string) string {
	return `<domain type='kvm'><name>web01</name><uuid>` + id + `</uuid><metadata>` + metadata + `</metadata><devices>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='prod'/><alias name='ua-web'/></interface>
<interface type='network'><mac address='52:54:00:00:00:02'/><source network='prod'/></interface>
</devices></domain>`
}

// declared is an element as libvirt stores it that was set without its namespace.
func declared(state string) string {
	return strings.NewReplacer("<state>", "<p:state xmlns:p='"+domain.StateNamespace+"'>", "</state>", "</p:state>").Replace(state)
}

// What is written of an interface is read of it.
func TestWishIsRead(t *testing.T) {
	on, off, storm := true, false, 10
	vlan := vswitch.AccessVLAN(12)
	want := domain.Wish{Switch: "", Narrowing: vswitch.Narrowing{
		VLAN: &vlan, Isolated: &on, MACSpoofing: &off, Policy: vswitch.PolicyChange{DHCPGuard: &on, StormLimit: &storm},
	}}
	d, err := domain.Parse([]byte(definition(domain.WriteWish("ua-web", want) + declared(domain.WriteState([]byte(`{"version":1,"ports":[]}`))))))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, d.NICs[0].Wish); diff != "" || d.NICs[1].Wish != nil {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if string(d.State) != `{"version":1,"ports":[]}` {
		t.Errorf("state %q", d.State)
	}
}

func TestRefused(t *testing.T) {
	ports := func(inside string) string {
		return definition(`<p:ports xmlns:p='` + domain.Namespace + `'>` + inside + `</p:ports>`)
	}
	for text, says := range map[string]string{
		ports(`<p:port mac='52:54:00:00:00:09' isolated='yes'/>`):                                 "it has ua-web, 52:54:00:00:00:02",
		ports(`<p:port alias='ua-web' vlan='access 0'/>`):                                         "port ua-web: vlan",
		ports(`<p:port alias='ua-web' switch='prod'/>`):                                           "switch and profile of an interface of a network are the network's",
		ports(`<p:port alias='ua-web'><p:policy><p:acl/><p:acl>x</p:acl></p:policy></p:port>`):    "an empty one beside others",
		ports(`<p:port alias='ua-web' policy='x'/>`):                                              "policy is an element of its own",
		ports(`<p:port alias='ua-web'><p:vlan>access 5</p:vlan></p:port>`):                        "vlan is an attribute",
		ports(`<p:port alias='ua-web'><p:policy/><p:policy/></p:port>`):                           "policy is given twice",
		ports(`<p:port alias='ua-web'><p:policy><p:bandwidth maxIn='much'/></p:policy></p:port>`): "maxIn",
		ports(`<p:port alias='ua-web' mac='zz'/>`):                                                "mac",
		`<domain><name>x</name></domain>`:                                                         "uuid",
		`<network/>`:                                                                              "domain",
		`<domain>` + strings.Repeat("<a>", 100):                                                   "nest deeper than 64",
		`not XML`:                                                                                 "domain",
	} {
		if _, err := domain.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.200s: %v does not say %q", text, err, says)
		}
	}
}

// Whatever stands in a domain, reading ends, and what it says of interfaces is bounded.
func FuzzParse(f *testing.F) {
	f.Add(definition(domain.WriteWish("ua-web", domain.Wish{Switch: "prod"})))
	f.Add(definition(`<p:ports xmlns:p='` + domain.Namespace + `'><p:port mac='52:54:00:00:00:02'><p:policy stormLimit='7'><p:acl>deny in from any</p:acl></p:policy></p:port></p:ports>`))
	f.Add("<domain><uuid>")
	f.Add(definition(declared(domain.WriteState([]byte(`{"version":1,"ports":[{"switch":"prod"}]}`)))))
	f.Fuzz(func(t *testing.T, text string) {
		d, err := domain.Parse([]byte(text))
		if err != nil {
			return
		}
		if _, uuid, err := domain.ParseID([]byte(text)); err != nil || uuid != d.UUID {
			t.Errorf("read whole, and not its id: %v", err)
		}
		if d.State != nil {
			again, err := domain.Parse([]byte(definition(declared(domain.WriteState(d.State)))))
			if err != nil || string(again.State) != string(d.State) {
				t.Errorf("state %q is written as %q, %v", d.State, again.State, err)
			}
		}
		for _, n := range d.NICs {
			if n.Wish == nil || n.Alias == "" {
				continue
			}
			again, err := domain.Parse([]byte(`<domain><uuid>` + id + `</uuid><metadata>` + domain.WriteWish("ua-x", *n.Wish) +
				`</metadata><devices><interface type='` + n.Type + `'><source bridge='pb-` + n.Wish.Switch + `'/><alias name='ua-x'/></interface></devices></domain>`))
			if err == nil && !cmp.Equal(n.Wish, again.NICs[0].Wish) {
				t.Errorf("a wish is written as another: %s", cmp.Diff(n.Wish, again.NICs[0].Wish))
			}
		}
	})
}
