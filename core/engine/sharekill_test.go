package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Whatever step a verb is killed at, the uplink is shared as it should be when the switch is
// added again, and nothing is left in the end.
func TestSharesSurviveKills(t *testing.T) {
	t.Parallel()
	for name, verb := range map[string]func(*lab) error{
		"attach": func(l *lab) error {
			_, err := l.Attach(context.Background(), promised(3, weight(10)))
			return err
		},
		"attach the first": func(l *lab) error {
			for i := range 2 {
				if err := l.Detach(context.Background(), owner(i)); err != nil {
					return err
				}
			}
			_, err := l.Attach(context.Background(), promised(3, weight(10)))
			return err
		},
		"change": func(l *lab) error { return l.promise(0, weight(50)) },
		"end":    func(l *lab) error { return l.promise(0, weight(0)) },
		"detach": func(l *lab) error { return l.Detach(context.Background(), owner(1)) },
		"move": func(l *lab) error {
			_, err := l.SetSwitch(context.Background(), "wan", engine.SwitchChange{Uplink: ptr("nic1")})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				l := newLab(t)
				l.kernel.SetSpeed("nic0", 1000)
				l.kernel.SetSpeed("nic1", 1000)
				pristine := l.kernel.String()
				l.sharedWAN("")
				l.mustAttach(promised(0, weight(40)))
				l.mustAttach(promised(1, weight(20)))
				l.kernel.DieAt(n)
				killed := dies(func() error { return verb(l) })
				l.kernel.Revive()
				l.open()
				s, err := l.Switch(context.Background(), "wan")
				must(t, err)
				l.mustAdd(wanOn(s.Uplink))
				l.wantParts(fmt.Sprintf("killed at step %d", n), l.expectedParts(s.Uplink))
				for i := range 4 {
					l.mustDetach(i)
				}
				must(t, l.deleteSwitch(engine.DeleteSwitchRequest{Name: "wan"}))
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

// expectedParts is parts as it should be by the records, of weights on 1 Gbit/s.
func (l *lab) expectedParts(uplink string) string {
	l.t.Helper()
	ports, err := l.Ports(context.Background(), "wan")
	must(l.t, err)
	total := 1
	for _, p := range ports {
		total += p.Policy.Bandwidth.Min.Weight
	}
	if total == 1 {
		return ""
	}
	part := func(n int) float64 { return float64(uint64(float64(n)*(1e9/float64(total))/8)*8) / 1e6 }
	words := []string{fmt.Sprintf("%s *:%.1f", uplink, part(1))}
	macs := make(map[vswitch.MAC]string)
	for _, p := range ports {
		if n := p.Policy.Bandwidth.Min.Weight; n > 0 {
			macs[p.MAC] = fmt.Sprintf("%s %s:%.1f", uplink, l.whose(p.MAC.String()), part(n))
		}
	}
	for _, line := range strings.Split(l.kernel.String(), "\n") { // in the order of addresses
		for mac, word := range macs {
			if strings.Contains(line, "htb from "+mac.String()) {
				words = append(words, word)
				delete(macs, mac)
			}
		}
	}
	for _, left := range macs {
		words = append(words, left)
	}
	return strings.Join(words, " ")
}

// Many who come and go at the same time leave the parts that those who stay should have.
func TestSharesTogether(t *testing.T) {
	l := newLab(t)
	l.sharedWAN("")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 5 {
				if _, err := l.Attach(context.Background(), promised(i, weight(33))); err != nil {
					t.Error(err)
				}
				if err := l.Detach(context.Background(), owner(i)); err != nil {
					t.Error(err)
				}
			}
			if i < 3 {
				if _, err := l.Attach(context.Background(), promised(i, weight(33))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	l.wantParts("in the end", l.expectedParts("nic0"))
	l.wantHealthy()
}
