package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// linuxLab is a kernel.Linux in a namespace of its own, with guests' namespaces.
type linuxLab struct {
	t      *testing.T
	host   *os.File
	guests []*os.File
}

func newLinuxLab(t *testing.T, guests int) *linuxLab {
	t.Helper()
	l := &linuxLab{t: t, host: newNS(t)}
	for range guests {
		l.guests = append(l.guests, newNS(t))
	}
	return l
}

// do runs fn with the kernel seen from the lab's host.
func (l *linuxLab) do(fn func(k *Linux) error) error {
	return inNetns(l.host, func() error { return fn(NewLinux()) })
}

func (l *linuxLab) apply(steps ...plan.Step) error {
	return l.do(func(k *Linux) error { return k.Apply(context.Background(), steps) })
}

func (l *linuxLab) observe(scope plan.State) (s plan.State) {
	l.t.Helper()
	err := l.do(func(k *Linux) (err error) {
		s, err = k.Observe(context.Background(), scope)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// reach goes from had to desired and fails unless a second plan is empty.
func (l *linuxLab) reach(desired, had plan.State) {
	l.t.Helper()
	steps := plan.Diff(desired, l.observe(plan.Union(desired, had)))
	if err := l.apply(steps...); err != nil {
		l.t.Fatalf("%v\nplan:\n%s", err, words(steps))
	}
	if again := plan.Diff(desired, l.observe(plan.Union(desired, had))); len(again) > 0 {
		l.t.Fatalf("the second plan is not empty:\n%s\nafter:\n%s", words(again), words(steps))
	}
}

func words(steps []plan.Step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, "  "+s.String())
	}
	return strings.Join(lines, "\n")
}

// state is a switch with a host port and the guests named by their numbers.
func (l *linuxLab) state(mtu int, guests ...int) plan.State {
	s := plan.State{
		Bridges: map[string]plan.Bridge{"pb-s": {Name: "pb-s", MAC: vswitch.DerivedMAC("b"), MTU: mtu, Alias: "patchbay:bridge switch=s", Up: true}},
		Ports: map[string]plan.Port{"pbp-s": {
			Name: "pbp-s", Bridge: "pb-s", Alias: "patchbay:port switch=s host", Group: vswitch.Group(1), MTU: mtu, Up: true,
			MAC: vswitch.DerivedMAC("h"), Locked: true, FDB: []vswitch.MAC{{2, 0, 0, 0, 0, 0xfe}},
			Endpoint: &plan.Endpoint{
				Name: "pbh-s", MAC: vswitch.MAC{2, 0, 0, 0, 0, 0xfe}, MTU: mtu, Alias: "patchbay:host switch=s", Up: true,
				Addresses: []plan.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24"), NoDAD: true}, {Prefix: netip.MustParsePrefix("fd00::1/64"), NoDAD: true}},
			},
		}},
	}
	for _, i := range guests {
		p := l.guest(i, mtu)
		s.Ports[p.Name] = p
	}
	return s
}

func (l *linuxLab) guest(i, mtu int) plan.Port {
	mac := vswitch.MAC{2, 0, 0, 0, 0, byte(i)}
	table := 100
	return plan.Port{
		Name: fmt.Sprintf("pbguest%d", i), Bridge: "pb-s", Alias: "patchbay:port switch=s", Group: vswitch.Group(1), MTU: mtu, Up: true,
		MAC: vswitch.DerivedMAC("g", fmt.Sprint(i)), Locked: true, FDB: []vswitch.MAC{mac},
		Endpoint: &plan.Endpoint{
			Netns: nsPath(l.guests[i]), Name: "eth0", MAC: mac, MTU: mtu, Up: true,
			Addresses: []plan.Address{
				{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(10 + i)}), 24), NoDAD: true},
				{Prefix: netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd00::%d", 10+i)), 64), NoDAD: true},
			},
			Routes: []vswitch.Route{
				{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 1400, AdvMSS: 1300},
				{Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00::1"), Priority: 77},
				{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), Table: &table},
			},
		},
	}
}

