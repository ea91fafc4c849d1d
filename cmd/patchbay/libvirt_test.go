package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

func TestProfileCommands(t *testing.T) {
	h := newFakeHost(t)
	h.must("switch add prod --type internal")
	for _, step := range []struct{ line, want string }{
		{"switch profile list prod", "Switch prod has no port profile. To add one: patchbay switch profile set prod NAME\n"},
		{"switch profile set prod web --dhcp-guard --max-in 10M --default", "switch prod changed\n  port profile web  - -> default, dhcpGuard true, bandwidth.in.max 10M\n"},
		{"switch profile set prod web --storm-limit 100", "switch prod changed\n  port profile web  default, dhcpGuard true, bandwidth.in.max 10M -> default, dhcpGuard true, stormLimit 100, bandwidth.in.max 10M\n"},
		{"switch profile set prod db --isolated --default", "switch prod changed\n  port profile web  default, dhcpGuard true, stormLimit 100, bandwidth.in.max 10M -> dhcpGuard true, stormLimit 100, bandwidth.in.max 10M\n  port profile db   - -> default, isolated\n"},
		{"switch profile set prod db --isolated", "switch prod is as asked already\n"},
		{"switch profile list prod", "PROFILE  SAYS\ndb       default, isolated\nweb      dhcpGuard true, stormLimit 100, bandwidth.in.max 10M\n"},
		{"switch profile delete prod web", "switch prod changed\n  port profile web  dhcpGuard true, stormLimit 100, bandwidth.in.max 10M -> -\n"},
	} {
		if diff := cmp.Diff(step.want, h.must(step.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.line, diff)
		}
	}
	if shown := h.must("switch show prod"); !strings.Contains(shown, "Port profiles  db: default, isolated") {
		t.Errorf("shown as\n%s", shown)
	}
	if exported := h.must("export"); !strings.Contains(exported, "- {name: db, default: true, isolated: true}") {
		t.Errorf("exported as\n%s", exported)
	}
	for line, says := range map[string]string{
		"switch profile delete prod web": `there is no port profile "web"`,
		"switch profile set prod -x":     "there is no flag -x",
		"switch profile set no web":      "no such switch",
	} {
		if _, stderr, code := h.run(strings.Fields(line)...); code == exitOK || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr)
		}
	}
}

