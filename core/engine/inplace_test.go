package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// These tests are of switches that change in place, with ports attached.

// shapes are definitions that a switch may go between in any order.
func shapes() map[string]engine.SwitchChange {
	none, gateway := []netip.Prefix{}, internal().Gateway
	shape := func(typ vswitch.SwitchType, uplink string, mtu int) engine.SwitchChange {
		return engine.SwitchChange{
			Type: &typ, Uplink: &uplink, MTU: &mtu, Gateway: &none, Masquerade: &vswitch.Masquerade{}, HostAccess: ptr(typ != vswitch.Private),
		}
	}
	routed := shape(vswitch.Internal, "", 1400)
	routed.Gateway, routed.Masquerade = &gateway, &vswitch.Masquerade{IPv4: true, IPv6: true}
	closed := shape(vswitch.External, "nic1", 0)
	closed.HostAccess = ptr(false)
	return map[string]engine.SwitchChange{
		"internal":        shape(vswitch.Internal, "", 0),
		"internal routed": routed,
		"external":        shape(vswitch.External, "nic0", 0),
		"external jumbo":  shape(vswitch.External, "nic0", 9000),
		"external closed": closed,
		"private":         shape(vswitch.Private, "", 0),
		"private small":   shape(vswitch.Private, "", 1300),
	}
}

// shaped is a switch of a shape with three guests: two with the switch's MTU, one of
// which nobody can look at any more, and one with less.
func shaped(t *testing.T, shape engine.SwitchChange) *lab {
	t.Helper()
	l := newLab(t)
	l.mustAdd(vswitch.Switch{Name: "prod", Type: vswitch.Internal})
	must(t, l.reshape(shape))
	for i, mtu := range []int{0, 1280, 0} {
		l.mustAttach(engine.AttachRequest{Owner: owner(i), Switch: "prod", MTU: mtu})
	}
	l.kernel.UnmountNetns(netns(2))
	return l
}

func (l *lab) reshape(shape engine.SwitchChange) error {
	_, err := l.SetSwitch(context.Background(), "prod", shape)
	return err
}

// picture is the kernel without the address of the host's port, which rests after
// the host has left and is another one when it comes back.
func (l *lab) picture() string {
	l.t.Helper()
	picture := l.kernel.String()
	macs, err := l.MACs(context.Background())
	must(l.t, err)
	for _, m := range macs {
		if m.Owner == "host" {
			picture = strings.ReplaceAll(picture, m.MAC.String(), "HOST")
		}
	}
	return picture
}

// wantIntact fails if the kernel differs from what the records say, in a switch or in
// a port that can be looked at.
func (l *lab) wantIntact() {
	l.t.Helper()
	s, err := l.Status(context.Background())
	must(l.t, err)
	for _, p := range s.Problems {
		l.t.Errorf("status: %+v", p)
	}
	for i := range 2 {
		p, err := l.Port(context.Background(), owner(i).PortID())
		must(l.t, err)
		if len(p.Drift) > 0 {
			l.t.Errorf("port %d: %v", i, p.Drift)
		}
	}
}

func TestEveryShapeToEveryOther(t *testing.T) {
	t.Parallel()
	for from, was := range shapes() {
		for to, becomes := range shapes() {
			t.Run(from+" to "+to, func(t *testing.T) {
				l := shaped(t, was)
				before := l.picture()
				must(t, l.reshape(becomes))
				l.wantIntact()
				if from != to && l.picture() == before {
					t.Error("nothing changed")
				}
				must(t, l.reshape(was))
				if diff := cmp.Diff(before, l.picture()); diff != "" {
					t.Errorf("and back is not the same:\n%s", diff)
				}
			})
		}
	}
}

// reshapings are those that the sweeps go through: every kind of step is in one.
func reshapings() map[string][2]string {
	return map[string][2]string{
		"takes a NIC":      {"internal routed", "external jumbo"},
		"gives it up":      {"external jumbo", "private small"},
		"another NIC":      {"external", "external closed"},
		"host comes in":    {"external closed", "internal routed"},
		"smaller for all":  {"external jumbo", "external"},
		"opens to the NIC": {"private", "external"},
	}
}

func reshapeSteps(t *testing.T, pair [2]string) int {
	l := shaped(t, shapes()[pair[0]])
	before := l.kernel.Steps()
	must(t, l.reshape(shapes()[pair[1]]))
	return l.kernel.Steps() - before
}

func TestFailedReshapeIsUndone(t *testing.T) {
	t.Parallel()
	for name, pair := range reshapings() {
		t.Run(name, func(t *testing.T) {
			var before string
			prepare := func(t *testing.T) *lab {
				l := shaped(t, shapes()[pair[0]])
				before = l.picture()
				return l
			}
			verb := func(l *lab) error { return l.reshape(shapes()[pair[1]]) }
			eachStepFails(t, prepare, verb, func(step int, l *lab) {
				if diff := cmp.Diff(before, l.picture()); diff != "" {
					t.Errorf("step %d left:\n%s", step, diff)
				}
				l.wantIntact()
			})
		})
	}
}