func TestLinuxReachesDesired(t *testing.T) {
	l := newLinuxLab(t, 2)
	pristine := sh(t, l.host, "ip -o link; ip -o addr; ip route; ip -6 route")
	s := l.state(1500, 0, 1)
	l.reach(s, plan.State{})
	link := sh(t, l.host, "ip -d link show pb-s; bridge -d link show dev pbguest0; bridge fdb show dev pbguest0")
	for _, want := range []string{
		"stp_state 0", "forward_delay 0", "mcast_snooping 0", vswitch.DerivedMAC("b").String(),
		"learning off", "flood off", "locked on", "02:00:00:00:00:00 sticky master pb-s static",
	} {
		if !strings.Contains(link, want) {
			t.Errorf("%q is not in\n%s", want, link)
		}
	}
	for netns, netdev := range map[*os.File]string{l.host: "pbguest0", l.guests[0]: "eth0"} {
		if said := sh(t, netns, "ip -d link show "+netdev); !strings.Contains(said, "numtxqueues 1 numrxqueues 1") {
			t.Errorf("not one queue:\n%s", said)
		}
	}
	if routes := sh(t, l.host, "ip -6 route show table local; cat /proc/sys/net/ipv6/conf/pbguest0/disable_ipv6"); strings.Contains(routes, "pbguest0") || !strings.HasSuffix(routes, "\n1\n") {
		t.Errorf("IPv6 is on at a switch end:\n%s", routes)
	}
	guest := sh(t, l.guests[0], "ip addr show eth0; ip route show table all; ip -6 route")
	for _, want := range []string{
		"inet 10.0.0.10/24 brd 10.0.0.255", "default via 10.0.0.1 dev eth0 proto static mtu 1400 advmss 1300",
		"default via fd00::1 dev eth0 proto static metric 77", "192.0.2.0/24 via 10.0.0.1 dev eth0 table 100",
	} {
		if !strings.Contains(guest, want) {
			t.Errorf("%q is not in\n%s", want, guest)
		}
	}
	sh(t, l.guests[0], "ping -c1 -w40 10.0.0.11; ping -c1 -w40 fd00::11; ping -c1 -w40 10.0.0.1; ping -c1 -w40 fd00::1")
	l.reach(plan.State{}, s)
	if diff := cmp.Diff(pristine, sh(t, l.host, "ip -o link; ip -o addr; ip route; ip -6 route")); diff != "" {
		t.Errorf("left on the host:\n%s", diff)
	}
}

// An address of ours is never tentative, nor is the port deaf, when Apply is done:
// the first packet goes through. On a machine that has other things to do one now and then
// takes longer than a second; with an address that is tentative none is quicker.
func TestLinuxFirstPacketPasses(t *testing.T) {
	const tries = 5
	late := 0
	l := newLinuxLab(t, 1)
	l.reach(l.state(1500), plan.State{})
	for range tries {
		if err := l.apply(plan.Diff(plan.State{Ports: map[string]plan.Port{"pbguest0": l.guest(0, 1500)}}, plan.State{})...); err != nil {
			t.Fatal(err)
		}
		state := sh(t, l.host, "bridge link show dev pbguest0")
		if !strings.Contains(state, "state forwarding") {
			t.Fatalf("the port is not forwarding: %s", state)
		}
		if addr := sh(t, l.guests[0], "ip -6 addr show eth0 scope global"); strings.Contains(addr, "tentative") {
			t.Fatalf("an address of ours is tentative: %s", addr)
		}
		if strings.Contains(sh(t, l.guests[0], "ping -6 -c1 -W1 fd00::1 || true"), " 0 received") {
			late++
		}
		if err := l.apply(plan.DeleteNetdev{Name: "pbguest0"}); err != nil {
			t.Fatal(err)
		}
	}
	if late > tries/2 {
		t.Errorf("%d of %d first packets were not answered within a second", late, tries)
	}
}

