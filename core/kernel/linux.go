package kernel

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/plan"
)

// Linux is the kernel of this machine, seen from the network namespace that the
// process runs in: that namespace is "the host".
type Linux struct {
	rtnetlink  sockets
	nfnetlink  sockets
	departures *departures // of a resident process alone
}

var _ Kernel = (*Linux)(nil)

// NewLinux returns the kernel of this machine. It opens nothing until used.
func NewLinux() *Linux {
	return &Linux{rtnetlink: newSockets(dialRTNL), nfnetlink: newSockets(dialNetfilter)}
}

// NewResidentLinux is NewLinux for a process that stays. It answers the deletion of
// netdevs when they are gone, 16 ms or so before the kernel has cleaned up behind
// them: Close waits for that.
func NewResidentLinux() *Linux {
	l := NewLinux()
	l.departures = newDepartures()
	return l
}

// Close waits for what goes on behind answers that were given, returns what failed of
// it, and gives the sockets back. No other method may be at work or be called later.
func (l *Linux) Close() error {
	var err error
	if l.departures != nil {
		err = l.departures.close()
	}
	l.rtnetlink.close()
	l.nfnetlink.close()
	return err
}

// host runs fn with a socket to rtnetlink in the host's namespace.
func (l *Linux) host(fn func(*rtnl) error) error { return l.rtnetlink.with(fn) }

// netfilter runs fn with a socket to nftables in the host's namespace. It has to be kept:
// closing one waits until the kernel is rid of all that anybody has taken from a ruleset,
// 10 ms or so.
func (l *Linux) netfilter(fn func(*rtnl) error) error { return l.nfnetlink.with(fn) }

// Netdevs lists the netdevs of the host's namespace.
func (l *Linux) Netdevs(ctx context.Context) (all []Netdev, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = l.host(func(c *rtnl) error {
		all, err = listNetdevs(c)
		return err
	})
	return all, err
}

// FreeNetdevs lists the netdevs of the host's namespace that have no master.
func (l *Linux) FreeNetdevs(ctx context.Context) (all []Netdev, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = l.host(func(c *rtnl) error {
		all, err = listFreeNetdevs(c)
		return err
	})
	return all, err
}

// Netdev returns one netdev of the host's namespace.
func (l *Linux) Netdev(ctx context.Context, name string) (n Netdev, err error) {
	if err := ctx.Err(); err != nil {
		return Netdev{}, err
	}
	err = l.host(func(c *rtnl) error {
		n, err = readNetdev(c, name)
		return err
	})
	return n, err
}

// Capabilities tries what this kernel can do.
func (l *Linux) Capabilities(ctx context.Context) (Capabilities, error) {
	return probeCapabilities(ctx)
}

// CheckNetns fails unless path is a network namespace.
func (l *Linux) CheckNetns(path string) error { return checkNetns(path) }

// Apply carries out the steps.
func (l *Linux) Apply(ctx context.Context, steps []plan.Step) error {
	return l.withDepartures(steps, func(d *departures) error {
		return l.host(func(c *rtnl) error {
			a := applier{kernel: l, host: c, departures: d, steps: steps, links: make(map[linkKey]link), born: make(map[linkKey]bool)}
			return a.apply(ctx)
		})
	})
}

func (a *applier) apply(ctx context.Context) error {
	defer a.closeNetns()
	for i, s := range a.steps {
		if err := ctx.Err(); err != nil {
			return &StepError{Index: i, Step: s, Err: err}
		}
		if err := a.step(i, s); err != nil {
			return a.stepError(i, err)
		}
	}
	if err := errors.Join(a.flush(), a.settle()); err != nil {
		return a.stepError(len(a.steps)-1, err)
	}
	return nil
}
