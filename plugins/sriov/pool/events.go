package pool

import (
	"context"
	"time"

	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/plugins/sriov/record"
	"github.com/patchbay-net/patchbay/sdk"
)

// WatchEvents tells of NICs that were reset or taken by another driver, of VFs that ports have
// no more, and of netdevs whose namespace has ended.
func (p *Provider) WatchEvents(ctx context.Context, tell func(sdk.Event) error) error {
	next := p.news.wait()
	before, err := p.look()
	if err != nil {
		return err
	}
	return p.follow(ctx, next, before, tell)
}

// follow tells what happens from a sight on.
func (p *Provider) follow(ctx context.Context, next <-chan struct{}, before sight, tell func(sdk.Event) error) error {
	for {
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.life.Done():
			return errClosed()
		}
		next = p.news.wait()
		now, err := p.look()
		if err != nil {
			return err
		}
		for _, e := range happened(before, now) {
			e.Time = time.Now()
			if err := tell(e); err != nil {
				return err
			}
		}
		before = now
	}
}

// sight is what can be seen of NICs and grants at one moment.
type sight struct {
	nics   map[string]nicSeen
	grants map[sdk.Ref]grantSeen
}

// nicSeen is what a NIC that was reset has another of.
type nicSeen struct {
	driver string
	netdev int
	vfs    int
}

// grantSeen is a grant that is written down, and whether the kernel still knows of it.
type grantSeen struct {
	nic        string
	generation uint64
	addr       string
	intact     bool
	netdev     int // the index of its netdev in the host's namespace; 0 for none there
}

func (p *Provider) look() (sight, error) {
	all, err := p.host.PFs()
	if err != nil {
		return sight{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return sight{}, errClosed()
	}
	s := sight{map[string]nicSeen{}, map[sdk.Ref]grantSeen{}}
	for _, pf := range all {
		if p.serves(pf) {
			s.nics[pf.Addr] = p.see(pf)
		}
	}
	for addr, entry := range p.file.State().VFs {
		if entry.Phase != record.Held || p.busy[addr] {
			continue
		}
		seen := grantSeen{nic: entry.PF, generation: entry.Request.Generation, addr: addr}
		vf, ok := p.intact(addr, entry)
		if d, err := p.host.Netdev(vf.Netdev()); err == nil {
			seen.netdev = d.Index
		}
		seen.intact = ok
		s.grants[entry.Request.Ref] = seen
	}
	return s, nil
}

func (p *Provider) see(pf nic.PF) nicSeen {
	n := nicSeen{driver: pf.Driver, vfs: pf.Num}
	if d, err := p.host.Netdev(pf.Netdev); err == nil {
		n.netdev = d.Index
	}
	return n
}

// happened is what led from one sight to the other.
func happened(before, now sight) []sdk.Event {
	var all []sdk.Event
	for addr, was := range before.nics {
		is, there := now.nics[addr]
		switch {
		case !there:
			all = append(all, sdk.Event{Kind: sdk.NICReset, NIC: addr, Detail: "it is gone"})
		case is.driver != was.driver || is.netdev != was.netdev || is.vfs < was.vfs:
			all = append(all, sdk.Event{Kind: sdk.NICReset, NIC: addr, Detail: "its driver took it anew, or its VFs were taken away"})
		}
	}
	for ref, was := range before.grants {
		is, there := now.grants[ref]
		switch {
		case !there || is.generation != was.generation || is.addr != was.addr: // somebody called
		case was.intact && !is.intact:
			all = append(all, sdk.Event{Kind: sdk.GrantLost, NIC: was.nic, Ref: ref, Detail: "the NIC does not know the VF as the port's any more"})
		case is.intact && is.netdev != 0 && is.netdev != was.netdev:
			all = append(all, sdk.Event{Kind: sdk.GrantChanged, NIC: was.nic, Ref: ref, Detail: "the VF's netdev came back to the host"})
		}
	}
	return all
}