func TestLinuxRepairsDrift(t *testing.T) {
	l := newLinuxLab(t, 1)
	s := l.state(1500, 0)
	l.reach(s, plan.State{})
	for name, c := range map[string]struct{ on, do string }{
		"bridge down":       {"host", "ip link set pb-s down"},
		"bridge MTU":        {"host", "ip link set pb-s mtu 1400"},
		"bridge MAC":        {"host", "ip link set pb-s address 02:aa:aa:aa:aa:aa"},
		"STP":               {"host", "ip link set pb-s type bridge stp_state 1"},
		"snooping":          {"host", "ip link set pb-s type bridge mcast_snooping 1"},
		"port out":          {"host", "ip link set pbguest0 nomaster"},
		"port down":         {"host", "ip link set pbguest0 down"},
		"port unlocked":     {"host", "bridge link set dev pbguest0 locked off"},
		"port isolated":     {"host", "bridge link set dev pbguest0 isolated on"},
		"port muted":        {"host", "bridge link set dev pbguest0 bcast_flood off"},
		"port muted too":    {"host", "bridge link set dev pbguest0 mcast_flood off"},
		"port learns":       {"host", "bridge link set dev pbguest0 learning on"},
		"FDB entry":         {"host", "bridge fdb del 02:00:00:00:00:00 dev pbguest0 master static"},
		"group":             {"host", "ip link set pbguest0 group 0"},
		"host address":      {"host", "ip addr del 10.0.0.1/24 dev pbh-s"},
		"port gone":         {"host", "ip link del pbguest0"},
		"host port gone":    {"host", "ip link del pbh-s"},
		"bridge gone":       {"host", "ip link del pb-s"},
		"guest down":        {"guest", "ip link set eth0 down"},
		"guest address":     {"guest", "ip addr del fd00::10/64 dev eth0"},
		"guest route":       {"guest", "ip route del default"},
		"guest route's MTU": {"guest", "ip route change default via 10.0.0.1 mtu 1200 advmss 1300 proto static"},
		"guest MAC":         {"guest", "ip link set eth0 address 02:bb:bb:bb:bb:bb"},
		"guest renamed":     {"guest", "ip link set eth0 down; ip link set eth0 name eth7"},
	} {
		t.Run(name, func(t *testing.T) {
			l := *l
			l.t = t
			at := l.host
			if c.on == "guest" {
				at = l.guests[0]
			}
			sh(t, at, c.do)
			if steps := plan.Diff(s, l.observe(s)); len(steps) == 0 {
				t.Fatal("the drift is not seen")
			}
			l.reach(s, plan.State{})
		})
	}
}

// segmented is state with a further segment, its trunk and its relay, and guest 0 there.
func (l *linuxLab) segmented() plan.State {
	s := l.state(1500, 0)
	s.Bridges["pb1-s"] = plan.Bridge{Name: "pb1-s", MAC: vswitch.DerivedMAC("b1"), MTU: 1500, Alias: "patchbay:bridge switch=s segment=1", Up: true}
	guest := s.Ports["pbguest0"]
	guest.Bridge = "pb1-s"
	s.Ports["pbguest0"] = guest
	for near, far := range map[string]string{"pbr1-s": "pbs1-s", "pbn1-s": "pbv1-s"} {
		trunk := near == "pbr1-s"
		a := plan.Port{
			Name: near, Bridge: "pb-s", Alias: "patchbay:trunk switch=s", Group: vswitch.Group(1), MTU: 1500, Up: true,
			MAC: vswitch.DerivedMAC(near), NoBroadcast: trunk, NoMulticast: trunk, Trunk: true,
			Endpoint: &plan.Endpoint{Name: far, MAC: vswitch.DerivedMAC(far), MTU: 1500},
		}
		b := a
		b.Name, b.Bridge, b.Group, b.MAC, b.Endpoint, b.Flood = far, "pb1-s", vswitch.UplinkGroup, vswitch.DerivedMAC(far), nil, trunk
		if trunk {
			a.FDB = guest.FDB
		}
		s.Ports[near], s.Ports[far] = a, b
	}
	return s
}

