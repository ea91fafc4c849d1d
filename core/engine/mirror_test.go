package engine_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func mirroring(i int, mode vswitch.MirrorMode) engine.AttachRequest {
	return engine.AttachRequest{Owner: owner(i), Switch: "lan", Policy: vswitch.PolicyChange{Mirror: &mode}}
}

// copies are who gets copies of whose frames in the kernel, by the owners' numbers.
func (l *lab) copies() string {
	l.t.Helper()
	var all []string
	name := func(netdev string) string {
		for i := range 8 {
			if owner(i).PortID() == netdev {
				return fmt.Sprint(i)
			}
		}
		return netdev
	}
	source := ""
	for line := range strings.Lines(l.kernel.String()) {
		if table, is := strings.CutPrefix(strings.TrimSpace(line), "nft table patchbay_mirror/pb-lan/"); is {
			source = name(table)
		} else if to, is := strings.CutPrefix(strings.TrimSpace(line), "copy to "); is {
			all = append(all, source+">"+name(to))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (l *lab) wantCopies(what, want string) {
	l.t.Helper()
	if got := l.copies(); got != want {
		l.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (l *lab) setMirror(i int, mode vswitch.MirrorMode) error {
	_, err := l.SetPort(context.Background(), owner(i).PortID(), engine.PortChange{Policy: vswitch.PolicyChange{Mirror: &mode}})
	return err
}

func TestMirroringFollowsThePorts(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	l.mustAdd(policed())
	l.mustAttach(mirroring(0, vswitch.MirrorSource))
	l.wantCopies("a source alone", "")
	s, err := l.Status(context.Background())
	must(t, err)
	if len(s.Problems) != 1 || s.Problems[0].Kind != vswitch.MirrorTarget || !s.Ready {
		t.Errorf("status of a source alone: %+v", s)
	}
	l.mustAttach(mirroring(1, vswitch.MirrorDestination))
	l.wantCopies("with a destination", "0>1")
	x, err := l.Explain(context.Background(), engine.ExplainRequest{Name: owner(0).PortID()})
	if words := fmt.Sprint(x); err != nil || strings.Count(words, "mirror dev "+owner(1).PortID()) != 2 {
		t.Errorf("explained as %s, %v", words, err)
	}
	l.mustAttach(mirroring(2, vswitch.MirrorDestination))
	l.mustAttach(mirroring(3, vswitch.MirrorSource))
	l.mustAttach(mirroring(4, "none"))
	l.wantCopies("two of each", "0>1 0>2 3>1 3>2")
	l.wantHealthy()
	l.mustAttach(mirroring(3, vswitch.MirrorSource)) // once more
	must(t, l.setMirror(1, vswitch.MirrorSource))
	l.wantCopies("a destination that becomes a source", "0>2 1>2 3>2")
	must(t, l.setMirror(0, "none"))
	l.wantCopies("a source that becomes nothing", "1>2 3>2")
	must(t, l.setMirror(4, vswitch.MirrorDestination))
	l.wantCopies("another destination", "1>2 1>4 3>2 3>4")
	l.wantHealthy()
	_, err = l.Attach(context.Background(), mirroring(3, vswitch.MirrorDestination))
	wantKind(t, err, vswitch.Conflict)
	l.mustDetach(2)
	l.mustDetach(3)
	l.wantCopies("after two have gone", "1>4")
	l.wantHealthy()
	l.mustDetach(4)
	l.wantCopies("without the last destination", "")
	must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan", Force: true}))
	l.wantClean(pristine)
}

func TestMirrorRefusals(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	_, err := l.Attach(context.Background(), mirroring(0, "both"))
	wantKind(t, err, vswitch.Invalid)
	l.mustAttach(mirroring(0, "none"))
	wantKind(t, l.setMirror(0, "both"), vswitch.Invalid)

	caps := allCapabilities()
	caps.Mirroring = false
	l = newLabWith(t, caps)
	l.mustAdd(policed())
	_, err = l.Attach(context.Background(), mirroring(0, vswitch.MirrorSource))
	wantKind(t, err, vswitch.CapabilityMissing)
	if !strings.Contains(err.Error(), "CONFIG_NET_ACT_MIRRED") {
		t.Errorf("no symbol is named: %v", err)
	}
	l.mustAttach(mirroring(0, "none"))
	wantKind(t, l.setMirror(0, vswitch.MirrorDestination), vswitch.CapabilityMissing)
}

// Whatever step a verb is killed at, the switch is whole again when it is added again, and
// nothing is left in the end.
func TestMirroringSurvivesKills(t *testing.T) {
	t.Parallel()
	for name, verb := range map[string]func(*lab) error{
		"attach a source": func(l *lab) error {
			_, err := l.Attach(context.Background(), mirroring(3, vswitch.MirrorSource))
			return err
		},
		"attach a destination": func(l *lab) error {
			_, err := l.Attach(context.Background(), mirroring(3, vswitch.MirrorDestination))
			return err
		},
		"no source any more":   func(l *lab) error { return l.setMirror(0, "none") },
		"the other way round":  func(l *lab) error { return l.setMirror(0, vswitch.MirrorDestination) },
		"detach a source":      func(l *lab) error { return l.Detach(context.Background(), owner(0)) },
		"detach a destination": func(l *lab) error { return l.Detach(context.Background(), owner(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				l := newLab(t)
				pristine := l.kernel.String()
				l.mustAdd(policed())
				l.mustAttach(mirroring(0, vswitch.MirrorSource))
				l.mustAttach(mirroring(1, vswitch.MirrorSource))
				l.mustAttach(mirroring(2, vswitch.MirrorDestination))
				l.kernel.DieAt(n)
				killed := dies(func() error { return verb(l) })
				l.kernel.Revive()
				l.open()
				l.mustAdd(policed())
				ports, err := l.Ports(context.Background(), "lan")
				must(t, err)
				var want []string
				for _, from := range ports {
					for _, to := range ports {
						if from.Policy.Mirror == vswitch.MirrorSource && to.Policy.Mirror == vswitch.MirrorDestination && l.has(from.Netdev) && l.has(to.Netdev) {
							want = append(want, fmt.Sprintf("%c>%c", from.Owner.ID[1], to.Owner.ID[1]))
						}
					}
				}
				slices.Sort(want)
				l.wantCopies(fmt.Sprintf("killed at step %d", n), strings.Join(want, " "))
				for i := range 4 {
					l.mustDetach(i)
				}
				must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "lan"}))
				if l.wantClean(pristine); t.Failed() {
					return
				}
				if !killed {
					if n < 2 {
						t.Error("it was never killed")
					}
					return
				}
			}
		})
	}
}

func (l *lab) has(netdev string) bool {
	l.t.Helper()
	_, err := l.kernel.Netdev(context.Background(), netdev)
	return err == nil
}

// Many who come and go at the same time leave the copies that those who stay should have.
func TestMirroringTogether(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	var all sync.WaitGroup
	for i := range 8 {
		mode := []vswitch.MirrorMode{vswitch.MirrorSource, vswitch.MirrorDestination}[i%2]
		all.Go(func() {
			for range 5 {
				if _, err := l.Attach(context.Background(), mirroring(i, mode)); err != nil {
					t.Error(err)
				}
				if err := l.Detach(context.Background(), owner(i)); err != nil {
					t.Error(err)
				}
			}
			if i < 4 {
				if _, err := l.Attach(context.Background(), mirroring(i, mode)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	l.wantCopies("in the end", "0>1 0>3 2>1 2>3")
	l.wantHealthy()
}

func TestMirroringIsDrift(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAttach(mirroring(0, vswitch.MirrorSource))
	l.mustAttach(mirroring(1, vswitch.MirrorDestination))
	l.kernel.FlushMirrors()
	if p, err := l.Port(context.Background(), owner(0).PortID()); err != nil || len(p.Drift) != 1 || !strings.Contains(p.Drift[0], "egress mirror dev") {
		t.Errorf("drift: %v, %v", p.Drift, err)
	}
	l.mustAdd(policed())
	l.wantCopies("repaired", "0>1")
}

// A resident engine notices that the tables are gone, and a port that had to be made anew
// is copied again, by its new netdev.
func TestMirroringIsKept(t *testing.T) {
	l := newLab(t)
	l.mustAdd(policed())
	l.mustAttach(mirroring(0, vswitch.MirrorSource))
	l.mustAttach(mirroring(1, vswitch.MirrorDestination))
	k := l.keep()
	before, _ := k.logged()
	l.kernel.FlushMirrors()
	k.await(before, "repaired", "what copies the frames of "+owner(0).PortID()+" was gone")
	l.wantCopies("after a flush", "0>1")
	for i := range 2 {
		before, _ = k.logged()
		l.kernel.RemoveNetdev(owner(i).PortID())
		k.await(before, "repaired", owner(i).PortID())
		l.wantCopies(fmt.Sprintf("after port %d was deleted", i), "0>1")
	}
}
