package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// newSmallLab is a lab whose switches have segments of two ports.
func newSmallLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.sizes = vswitch.SegmentSizes{Root: 2, Spoofing: 2, Further: 2}
	l.open()
	return l
}

// segmentsOf counts the bridges of a switch that the kernel has.
func (l *lab) segmentsOf(name string) (n int) {
	l.t.Helper()
	netdevs, err := l.kernel.Netdevs(context.Background())
	must(l.t, err)
	for _, d := range netdevs {
		if d.Kind == "bridge" && vswitch.AliasOf(d.Alias, name) {
			n++
		}
	}
	return n
}

// wantWhole fails if status or any port is not as it should be.
func (l *lab) wantWhole() {
	l.t.Helper()
	s, err := l.Status(context.Background())
	if err != nil || len(s.Problems) > 0 {
		l.t.Errorf("status: %+v, %v", s.Problems, err)
	}
}

func TestSwitchGrowsAndShrinks(t *testing.T) {
	l := newSmallLab(t)
	pristine := l.kernel.String()
	for i, want := range []int{1, 1, 2, 2, 3, 3, 4, 4} {
		a := l.mustAttach(request(i))
		if got := l.segmentsOf("prod"); got != want || a.Port.Segment != (i/2) {
			t.Fatalf("port %d is on segment %d of %d bridges, want %d", i, a.Port.Segment, got, want)
		}
	}
	l.wantWhole()
	if s, _ := l.Switch(context.Background(), "prod"); s.Segments != 4 || s.Ports != 8 {
		t.Errorf("the switch is %+v", s)
	}
	for i := range 8 {
		if c, err := l.Check(context.Background(), owner(i)); err != nil || len(c.Steps) > 0 {
			t.Errorf("port %d: %v, %v", i, c.Steps, err)
		}
	}
	top, err := l.Topology(context.Background())
	if err != nil || len(top.Switches) != 1 || len(top.Switches[0].Attached) != 9 || len(top.NICs) != 2 {
		t.Errorf("topology %+v, %v", top, err)
	}
	l.mustDetach(1)
	l.mustDetach(4) // holes fill from the bottom
	if a := l.mustAttach(request(1)); a.Port.Segment != 0 {
		t.Errorf("the hole on the root was left: segment %d", a.Port.Segment)
	}
	if a := l.mustAttach(request(4)); a.Port.Segment != 2 {
		t.Errorf("the hole on segment 2 was left: segment %d", a.Port.Segment)
	}
	for _, i := range []int{7, 6, 5, 4, 3, 2, 0} {
		l.mustDetach(i)
		l.wantWhole()
	}
	if got := l.segmentsOf("prod"); got != 1 {
		t.Errorf("%d bridges are left for one port:\n%s", got, l.kernel)
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}))
	l.wantClean(pristine)
}

// The real sizes, past the 1023 ports of a bridge, on a Fake that refuses the 1024th.
func TestSwitchOf1200Ports(t *testing.T) {
	t.Parallel()
	const n = 1200
	l := newLab(t)
	pristine := l.kernel.String()
	_, err := l.SetMACPool(context.Background(), vswitch.MACRange{First: vswitch.MAC{2}, Last: vswitch.MAC{2, 0, 0, 0, 0x0f, 0xff}})
	must(t, err)
	attach := func(i int) vswitch.Port {
		l.kernel.AddNetns(netns(i))
		req := engine.AttachRequest{Owner: owner(i), Switch: "prod", Define: &vswitch.Switch{Name: "prod", Type: vswitch.Private}}
		return l.mustAttach(req).Port
	}
	on := make(map[int]int)
	for i := range n {
		on[attach(i).Segment]++
	}
	if diff := cmp.Diff(map[int]int{0: 250, 1: 250, 2: 250, 3: 250, 4: 200}, on); diff != "" {
		t.Errorf("ports by segment:\n%s", diff)
	}
	l.wantWhole()
	for i := range 600 {
		l.mustDetach(2 * i) // every other one
	}
	if p := attach(0); p.Segment != 0 {
		t.Errorf("filled from the top: segment %d", p.Segment)
	}
	for i := range n {
		l.mustDetach(i)
	}
	if got := l.segmentsOf("prod"); got != 1 {
		t.Errorf("%d bridges for no port", got)
	}
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"}))
	for i := 8; i < n; i++ {
		l.kernel.RemoveNetns(netns(i))
	}
	l.wantClean(pristine)
}