// The network that is printed is the switch's, with its profiles.
func TestLibvirtNetwork(t *testing.T) {
	h := newFakeHost(t)
	h.must("switch add prod --type private")
	h.must("switch profile set prod web --dhcp-guard --default")
	n, err := network.Parse([]byte(h.must("libvirt network prod --name tenants")))
	if err != nil || n.Validate() != nil {
		t.Fatal(err, n.Validate())
	}
	f, err := n.Profile("")
	if err != nil || n.Name != "tenants" || n.Switch != "prod" || f.Name != "web" || f.Policy.DHCPGuard == nil {
		t.Errorf("%+v, %v, %v", n, f, err)
	}
	_, stderr, code := h.run("libvirt", "network", "prod", "--define")
	if code == exitOK || !strings.Contains(stderr, "no patchbayd is connected to libvirt") || !strings.Contains(stderr, "virsh net-define /dev/stdin") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestLibvirtInterface(t *testing.T) {
	h := newFakeHost(t)
	h.must("switch add prod --type private")
	h.must("switch profile set prod web --storm-limit 1000")
	first := h.must("libvirt interface prod --domain web01 --portgroup web --alias ua-web --queues 2")
	want := `<interface type="network">
  <mac address="0a:50:42:fc:f5:00"></mac>
  <source network="prod" portgroup="web"></source>
  <model type="virtio"></model>
  <driver queues="2"></driver>
  <alias name="ua-web"></alias>
</interface>
`
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := h.must("libvirt interface prod --domain web01 --portgroup web --alias ua-web --queues 2"); again != first {
		t.Errorf("asked again:\n%s", again)
	}
	if mac := h.must("libvirt mac prod --domain web02"); mac != "0a:50:42:fc:f5:01\n" {
		t.Errorf("the next one is %q", mac)
	}
	if out := h.must("libvirt interface prod --domain web01 --bridge --alias ua-raw"); !strings.Contains(out, `<source bridge="pb-prod">`) {
		t.Errorf("on the bridge: %s", out)
	}
	tapped, stderr, code := h.run("libvirt", "interface", "prod", "--domain", "web01", "--tap", "--alias", "ua-tap", "--portgroup", "web")
	if code != exitOK || !strings.Contains(tapped, `<interface type="ethernet">`) || !strings.Contains(tapped, `managed="no"`) || !strings.Contains(stderr, "switch='prod' profile='web'") {
		t.Errorf("with a tap: exit code %d, %s, %s", code, tapped, stderr)
	}
	out, stderr, code := h.run("libvirt", "interface", "prod", "--domain", "web01", "--portgroup", "web", "--alias", "ua-web", "--dhcp-guard", "--storm-limit", "10")
	if code != exitOK || !strings.Contains(stderr, "virsh metadata web01 "+domain.Namespace+" --config --key patchbay --set") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	_, element, _ := strings.Cut(stderr, `--set "<ports>`) // libvirt declares the namespace
	element = `<ports xmlns='` + domain.Namespace + `'>` + element
	d, err := domain.Parse([]byte(`<domain><uuid>bbbbbbbb-0000-4000-8000-000000000001</uuid><metadata>` + strings.Split(element, `"`)[0] + `</metadata><devices>` + out + `</devices></domain>`))
	if err != nil || len(d.NICs) != 1 || d.NICs[0].Wish == nil || *d.NICs[0].Wish.Policy.StormLimit != 10 || !*d.NICs[0].Wish.Policy.DHCPGuard {
		t.Errorf("read as %+v, %v", d, err)
	}
	_, stderr, _ = h.run("libvirt", "interface", "prod", "--domain", "my $(vm)", "--portgroup", "web", "--alias", "ua-it's", "--dhcp-guard")
	if !strings.Contains(stderr, `virsh metadata 'my $(vm)' `) || !strings.Contains(stderr, ` --set "<ports>`) || !strings.Contains(stderr, "ua-it&#39;s") {
		t.Errorf("not for a shell: %s", stderr)
	}
	_, stderr, code = h.run("libvirt", "interface", "prod", "--domain", "web01", "--portgroup", "web", "--alias", "ua-web", "--address-guard", "--address", "fd00::5", "--address", "10.0.0.5")
	if code != exitOK || !strings.Contains(stderr, "addresses='10.0.0.5 fd00::5'") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for line, says := range map[string]string{
		"libvirt interface prod":                                               "--domain is missing",
		"libvirt mac prod":                                                     "--domain is missing",
		"libvirt mac nope --domain x":                                          "no such switch",
		"libvirt interface prod --domain x --portgroup webb":                   `did you mean "web"?`,
		"libvirt interface prod --domain x --alias web":                        "begin it with ua-: --alias ua-web",
		"libvirt interface prod --domain x --dhcp-guard":                       "give --alias ua-web",
		"libvirt interface prod --domain x --bridge --network prod":            "exclude each other",
		"libvirt interface prod --domain x --tap":                              "give --alias ua-web",
		"libvirt interface prod --domain x --queues 1000":                      "1000 queues are not 0-256",
		"libvirt interface prod --domain x --portgroup web --storm-limit 2000": "stormLimit",
		"libvirt interface prod --domain x --alias ua-x --burst 1M":            "a burst without a limit",
		"libvirt interface prod --domain x --alias ua-x --address-guard":       "give the addresses that the guest has: --address",
		"libvirt interface prod --domain x --alias ua-x --address 10.0.0.5/24": "is not the address of a NIC",
		"libvirt interface prod --domain x --mac 0a:50:42:fc:f5:00":            "0a:50:42:fc:f5:00",
		"libvirt mac release":                                                  "give --domain, --mac or both",
	} {
		if _, stderr, code := h.run(strings.Fields(line)...); code == exitOK || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr)
		}
	}
	if released := h.must("libvirt mac release --domain web02"); released != "0a:50:42:fc:f5:01 of vm web02 released\n" {
		t.Errorf("released: %q", released)
	}
	if released := h.must("libvirt mac release --domain web02"); released != "nothing was held\n" {
		t.Errorf("released again: %q", released)
	}
}