func TestLinuxRepairsSegments(t *testing.T) {
	l := newLinuxLab(t, 1)
	pristine := sh(t, l.host, "ip -o link")
	s := l.segmented()
	l.reach(s, plan.State{})
	if addrs := sh(t, l.host, "ip -6 -o addr show dev pbs1-s; ip -6 -o addr show dev pbr1-s; ip -6 -o addr show dev pb1-s"); addrs != "" {
		t.Errorf("the host has addresses on segments: %s", addrs)
	}
	for name, do := range map[string]string{
		"trunk gone":        "ip link del pbr1-s",
		"relay gone":        "ip link del pbv1-s",
		"root's entry":      "bridge fdb del 02:00:00:00:00:00 dev pbr1-s master static",
		"trunk floods":      "bridge link set dev pbr1-s flood on",
		"trunk broadcasts":  "bridge link set dev pbr1-s bcast_flood on",
		"trunk multicasts":  "bridge link set dev pbs1-s mcast_flood on",
		"trunk does not":    "bridge link set dev pbs1-s flood off",
		"trunk learns":      "bridge link set dev pbs1-s learning on",
		"trunk down":        "ip link set pbs1-s down",
		"trunk out":         "ip link set pbs1-s nomaster",
		"trunk renamed":     "ip link set pbr1-s down; ip link set pbr1-s name x; ip link set x alias gone",
		"relay muted":       "bridge link set dev pbn1-s bcast_flood off",
		"relay's group":     "ip link set pbv1-s group 0",
		"segment down":      "ip link set pb1-s down",
		"segment gone":      "ip link del pb1-s",
		"segment's MTU":     "ip link set pb1-s mtu 1400",
		"trunk renamed too": "ip link set pbs1-s down; ip link set pbs1-s name y",
	} {
		t.Run(name, func(t *testing.T) {
			l := *l
			l.t = t
			sh(t, l.host, do)
			if steps := plan.Diff(s, l.observe(s)); len(steps) == 0 {
				t.Fatal("the drift is not seen")
			}
			l.reach(s, plan.State{})
			sh(t, l.guests[0], "ping -c1 -w40 10.0.0.1; ping -c1 -w40 fd00::1")
		})
	}
	l.reach(l.state(1500), s) // shrinks
	l.reach(plan.State{}, l.state(1500))
	if diff := cmp.Diff(pristine, sh(t, l.host, "ip -o link")); diff != "" {
		t.Errorf("left on the host:\n%s", diff)
	}
}

// The bridge keeps the MTU that was declared, whatever ports come.
func TestLinuxBridgeKeepsItsMTU(t *testing.T) {
	l := newLinuxLab(t, 1)
	for _, mtu := range []int{1400, 1500, 9000, vswitch.MaxMTU} {
		s := l.state(mtu)
		l.reach(s, plan.State{})
		small := l.guest(0, 1300)
		s.Ports[small.Name] = small
		l.reach(s, plan.State{})
		l.reach(plan.State{}, s)
	}
}

func TestLinuxErrors(t *testing.T) {
	l := newLinuxLab(t, 2)
	l.reach(l.state(1500, 0), plan.State{})
	twin := l.guest(0, 1500)
	twin.Name = "pbtwin"
	second := l.guest(1, 1500)
	lost := l.guest(1, 1500)
	lost.Bridge = "pb-lost"
	homeless := l.guest(1, 1500)
	homeless.Endpoint = &plan.Endpoint{Netns: "/run/netns/gone", Name: "eth0", MAC: vswitch.MAC{2}, MTU: 1500}
	notNetns := l.guest(1, 1500)
	notNetns.Endpoint = &plan.Endpoint{Netns: "/etc/passwd", Name: "eth0", MAC: vswitch.MAC{2}, MTU: 1500}
	unreachable := vswitch.Route{Dst: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("203.0.113.1")}
	for name, c := range map[string]struct {
		step plan.Step
		kind vswitch.Kind
		says string
	}{
		"endpoint's name taken": {plan.CreateVeth{Port: twin}, vswitch.EndpointExists, "eth0"},
		"port's name taken":     {plan.CreateVeth{Port: l.guest(0, 1500)}, vswitch.AlreadyExists, "pbguest0"},
		"no bridge":             {plan.CreateVeth{Port: lost}, vswitch.NotFound, "pb-lost"},
		"no namespace":          {plan.CreateVeth{Port: homeless}, vswitch.NetnsNotFound, "/run/netns/gone"},
		"no namespace at all":   {plan.CreateVeth{Port: notNetns}, vswitch.NetnsNotFound, "/etc/passwd"},
		"no netdev":             {plan.AddFDB{Port: "nobody", MAC: vswitch.MAC{2}}, vswitch.NotFound, "nobody"},
		"gateway unreachable":   {plan.AddRoute{At: plan.At{Netns: nsPath(l.guests[0]), Name: "eth0"}, Route: unreachable}, "", "unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			err := l.apply(c.step)
			var step *StepError
			if !errors.As(err, &step) || step.Step.String() != c.step.String() || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v", err)
			}
			if c.kind != "" && !errors.Is(err, c.kind) {
				t.Errorf("got %v, want kind %s", err, c.kind)
			}
		})
	}
	t.Run("gone is fine", func(t *testing.T) {
		at := plan.At{Netns: "/run/netns/gone", Name: "eth0"}
		err := l.apply(plan.DeleteNetdev{Name: "nobody"}, plan.DeleteBridge{Name: "nobody"}, plan.ReleasePort{Name: "nobody"},
			plan.DeleteFDB{Port: "nobody", MAC: vswitch.MAC{2}}, plan.DeleteFDB{Port: "pbguest0", MAC: vswitch.MAC{2, 9}},
			plan.DeleteAddress{At: at, Address: second.Endpoint.Addresses[0]}, plan.DeleteRoute{At: at, Route: second.Endpoint.Routes[0]})
		if err != nil {
			t.Error(err)
		}
	})
}