// At the edge of a segment guests come and go without the switch being remade.
func TestSegmentStaysWhileItIsNeededSoon(t *testing.T) {
	l := newLab(t)
	l.sizes = vswitch.SegmentSizes{Root: 4, Spoofing: 1, Further: 8}
	l.open()
	for i := range 5 {
		l.mustAttach(request(i))
	}
	before := l.kernel.Steps()
	l.mustDetach(4)
	l.mustAttach(request(4))
	for _, line := range l.kernel.Log()[before:] {
		if strings.Contains(line, "type bridge") {
			t.Errorf("the segment was made again: %s", line)
		}
	}
	l.mustDetach(4)
	if got := l.segmentsOf("prod"); got != 2 {
		t.Errorf("%d bridges", got)
	}
	if _, err := l.GC(context.Background(), engine.GCRequest{Network: "net", Valid: []vswitch.Owner{owner(0)}}); err != nil {
		t.Error(err)
	}
	if got := l.segmentsOf("prod"); got != 1 {
		t.Errorf("%d bridges after GC", got)
	}
}

func TestSpoofersStayOnTheRoot(t *testing.T) {
	l := newSmallLab(t)
	spoofer := func(i int) engine.AttachRequest {
		req := request(i)
		req.MACSpoofing = true
		return req
	}
	for i := range 4 {
		l.mustAttach(request(i))
	}
	for i := 4; i < 6; i++ {
		if a := l.mustAttach(spoofer(i)); a.Port.Segment != 0 {
			t.Errorf("a port that may spoof is on segment %d", a.Port.Segment)
		}
	}
	_, err := l.Attach(context.Background(), spoofer(6))
	wantKind(t, err, vswitch.SwitchFull)
	if err != nil && (!strings.Contains(err.Error(), "1023") || vswitch.HintOf(err) == "") {
		t.Errorf("%v", err)
	}
	l.mustAttach(request(6))
	l.mustDetach(4)
	l.mustAttach(spoofer(7))
	l.wantWhole()
}

