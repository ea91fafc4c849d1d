package kernel

import (
	"context"
	"errors"

	"github.com/patchbay-net/patchbay/core/plan"
)

// Linux is the kernel of this machine, seen from the network namespace that the
// process runs in: that namespace is "the host".
type Linux struct {
	idle chan *rtnl // sockets in the host's namespace, to be used again
}

var _ Kernel = (*Linux)(nil)

// NewLinux returns the kernel of this machine. It opens nothing until used.
func NewLinux() *Linux { return &Linux{idle: make(chan *rtnl, maxIdle)} }

// maxIdle bounds the sockets that a resident process keeps between calls.
const maxIdle = 16

// host runs fn with a socket in the host's namespace. Every caller has one of its
// own: a shared socket would serialise them.
func (l *Linux) host(fn func(*rtnl) error) error {
	var c *rtnl
	select {
	case c = <-l.idle:
	default:
		var err error
		if c, err = dialRTNL(); err != nil {
			return err
		}
	}
	defer func() {
		select {
		case l.idle <- c:
		default:
			c.close()
		}
	}()
	return fn(c)
}

// Netdevs lists the netdevs of the host's namespace.
func (l *Linux) Netdevs(ctx context.Context) ([]Netdev, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return listNetdevs()
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
		a := applier{host: c, steps: steps, links: make(map[linkKey]link), born: make(map[linkKey]bool)}
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
