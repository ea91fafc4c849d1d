package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/guest"
)

func TestProbeCapabilities(t *testing.T) {
	newNS(t) // skips without root
	before, err := NewLinux().Netdevs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := probeCapabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What `ip` and `nft` can do, by another way than ours.
	ns := newNS(t)
	sh(t, ns, "ip link add br0 type bridge; ip link add p0 type veth peer name q0; ip link set p0 master br0")
	try := func(script string) bool {
		return sh(t, ns, "if ("+script+") >/dev/null 2>&1; then echo yes; fi") == "yes\n"
	}
	want := Capabilities{
		PortLocked:    try("bridge link set dev p0 locked on && bridge -d link show dev p0 | grep -q 'locked on'"),
		VLANFiltering: try("ip link set br0 type bridge vlan_filtering 1"),
		Bonding:       try("ip link add x type bond"),
		BridgeRules:   try("nft 'add table bridge x; add chain bridge x y { type filter hook input priority 0; }'"),
		GuardRules:    try("nft 'add table bridge z; add set bridge z s { type ifname; limit rate over 1/second; counter; }'"),
		PriorityReset: true, // by TestPriorityIsReset on each of the kernels
		ACLRules:      try("nft 'add table bridge w; add map bridge w m { type ifname : verdict; }; add set bridge w s { type ipv4_addr; size 9; flags dynamic,timeout; timeout 9s; }; add chain bridge w y; add rule bridge w y update @s { ip saddr } counter'"),
		MemberRules:   try("nft 'add table netdev x; add chain netdev x y { type filter hook egress device p0 priority 0; }; add rule netdev x y fwd to p0'"),
		Limits: try("ip link add i0 type ifb && tc qdisc add dev i0 root tbf rate 1mbit burst 10k latency 1ms && tc qdisc add dev p0 clsact && " +
			"tc filter add dev p0 ingress u32 match u32 0 0 action mirred egress redirect dev i0"),
		Shares: try("tc qdisc add dev p0 root handle 1: htb default 2 && tc class add dev p0 parent 1: classid 1:2 htb rate 1mbit && " +
			"tc filter add dev p0 parent 1: protocol all pref 1 handle 1: u32 divisor 256"),
		Mirroring: try("ip link add p1 type veth peer name q1 && nft add table bridge v && tc qdisc add dev p1 clsact && tc filter add dev p1 egress u32 match u32 0 0 action mirred egress mirror dev p0 continue"),
		NAT:       try("nft 'add table inet x; add chain inet x y { type nat hook postrouting priority 0; }; add rule inet x y masquerade'"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	after, err := NewLinux().Netdevs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(before), names(after)); diff != "" {
		t.Errorf("netdevs of the host (-before +after):\n%s", diff)
	}
}

// TestProbeSendsNothingInCircles: the bridge's own frames, and any other, come to an end when all
// has been tried.
func TestProbeSendsNothingInCircles(t *testing.T) {
	ns := newNS(t)
	within(t, ns, func() error {
		c, err := dialRTNL()
		if err != nil {
			return err
		}
		defer c.close()
		var found Capabilities
		if err := found.probe(t.Context(), c); err != nil {
			return err
		}
		bridge, err := c.link("probe")
		if err != nil {
			return err
		}
		return sendFrame(bridge.index, taggedTry(0)) // what circles passes some hundred times before this returns
	})
	var links []struct {
		Stats struct{ TX, RX struct{ Packets int } } `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(sh(t, ns, "ip -j -s link show dev port")), &links); err != nil || len(links) != 1 {
		t.Fatal(links, err)
	}
	if s := links[0].Stats; s.TX.Packets > 50 || s.RX.Packets > 50 {
		t.Errorf("the port has sent %d frames and got %d", s.TX.Packets, s.RX.Packets)
	}
}

// TestProbeLeavesNoBond: the module of bonding makes a bond0 when it is loaded, which the
// probe does. It unloads the module, and so runs in a guest alone.
func TestProbeLeavesNoBond(t *testing.T) {
	guest.Needs(t, guest.NICs, guest.Bonding)
	run := commands(t)
	probe := func() string {
		caps, err := NewLinux().Capabilities(t.Context())
		if err != nil || !caps.Bonding {
			t.Fatalf("the probe found %+v, %v", caps, err)
		}
		return run("ip", "-o", "link", "show", "type", "bond")
	}
	run("modprobe", "-r", "bonding")
	if left := probe(); left != "" {
		t.Errorf("the probe left %s", left)
	}
	run("ip", "link", "add", "bond0", "type", "bond")
	if left := probe(); left == "" {
		t.Error("the probe removed a bond of somebody else")
	}
	run("ip", "link", "del", "bond0")
}

func names(devs []Netdev) (out []string) {
	for _, d := range devs {
		out = append(out, d.Name)
	}
	return out
}

func TestProbeCapabilitiesStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := probeCapabilities(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestMissingRulesAreNamed(t *testing.T) {
	newNS(t) // skips without root
	if err := requireRules(ruleTables()); err != nil {
		t.Errorf("on this kernel: %v", err)
	}
	// Masquerading outside of a NAT hook stands for what a kernel does not have.
	err := inNewNetns(func() error {
		return tryTable(probeTable(unix.NFPROTO_BRIDGE, chainNAT, expression{name: exprMasq}))
	})
	if !isUnsupported(err) {
		t.Errorf("a NAT chain in family bridge: %v", err)
	}
	if err := missingRules("CONFIG_NFT_MASQ", err); !errors.Is(err, vswitch.CapabilityMissing) || !strings.Contains(err.Error(), "CONFIG_NFT_MASQ") {
		t.Errorf("got %v", err)
	}
}

// TestProbeLeavesNoNetdevs: what modules make when the probe loads them goes, and what somebody
// makes at the same time stays: where the module makes none (max_bonds=0, numifbs=0), or ever.
func TestProbeLeavesNoNetdevs(t *testing.T) {
	guest.Needs(t, guest.NICs, guest.Bonding)
	run := commands(t)
	c, err := dialRTNL()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	unload := func() {
		for _, module := range []string{"bonding", "ifb"} {
			if _, err := os.Stat("/sys/module/" + module); err == nil {
				run("modprobe", "-r", module)
			}
		}
		if n := len(c.spares()); n != 3 {
			t.Fatalf("modules would make %d netdevs, not 3", n)
		}
	}
	unload()
	if _, err := probeCapabilities(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range spareNetdevs() {
		if _, err := os.Stat("/sys/module/" + s.module); err != nil {
			t.Errorf("the probe has not loaded %s", s.module)
		}
		if _, err := c.link(s.name); !isAbsent(err) {
			t.Errorf("%s is left: %v", s.name, err)
		}
	}
	unload()
	spare := c.spares()
	run("modprobe", "bonding", "max_bonds=0")
	run("modprobe", "ifb", "numifbs=1")
	run("ip", "link", "add", "bond0", "type", "bond")
	run("ip", "link", "set", "ifb0", "up")
	run("ip", "link", "add", "ifb1", "type", "ifb")
	if err := c.dropSpares(spare); err != nil {
		t.Fatal(err)
	}
	for _, s := range spareNetdevs() {
		run("ip", "link", "del", s.name)
	}
}

// commands runs programs where the test runs, each of which has to succeed.
func commands(t *testing.T) (run func(argv ...string) string) {
	return func(argv ...string) string {
		t.Helper()
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
		return string(out)
	}
}