// TestLibvirtSRIOV: the pair of a port and a VF is printed where VMs can have VFs, for what a VF keeps.
func TestLibvirtSRIOV(t *testing.T) {
	h := newFakeHost(t)
	h.kernel.AddNetdev(fakeVFs("eth2", 3, 4))
	h.must("switch add plain --uplink eth1")
	h.must("switch add wan --uplink eth2 --sriov")
	refuse := func(line, says string) {
		t.Helper()
		if _, stderr, code := h.run(strings.Fields(line)...); code == exitOK || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr)
		}
	}
	const wan = "libvirt interface wan --domain db01 --alias ua-db --sriov"
	refuse(wan, "this machine has no IOMMU")
	refuse("libvirt network wan --sriov", "this machine has no IOMMU")
	h.kernel.SetHost(kernel.Host{IOMMU: true})
	want := `<network>
  <name>wan-sriov</name>
  <uuid>%s</uuid>
  <forward mode="hostdev" managed="yes">
    <pf dev="eth2"></pf>
  </forward>
</network>
`
	pool := h.must("libvirt network wan --sriov")
	_, rest, _ := strings.Cut(pool, "<uuid>")
	uuid, _, _ := strings.Cut(rest, "</uuid>")
	if diff := cmp.Diff(fmt.Sprintf(want, uuid), pool); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = `<interface type="network">
  <mac address="0a:50:42:fc:f5:02"></mac>
  <source network="wan"></source>
  <model type="virtio"></model>
  <teaming type="persistent"></teaming>
  <alias name="ua-db"></alias>
</interface>
<interface type="network">
  <mac address="0a:50:42:fc:f5:02"></mac>
  <source network="wan-sriov"></source>
  <teaming type="transient" persistent="ua-db"></teaming>
  <alias name="ua-db-vf"></alias>
</interface>
`
	if diff := cmp.Diff(want, h.must(wan)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if other := h.must(wan + " --sriov-network fast"); !strings.Contains(other, `<source network="fast">`) {
		t.Errorf("of another network: %s", other)
	}
	h.must("switch profile set wan guarded --dhcp-guard --max-out 10M")
	refuse(wan+" --portgroup guarded", "no VF that libvirt gives keeps dhcpGuard, bandwidth.out.max of the port")
	refuse(wan+"=yes", `"yes" is none of`)
	refuse(wan+" --sriov-weight 5", "a VM gets its VF from libvirt")
	refuse(wan+" --isolated", "keeps isolated of the port")
	refuse(wan+" --bridge", "leave out --bridge and --tap")
	refuse(wan+" --model e1000e", "leave out --model")
	refuse("libvirt interface wan --domain db01 --sriov", "give --alias ua-web")
	refuse("libvirt interface wan --domain db01 --sriov-network fast", "give --sriov too")
	refuse("libvirt interface plain --domain db01 --alias ua-db --sriov", "make it again with --sriov")
	refuse("libvirt network plain --sriov", "make it again with --sriov")
	h.must("switch delete plain")
	h.must("switch add none --uplink eth1 --sriov")
	refuse("libvirt network none --sriov", "`echo 4 >/sys/class/net/eth1/device/sriov_numvfs`")
	h.must("switch delete none")
	h.kernel.SetCapabilities(kernel.Capabilities{PortLocked: true, BridgeRules: true, Bonding: true})
	h.must("team add both --members eth1")
	h.must("switch add none --uplink both --sriov")
	refuse("libvirt network none --sriov", "the uplink is a team")
}

func fakeVFs(name string, last byte, vfs int) kernel.Netdev {
	n := fakeNIC(name, last)
	n.NumVFs = vfs
	return n
}

// Profiles are a part of a host's file as all else of a switch.
func TestProfilesAreApplied(t *testing.T) {
	h := newFakeHost(t)
	apply := func(profiles string) string {
		t.Helper()
		return h.must("apply -f " + hostFile(t, "version: 1\nswitches:\n- name: prod\n  type: private\n  portProfiles: "+profiles+"\n"))
	}
	const two = "[{name: web, vlan: untagged, policy: {stormLimit: 7}}, {name: db, isolated: true}]"
	if out := apply(two); !strings.Contains(out, "port profile db isolated") || !strings.Contains(out, "port profile web vlan untagged, stormLimit 7") {
		t.Errorf("first: %s", out)
	}
	if out := apply(two); strings.Contains(out, "port profile") {
		t.Errorf("again: %s", out)
	}
	if out := apply("[{name: db}]"); !strings.Contains(out, "port profile db isolated -> nothing of its own") || !strings.Contains(out, "port profile web vlan untagged, stormLimit 7 -> none") {
		t.Errorf("changed: %s", out)
	}
	if _, stderr, code := h.run("apply", "-f", hostFile(t, "version: 1\nswitches:\n- {name: prod, type: private, portProfiles: [{name: db, islated: true}]}\n")); code == exitOK || !strings.Contains(stderr, `did you mean "isolated"?`) {
		t.Errorf("misspelled: %s", stderr)
	}
}

func hostFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "host.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