// What a stranger does to a segment or its trunk is seen, by CHECK of a port on it too,
// and repaired by the command that status names.
func TestSegmentDrift(t *testing.T) {
	t.Parallel()
	trunk := func(l *lab, change func(*plan.Port)) plan.Step {
		p := plan.Port{Name: "pbr1-prod", Bridge: "pb-prod", MTU: 1500, Up: true}
		change(&p)
		return plan.SetPort{Port: p}
	}
	for name, harm := range map[string]func(*lab) plan.Step{
		"trunk gone":        func(*lab) plan.Step { return plan.DeleteNetdev{Name: "pbr1-prod"} },
		"trunk out of root": func(*lab) plan.Step { return plan.ReleasePort{Name: "pbr1-prod"} },
		"trunk out":         func(*lab) plan.Step { return plan.ReleasePort{Name: "pbs1-prod"} },
		"trunk floods":      func(l *lab) plan.Step { return trunk(l, func(p *plan.Port) { p.Flood = true }) },
		"trunk learns":      func(l *lab) plan.Step { return trunk(l, func(p *plan.Port) { p.Learning = true }) },
		"trunk does not": func(*lab) plan.Step {
			return plan.SetPort{Port: plan.Port{Name: "pbs1-prod", Bridge: "pb1-prod", MTU: 1500}}
		},
		"relay gone":         func(*lab) plan.Step { return plan.DeleteNetdev{Name: "pbv2-prod"} },
		"relay out":          func(*lab) plan.Step { return plan.ReleasePort{Name: "pbn1-prod"} },
		"relay down":         func(l *lab) plan.Step { l.kernel.SetNetdevDown("", "pbn2-prod"); return nil },
		"trunk hears all":    func(l *lab) plan.Step { return trunk(l, func(*plan.Port) {}) },
		"segment gone":       func(*lab) plan.Step { return plan.DeleteBridge{Name: "pb1-prod"} },
		"segment down":       func(l *lab) plan.Step { l.kernel.SetNetdevDown("", "pb1-prod"); return nil },
		"trunk down":         func(l *lab) plan.Step { l.kernel.SetNetdevDown("", "pbs1-prod"); return nil },
		"trunk renamed":      func(l *lab) plan.Step { l.kernel.RenameNetdev("", "pbr1-prod", "x"); return nil },
		"trunk renamed too":  func(l *lab) plan.Step { l.kernel.RenameNetdev("", "pbs1-prod", "x"); return nil },
		"entry at the root":  func(l *lab) plan.Step { return plan.DeleteFDB{Port: "pbr1-prod", MAC: l.macOf(2)} },
		"a trunk's MTU":      func(l *lab) plan.Step { return trunk(l, func(p *plan.Port) { p.MTU = 1400 }) },
		"all of it gone":     func(l *lab) plan.Step { l.kernel.RemoveNetdev("pbr1-prod"); return plan.DeleteBridge{Name: "pb1-prod"} },
		"the root bridge":    func(*lab) plan.Step { return plan.DeleteBridge{Name: "pb-prod"} },
		"another trunk gone": func(*lab) plan.Step { return plan.DeleteNetdev{Name: "pbs2-prod"} },
	} {
		t.Run(name, func(t *testing.T) {
			l := newSmallLab(t)
			for i := range 5 {
				l.mustAttach(request(i))
			}
			whole := l.kernel.String()
			if step := harm(l); step != nil {
				must(t, l.kernel.Apply(context.Background(), []plan.Step{step}))
			}
			s, err := l.Status(context.Background())
			if err != nil || len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.Drifted {
				t.Fatalf("status %+v, %v", s.Problems, err)
			}
			if c, err := l.Check(context.Background(), owner(2)); err != nil || len(c.Steps) == 0 {
				t.Errorf("CHECK sees nothing: %v", err)
			}
			if d, err := l.DiffConfig(context.Background(), configured(internal())); err != nil || !d.Differs() || len(d.Commands) == 0 {
				t.Errorf("diff sees nothing: %+v, %v", d, err)
			}
			l.mustAdd(internal())
			for i := range 5 { // what was on a bridge that is gone, its own attach repairs
				l.mustAttach(request(i))
			}
			l.wantWhole()
			if diff := cmp.Diff(whole, l.kernel.String()); diff != "" && !strings.Contains(name, "renamed") {
				t.Errorf("not repaired:\n%s", diff)
			}
		})
	}
}

// What guests have lost at the root is told by diff, and comes back with apply.
func TestApplyRepairsEntriesAtTheRoot(t *testing.T) {
	l := newSmallLab(t)
	for i := range 5 {
		l.mustAttach(request(i))
	}
	whole, req := l.kernel.String(), configured(internal())
	l.wantSame(req)
	must(t, l.kernel.Apply(context.Background(), []plan.Step{plan.DeleteFDB{Port: "pbr1-prod", MAC: l.macOf(2)}}))
	d, err := l.DiffConfig(context.Background(), req)
	if err != nil || len(d.Changes) != 1 || d.Changes[0].Action != engine.ActionRepair {
		t.Errorf("diff: %q, %v", changeWords(d), err)
	}
	if got := strings.Join(d.Commands, "\n"); !strings.HasPrefix(got, "bridge fdb replace "+l.macOf(2).String()+" dev pbr1-prod") {
		t.Errorf("commands:\n%s", got)
	}
	l.mustApply(req)
	l.wantSame(req)
	if diff := cmp.Diff(whole, l.kernel.String()); diff != "" {
		t.Errorf("not repaired:\n%s", diff)
	}
}

// macOf is the address of a guest.
func (l *lab) macOf(i int) vswitch.MAC {
	l.t.Helper()
	p, found, err := l.Attached(context.Background(), owner(i))
	if err != nil || !found {
		l.t.Fatalf("guest %d: %v, %v", i, found, err)
	}
	return p.MAC
}