// A reshaping that was killed is finished by the next one, whichever way it goes, and
// nothing is left of the other.
func TestKilledReshape(t *testing.T) {
	t.Parallel()
	for name, pair := range reshapings() {
		from, to := shapes()[pair[0]], shapes()[pair[1]]
		t.Run(name, func(t *testing.T) {
			for n := 1; n <= reshapeSteps(t, pair); n++ {
				l := shaped(t, from)
				was := l.picture()
				must(t, l.reshape(to))
				becomes := l.picture()
				must(t, l.reshape(from))
				for _, next := range []struct {
					shape engine.SwitchChange
					want  string
				}{{from, was}, {to, becomes}} {
					l.killed(n, func() error { return l.reshape(to) })
					must(t, l.reshape(next.shape))
					l.wantIntact()
					if diff := cmp.Diff(next.want, l.picture()); diff != "" {
						t.Errorf("killed before step %d, then reshaped (-want +got):\n%s", n, diff)
					}
				}
			}
		})
	}
}

func TestReshapeRefused(t *testing.T) {
	for name, c := range map[string]struct {
		from  string
		to    engine.SwitchChange
		kind  vswitch.Kind
		words []string
	}{
		"gateway stays": {"internal routed", engine.SwitchChange{Uplink: ptr("nic0")}, vswitch.Invalid, []string{"--gateway= --masquerade=off"}},
		"no such NIC":   {"internal", engine.SwitchChange{Uplink: ptr("nic7")}, vswitch.UplinkNotFound, []string{"nic7"}},
		"NIC is taken":  {"internal", engine.SwitchChange{Uplink: ptr("br9")}, vswitch.UplinkUnsupported, []string{"bridge"}},
		"too large":     {"external", engine.SwitchChange{MTU: ptr(9001)}, vswitch.Invalid, []string{"9000"}},
		"no uplink":     {"external", engine.SwitchChange{Uplink: ptr("")}, vswitch.Invalid, []string{"uplink"}},
		"too small for IPv6": {
			"internal routed", engine.SwitchChange{MTU: ptr(1000)}, vswitch.Invalid, []string{"1280"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := shaped(t, shapes()[c.from])
			l.kernel.AddNetdev(kernel.Netdev{Name: "br9", Kind: "bridge", MTU: 1500, Ethernet: true})
			before := l.picture()
			err := l.reshape(c.to)
			wantKind(t, err, c.kind)
			for _, w := range c.words {
				if err != nil && !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
			if diff := cmp.Diff(before, l.picture()); diff != "" {
				t.Errorf("a refusal touched the kernel:\n%s", diff)
			}
		})
	}
}

// A guest with an IPv6 address cannot follow below IPv6's least MTU.
func TestGuestsForbidASmallMTU(t *testing.T) {
	l := newLab(t)
	s := internal()
	s.Gateway, s.Masquerade = s.Gateway[:1], vswitch.Masquerade{}
	l.mustAdd(s)
	req := request(0)
	req.Define, req.Routes = nil, nil
	l.mustAttach(req)
	before := l.picture()
	wantKind(t, l.reshape(engine.SwitchChange{MTU: ptr(1000)}), vswitch.Invalid)
	if diff := cmp.Diff(before, l.picture()); diff != "" {
		t.Errorf("a refusal touched the kernel:\n%s", diff)
	}
	l.wantIntactPort(0)
}

func (l *lab) wantIntactPort(i int) {
	l.t.Helper()
	p, err := l.Port(context.Background(), owner(i).PortID())
	if err != nil || len(p.Drift) > 0 {
		l.t.Errorf("port %d: %v, %v", i, p.Drift, err)
	}
}

func TestGuestsFollowTheMTU(t *testing.T) {
	l := shaped(t, shapes()["internal"])
	must(t, l.reshape(engine.SwitchChange{MTU: ptr(4000)}))
	var got []int
	for _, i := range []int{0, 1, 2} {
		p, err := l.Port(context.Background(), owner(i).PortID())
		must(t, err)
		got = append(got, p.MTU)
	}
	if diff := cmp.Diff([]int{4000, 1280, 4000}, got); diff != "" {
		t.Errorf("MTU of the guests: %s", diff)
	}
	must(t, l.reshape(engine.SwitchChange{MTU: ptr(0)}))
	if s, err := l.Switch(context.Background(), "prod"); err != nil || s.EffectiveMTU != vswitch.DefaultMTU {
		t.Errorf("back to the default: %+v, %v", s, err)
	}
}
