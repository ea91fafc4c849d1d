package kernel

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/plan"
)

// Linux is the kernel of this machine, seen from the network namespace that the
// process runs in: that namespace is "the host".
type Linux struct {
	idle       chan *rtnl  // sockets in the host's namespace, to be used again
	departures *departures // of a resident process alone
}

var _ Kernel = (*Linux)(nil)

// NewLinux returns the kernel of this machine. It opens nothing until used.
func NewLinux() *Linux { return &Linux{idle: make(chan *rtnl, maxIdle)} }

// NewResidentLinux is NewLinux for a process that stays. It answers the deletion of
// netdevs when they are gone, 16 ms or so before the kernel has cleaned up behind
// them: Close waits for that.
func NewResidentLinux() *Linux {
	l := NewLinux()
	l.departures = newDepartures()
	return l
}

// maxIdle bounds the sockets that are kept between calls.
const maxIdle = 48

// Close waits for what goes on behind answers that were given, returns what failed of
// it, and gives the sockets back. No other method may be at work or be called later.
func (l *Linux) Close() error {
	var err error
	if l.departures != nil {
		err = l.departures.close()
	}
	for len(l.idle) > 0 {
		(<-l.idle).close()
	}
	return err
}

// host runs fn with a socket in the host's namespace. Every caller has one of its
// own: a shared socket would serialise them.
func (l *Linux) host(fn func(*rtnl) error) error {
	c, err := l.take()
	if err != nil {
		return err
	}
	defer l.give(c)
	return fn(c)
}

func (l *Linux) take() (*rtnl, error) {
	select {
	case c := <-l.idle:
		return c, nil
	default:
		return dialRTNL()
	}
}

func (l *Linux) give(c *rtnl) {
	select {
	case l.idle <- c:
	default:
		c.close()
	}
}

// Netdevs lists the netdevs of the host's namespace.
func (l *Linux) Netdevs(ctx context.Context) ([]Netdev, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return listNetdevs()
}

// FreeNetdevs lists the netdevs of the host's namespace that have no master.
func (l *Linux) FreeNetdevs(ctx context.Context) ([]Netdev, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return listFreeNetdevs()
}

// Netdev returns one netdev of the host's namespace.
func (l *Linux) Netdev(ctx context.Context, name string) (Netdev, error) {
	if err := ctx.Err(); err != nil {
		return Netdev{}, err
	}
	return readNetdev(name)
}

// Capabilities tries what this kernel can do.
func (l *Linux) Capabilities(ctx context.Context) (Capabilities, error) {
	return probeCapabilities(ctx)
}

// CheckNetns fails unless path is a network namespace.
func (l *Linux) CheckNetns(path string) error { return checkNetns(path) }

// Apply carries out the steps.
func (l *Linux) Apply(ctx context.Context, steps []plan.Step) error {
	return l.host(func(c *rtnl) error {
		a := applier{kernel: l, host: c, steps: steps, links: make(map[linkKey]link), born: make(map[linkKey]bool)}
		defer a.closeNetns()
		for i, s := range steps {
			if err := ctx.Err(); err != nil {
				return &StepError{Index: i, Step: s, Err: err}
			}
			if err := a.step(i, s); err != nil {
				return a.stepError(i, err)
			}
		}
		if err := errors.Join(a.flush(), a.settle()); err != nil {
			return a.stepError(len(steps)-1, err)
		}
		return nil
	})
}