// An attach finds its segment or trunk gone and has it made again.
func TestAttachRepairsItsSegment(t *testing.T) {
	for name, gone := range map[string]plan.Step{
		"trunk": plan.DeleteNetdev{Name: "pbr1-prod"}, "bridge": plan.DeleteBridge{Name: "pb1-prod"},
		"out of the bridge": plan.ReleasePort{Name: "pbr1-prod"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newSmallLab(t)
			for i := range 3 {
				l.mustAttach(request(i))
			}
			must(t, l.kernel.Apply(context.Background(), []plan.Step{gone}))
			l.mustAttach(request(3))
			l.wantWhole()
		})
	}
}

// A process that dies at any step of growing and shrinking leaves nothing that the
// next verb does not finish or remove.
func TestKilledWhileGrowingAndShrinking(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	full := func(n int) func(*lab) {
		return func(l *lab) {
			l.sizes = vswitch.SegmentSizes{Root: 2, Spoofing: 2, Further: 2}
			l.open()
			for i := range n {
				l.mustAttach(request(i))
			}
		}
	}
	for name, c := range map[string]struct {
		prepare func(*lab)
		verb    func(*lab) error
	}{
		"grow":       {full(2), func(l *lab) error { _, err := l.Attach(ctx, request(2)); return err }},
		"grow again": {full(4), func(l *lab) error { _, err := l.Attach(ctx, request(4)); return err }},
		"attach":     {full(3), func(l *lab) error { _, err := l.Attach(ctx, request(3)); return err }},
		"detach":     {full(4), func(l *lab) error { return l.Detach(ctx, owner(3)) }},
		"shrink":     {func(l *lab) { full(3)(l); l.mustDetach(0) }, func(l *lab) error { return l.Detach(ctx, owner(2)) }},
		"delete":     {full(5), func(l *lab) error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}) }},
		"MTU": {full(3), func(l *lab) error {
			_, err := l.SetSwitch(ctx, "prod", engine.SwitchChange{MTU: ptr(1400)})
			return err
		}},
		"gc": {full(5), func(l *lab) error { _, err := l.GC(ctx, engine.GCRequest{Network: "net"}); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := stepsOf(t, c.prepare, c.verb)
			for n := 1; n <= steps; n++ {
				for _, after := range []string{"again", "add", "delete"} {
					l := newLab(t)
					pristine := l.kernel.String()
					c.prepare(l)
					l.killed(n, func() error { return c.verb(l) })
					switch after {
					case "again":
						if err := c.verb(l); err != nil && !errors.Is(err, vswitch.NotFound) {
							t.Errorf("step %d: again: %v", n, err)
						}
					case "add":
						l.mustAdd(anyProd())
						l.wantWhole()
					}
					for i := range 6 {
						l.mustDetach(i)
					}
					if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"}); err != nil && !errors.Is(err, vswitch.NotFound) {
						t.Errorf("step %d: delete: %v", n, err)
					}
					l.wantClean(pristine)
					if t.Failed() {
						t.Fatalf("killed at step %d of %d, then %s", n, steps, after)
					}
				}
			}
		})
	}
}

// anyProd is the definition of prod that agrees with whatever it has become.
func anyProd() vswitch.Switch { return vswitch.Switch{Name: "prod", Type: vswitch.Internal} }

// Whatever step of an attach that grows the switch fails, the port is not there.
func TestGrowingFails(t *testing.T) {
	t.Parallel()
	prepare := func(t *testing.T) *lab {
		l := newLab(t)
		l.sizes = vswitch.SegmentSizes{Root: 2, Spoofing: 2, Further: 2}
		l.open()
		l.mustAttach(request(0))
		l.mustAttach(request(1))
		return l
	}
	verb := func(l *lab) error { _, err := l.Attach(context.Background(), request(2)); return err }
	eachStepFails(t, prepare, verb, func(step int, l *lab) {
		if _, found, err := l.Attached(context.Background(), owner(2)); found || err != nil {
			t.Errorf("step %d: attached all the same, %v", step, err)
		}
		must(t, verb(l))
		l.wantWhole()
	})
}

