package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// resident is a kernel that stays, for calls from the lab's host.
func (l *linuxLab) resident() (k *Linux, apply func(...plan.Step) error) {
	l.t.Helper()
	k = NewResidentLinux()
	l.t.Cleanup(func() {
		if err := k.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return k, func(steps ...plan.Step) error {
		return inNetns(l.host, func() error { return k.Apply(context.Background(), steps) })
	}
}

// At the answer both names of a pair are free, although the kernel is not done.
func TestResidentDeletion(t *testing.T) {
	l := newLinuxLab(t, 1)
	k, apply := l.resident()
	desired := l.state(1500, 0)
	if err := apply(plan.Diff(desired, plan.State{})...); err != nil {
		t.Fatal(err)
	}
	guest := l.guest(0, 1500)
	only := plan.State{Ports: map[string]plan.Port{guest.Name: guest}}
	early := 0
	for range 40 {
		if err := apply(plan.DeleteNetdev{Name: guest.Name}); err != nil {
			t.Fatal(err)
		}
		early += len(k.departures.sending)
		if err := apply(plan.Diff(only, plan.State{})...); err != nil {
			t.Fatalf("again at once: %v", err)
		}
	}
	if early == 0 {
		t.Error("every answer waited for the acknowledgement")
	}
	if again := plan.Diff(desired, l.observe(desired)); len(again) > 0 {
		t.Errorf("the last one is not whole:\n%s", words(again))
	}
	if err := apply(plan.DeleteNetdev{Name: "pbnobody000000"}); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

// A process that ends with its verb has the kernel get rid of a port and its rules at once,
// and waits for both.
func TestRulesGoWithTheirNetdev(t *testing.T) {
	l := newLinuxLab(t, 0)
	script, names := pairs(20)
	l.batch(script)
	early := 0
	within(t, l.host, func() error {
		k := NewLinux()
		for _, name := range names {
			steps := []plan.Step{plan.DeleteNetdev{Name: name}, plan.SetRules{Remove: plan.Rules{GuardBase: true}}}
			err := k.withDepartures(steps, func(d *departures) error {
				return k.host(func(c *rtnl) error {
					a := applier{kernel: k, host: c, departures: d, steps: steps, links: make(map[linkKey]link)}
					err := a.step(0, steps[0])
					early += len(d.sending)
					return errors.Join(err, a.step(1, steps[1]))
				})
			})
			if err != nil {
				return err
			}
		}
		return k.Close()
	})
	if early == 0 {
		t.Error("the rules have always waited for the netdev")
	}
	if n := l.veths(); n != 0 {
		t.Errorf("%d ends are left", n)
	}
}

func TestRulesFollow(t *testing.T) {
	gone, rules := plan.DeleteNetdev{Name: "pba"}, plan.SetRules{}
	for _, tt := range []struct {
		steps []plan.Step
		want  bool
	}{
		{nil, false},
		{[]plan.Step{gone}, false},
		{[]plan.Step{rules, gone}, false},
		{[]plan.Step{gone, rules}, true},
		{[]plan.Step{plan.DeleteNetdevs{}, plan.DeleteBridge{}, rules}, true},
	} {
		if got := rulesFollow(tt.steps); got != tt.want {
			t.Errorf("%v: got %v", tt.steps, got)
		}
	}
}

// Many at a time go, one by one and in groups, more than there is room for.
func TestResidentDeletionsTogether(t *testing.T) {
	l := newLinuxLab(t, 0)
	_, apply := l.resident()
	script, names := pairs(200)
	l.batch(script + "link add theirs type veth peer name theirpeer\n")
	steps := []plan.Step{plan.DeleteNetdevs{Names: names[100:150]}, plan.DeleteNetdevs{Names: append(names[150:], "theirs")}}
	for _, name := range names[:100] {
		steps = append(steps, plan.DeleteNetdev{Name: name})
	}
	errs := make([]error, len(steps))
	var group sync.WaitGroup
	began := time.Now()
	for i, s := range steps {
		group.Go(func() { errs[i] = apply(s) })
	}
	group.Wait()
	t.Logf("200 netdevs went in %v", time.Since(began))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if n := l.veths(); n != 2 {
		t.Errorf("%d ends are left, want those of the pair that is not ours", n)
	}
}

// Without a notification the acknowledgement is the answer, and so it is while
// there is no room.
func TestResidentDeletionUnheard(t *testing.T) {
	l := newLinuxLab(t, 0)
	k, apply := l.resident()
	script, names := pairs(4)
	l.batch(script)
	deaf, err := openWatch(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	k.departures.watch = deaf
	if err := apply(plan.DeleteNetdev{Name: names[0]}, plan.DeleteNetdevs{Names: names[1:3]}); err != nil {
		t.Fatal(err)
	}
	if len(k.departures.waiting) != 0 {
		t.Errorf("%d netdevs are still waited for", len(k.departures.waiting))
	}
	for range maxSending {
		k.departures.sending <- struct{}{}
	}
	if err := apply(plan.DeleteNetdev{Name: names[3]}); err != nil || l.veths() != 0 {
		t.Errorf("%v, %d ends are left", err, l.veths())
	}
	for range maxSending {
		<-k.departures.sending
	}
}

// What the kernel refuses is told, before the answer or at Close.
func TestResidentDeletionRefused(t *testing.T) {
	l := newLinuxLab(t, 0)
	k, _ := l.resident()
	err := inNetns(l.host, func() error {
		return k.sendOff(k.departures, []int{1}, deleteLinks(0, 0, []int{1})) // lo
	})
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("got %v, want %v", err, unix.EOPNOTSUPP)
	}
	d := newDepartures()
	gone := &departure{left: 1, gone: make(chan struct{})}
	d.waiting[7] = []*departure{gone}
	d.left(7)
	d.forget(gone, []int{7}, unix.EIO)
	if err := d.close(); !errors.Is(err, unix.EIO) {
		t.Errorf("close says %v, want what failed behind an answer", err)
	}
}

// A netdev of somebody else's that has a port's name stays, whoever asks.
func TestDeleteNetdevOfOthers(t *testing.T) {
	l := newLinuxLab(t, 0)
	_, resident := l.resident()
	l.batch("link add pbnotours00000 type veth peer name enotours\n")
	for name, apply := range map[string]func(...plan.Step) error{"comes and goes": l.apply, "resident": resident} {
		if err := apply(plan.DeleteNetdev{Name: "pbnotours00000"}); err != nil || l.veths() != 2 {
			t.Errorf("%s: %v, %d ends are left", name, err, l.veths())
		}
	}
}

func BenchmarkDeleteNetdev(b *testing.B) {
	for name, kernel := range map[string]func() *Linux{"comes and goes": NewLinux, "resident": NewResidentLinux} {
		b.Run(name, func(b *testing.B) {
			k, host := kernel(), newNS(b)
			names := make([]string, b.N)
			for i := range names {
				names[i] = fmt.Sprintf("pb%013d", i)
				sh(b, host, fmt.Sprintf("ip link add %s group %#x type veth peer name e%d", names[i], vswitch.Group(1), i))
			}
			b.ResetTimer()
			within(b, host, func() error {
				for _, name := range names {
					if err := k.Apply(context.Background(), []plan.Step{plan.DeleteNetdev{Name: name}}); err != nil {
						return err
					}
				}
				return nil
			})
			b.StopTimer()
			if err := k.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
