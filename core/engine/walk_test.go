package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// walker takes a host through verbs at random. Every third fails at some step in the
// kernel, every fourth is killed at one.
type walker struct {
	*lab
	random *rand.Rand
	trail  []string
	halved bool // the last verb was killed, and may have left a port half made
}

// TestWalk is for orders of events that nobody has thought of: whatever happens, the
// kernel is what the records say as soon as each switch has been settled, and in the
// end nothing is left.
func TestWalk(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := newLab(t)
			pristine := l.kernel.String()
			w := &walker{lab: l, random: rand.New(rand.NewPCG(seed, 1))}
			defer func() {
				if t.Failed() {
					t.Logf("after %q", w.trail)
				}
			}()
			for range 40 {
				w.step()
				if t.Failed() {
					return
				}
			}
			for _, name := range walkSwitches() {
				if err := l.DeleteSwitch(context.Background(), name, true); err != nil && !errors.Is(err, vswitch.NotFound) {
					t.Fatal(err)
				}
			}
			l.wantClean(pristine)
		})
	}
}

func walkSwitches() []string { return []string{"a", "b", "c"} }

// step does one thing, perhaps badly, and then looks.
func (w *walker) step() {
	verb, do := w.verb()
	w.halved = false
	n := 1 + w.random.IntN(12)
	switch w.random.IntN(12) {
	case 0, 1, 2, 3:
		w.trail = append(w.trail, fmt.Sprintf("%s fails at %d", verb, n))
		w.kernel.FailAt(n, errors.New("broken"))
		_ = do()
		w.kernel.FailAt(0, nil)
	case 4, 5, 6:
		w.trail = append(w.trail, fmt.Sprintf("%s dies at %d", verb, n))
		w.killed(n, do)
		w.halved = !strings.HasPrefix(verb, "set ") && !strings.HasPrefix(verb, "add ")
	default:
		w.trail = append(w.trail, verb)
		_ = do()
	}
	w.settled()
}

// verb chooses what to do.
func (w *walker) verb() (string, func() error) {
	ctx := context.Background()
	name, guest := walkSwitches()[w.random.IntN(3)], w.random.IntN(5)
	switch w.random.IntN(8) {
	case 0:
		return "delete " + name, func() error { return w.DeleteSwitch(ctx, name, w.random.IntN(2) == 0) }
	case 1:
		return fmt.Sprint("detach ", guest), func() error { return w.Detach(ctx, owner(guest)) }
	case 2:
		return "gc", func() error { _, err := w.GC(ctx, engine.GCRequest{Network: "net"}); return err }
	case 3, 4:
		req := engine.AttachRequest{Owner: owner(guest), Switch: name, MTU: []int{0, 0, 1300}[w.random.IntN(3)]}
		return fmt.Sprintf("attach %d to %s", guest, name), func() error { _, err := w.Attach(ctx, req); return err }
	case 5:
		s := w.definition(name)
		return fmt.Sprintf("add %+v", s), func() error { _, err := w.AddSwitch(ctx, s); return err }
	default:
		s := w.definition(name)
		change := engine.SwitchChange{
			Type: &s.Type, Uplink: &s.Uplink, MTU: &s.MTU, Gateway: &s.Gateway, Masquerade: &s.Masquerade, HostAccess: s.HostAccess,
		}
		return fmt.Sprintf("set %+v", s), func() error { _, err := w.SetSwitch(ctx, name, change); return err }
	}
}

// definition is a valid one; the uplinks are too few for all.
func (w *walker) definition(name string) vswitch.Switch {
	s := vswitch.Switch{Name: name, Type: vswitch.SwitchTypes()[w.random.IntN(3)], MTU: []int{0, 1400, 2000}[w.random.IntN(3)]}
	switch s.Type {
	case vswitch.External:
		s.Uplink, s.HostAccess = []string{"nic0", "nic1"}[w.random.IntN(2)], ptr(w.random.IntN(2) == 0)
		if s.Uplink == "nic1" {
			s.MTU = min(s.MTU, 1500)
		}
	case vswitch.Internal:
		if w.random.IntN(2) == 0 {
			s.Gateway = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.1/24", name[0]))}
			s.Masquerade.IPv4 = w.random.IntN(2) == 0
		}
	}
	return s
}

// settled repairs every switch as the next verb on it would, and then compares all
// with the records.
func (w *walker) settled() {
	ctx := context.Background()
	w.t.Helper()
	for _, name := range walkSwitches() {
		_, err := w.SetSwitch(ctx, name, engine.SwitchChange{})
		if err != nil && !errors.Is(err, vswitch.NotFound) {
			w.t.Errorf("%s cannot be settled: %v", name, err)
		}
	}
	s, err := w.Status(ctx)
	must(w.t, err)
	for _, p := range s.Problems {
		w.t.Errorf("status: %+v", p)
	}
	for i := range 5 {
		if _, known, err := w.Attached(ctx, owner(i)); err != nil || !known {
			continue
		}
		c, err := w.Check(ctx, owner(i))
		if whole := err == nil && len(c.Steps) == 0; whole {
			continue
		}
		if !w.halved {
			w.t.Errorf("port %d: %v, %v", i, c.Steps, err)
		} else if err := w.Detach(ctx, owner(i)); err != nil {
			w.t.Errorf("port %d is neither whole nor can it be detached: %v", i, err)
		}
	}
}