// A name that the segment needs and a stranger has is told before anything is touched.
func TestGrowingMeetsAStranger(t *testing.T) {
	for _, name := range []string{"pb1-prod", "pbr1-prod", "pbs1-prod", "pbn1-prod", "pbv1-prod"} {
		l := newSmallLab(t)
		l.mustAttach(request(0))
		l.mustAttach(request(1))
		l.kernel.AddNetdev(kernel.Netdev{Name: name, Kind: "bridge", MTU: 1500, Ethernet: true})
		before := l.kernel.String()
		_, err := l.Attach(context.Background(), request(2))
		wantKind(t, err, vswitch.AlreadyExists)
		if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
			t.Errorf("touched:\n%s", diff)
		}
		l.kernel.RemoveNetdev(name)
		l.mustAttach(request(2))
		l.wantWhole()
	}
}

// Segments that no record knows go with GC, but not from under a running guest.
func TestGCOfOrphanSegments(t *testing.T) {
	l := newSmallLab(t)
	before := func() string { l.mustAdd(internal()); return l.kernel.String() }()
	for i := range 3 {
		l.mustAttach(request(i))
	}
	l.boot = "another store"
	l.open()
	l.mustAdd(internal())
	if _, err := l.GC(context.Background(), engine.GCRequest{}); err != nil || l.segmentsOf("prod") != 2 {
		t.Errorf("%d bridges with a guest who runs, %v", l.segmentsOf("prod"), err)
	}
	for i := range 3 {
		l.kernel.SetNetdevDown(netns(i), "eth0")
	}
	for range 2 { // ports first, then their bridge
		_, err := l.GC(context.Background(), engine.GCRequest{})
		must(t, err)
	}
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
}

// A tap on a further segment is released from there.
func TestAdoptedPortOnASegment(t *testing.T) {
	l := newSmallLab(t)
	for i := range 2 {
		l.mustAttach(request(i))
	}
	l.kernel.AddNetdev(kernel.Netdev{Name: "tap0", Kind: "tun", MTU: 1500, Ethernet: true, Up: true})
	req := engine.AttachRequest{Owner: owner(2), Switch: "prod", Netdev: "tap0"}
	if a := l.mustAttach(req); a.Port.Segment != 1 {
		t.Fatalf("on segment %d", a.Port.Segment)
	}
	l.mustAttach(req)
	if n, _ := l.kernel.Netdev(context.Background(), "tap0"); n.Master != "pb1-prod" {
		t.Errorf("tap0 is %+v", n)
	}
	l.wantWhole()
	l.mustDetach(2)
	if n, _ := l.kernel.Netdev(context.Background(), "tap0"); n.Master != "" {
		t.Errorf("tap0 is %+v", n)
	}
}

// The resident engine mends segments, their trunks and the guests' entries, also of a
// guest whose port is made anew.
func TestSegmentsAreKept(t *testing.T) {
	l := newSmallLab(t)
	for i := range 3 {
		l.mustAttach(request(i))
	}
	whole, mac := l.kernel.String(), l.macOf(2)
	port := owner(2).PortID()
	k := l.keep()
	for _, x := range []struct {
		name string
		harm plan.Step
	}{
		{"trunk", plan.DeleteNetdev{Name: "pbr1-prod"}},
		{"relay", plan.DeleteNetdev{Name: "pbn1-prod"}},
		{"segment", plan.DeleteBridge{Name: "pb1-prod"}},
		{"entry", plan.DeleteFDB{Port: "pbr1-prod", MAC: mac}},
		{"guest", plan.DeleteNetdev{Name: port}},
	} {
		before, _ := k.logged()
		k.harm(x.harm)
		k.await(before, "repaired")
		k.settlesTo(x.name, whole)
	}
}

// settlesTo waits until the kernel is as it was.
func (k *keeper) settlesTo(what, whole string) {
	k.t.Helper()
	deadline := time.After(patience)
	for k.kernel.String() != whole {
		_, more := k.logged()
		if k.kernel.String() == whole {
			return
		}
		select {
		case <-more:
		case <-deadline:
			text, _ := k.logged()
			k.t.Fatalf("%s: not repaired:\n%s\n%s", what, cmp.Diff(whole, k.kernel.String()), text)
		}
	}
}