// A bridge has 1023 port numbers; the 1024th port is told as a full switch.
func TestLinuxSwitchFull(t *testing.T) {
	l := newLinuxLab(t, 0)
	if err := l.apply(plan.CreateBridge{Bridge: l.state(1500).Bridges["pb-s"]}); err != nil {
		t.Fatal(err)
	}
	err := l.do(func(k *Linux) error {
		for i := range 1024 {
			name := fmt.Sprintf("p%d", i)
			p := plan.Port{
				Name: name, Bridge: "pb-s", MTU: 1500, MAC: vswitch.DerivedMAC(name),
				Endpoint: &plan.Endpoint{Name: "e" + name, MAC: vswitch.DerivedMAC("e", name), MTU: 1500},
			}
			if err := k.Apply(context.Background(), []plan.Step{plan.CreateVeth{Port: p}}); err != nil {
				if i != 1023 {
					return fmt.Errorf("port %d: %w", i, err)
				}
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, vswitch.SwitchFull) || !strings.Contains(err.Error(), "1023") {
		t.Errorf("got %v", err)
	}
}

// Desired states in pseudo-random order: whatever the kernel has, the plan reaches
// what is wanted.
func TestLinuxRandomWalk(t *testing.T) {
	l := newLinuxLab(t, 3)
	spoofing := l.state(1500, 1)
	p := spoofing.Ports["pbguest1"]
	p.Locked, p.Learning, p.Flood = false, true, true
	spoofing.Ports["pbguest1"] = p
	moved := l.state(1500, 0)
	p = moved.Ports["pbguest0"]
	e := *p.Endpoint
	e.Netns, e.Name, e.Routes = nsPath(l.guests[2]), "net1", e.Routes[:1]
	p.Endpoint = &e
	moved.Ports["pbguest0"] = p
	states := map[string]plan.State{
		"nothing": {}, "bare": l.state(1500), "one": l.state(1500, 0), "all": l.state(1500, 0, 1, 2),
		"two small": l.state(1300, 1, 2), "spoofing": spoofing, "moved": moved,
	}
	names := slices.Sorted(maps.Keys(states))
	random := rand.New(rand.NewPCG(1, 2))
	at := "nothing"
	for range 40 {
		next := names[random.IntN(len(names))]
		t.Logf("%s -> %s", at, next)
		l.reach(states[next], states[at])
		at = next
	}
}

// A locked port passes its own address and no other; one that may spoof, any.
func TestLinuxSpoofing(t *testing.T) {
	l := newLinuxLab(t, 2)
	s := l.state(1500, 0, 1)
	l.reach(s, plan.State{})
	attacker, victim := listen(t, l.guests[0], "eth0"), listen(t, l.guests[1], "eth0")
	forged := []byte("forged source")
	spoof := func() { attacker.send(t, ethernet(broadcastMAC, macOf(0x66), 0x88b5, forged)) }
	own := func(mark string) {
		attacker.send(t, ethernet(broadcastMAC, macOf(0), 0x88b5, []byte(mark)))
		victim.await(t, mark, func(f []byte) bool { return strings.Contains(string(f), mark) })
	}
	spoof()
	own("behind the forged one")
	if victim.heard(func(f []byte) bool { return strings.Contains(string(f), string(forged)) }) {
		t.Error("a forged source address passed a locked port")
	}
	p := s.Ports["pbguest0"]
	p.Locked, p.Learning, p.Flood = false, true, true
	s.Ports["pbguest0"] = p
	l.reach(s, plan.State{})
	spoof()
	victim.await(t, "a forged source on a port that may", func(f []byte) bool { return strings.Contains(string(f), string(forged)) })
}
