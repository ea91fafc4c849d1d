package kernel

import (
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func (f *Fake) lendNetdev(s plan.LendNetdev) error {
	e := s.Lent.Endpoint
	ns, err := f.namespace(e.Netns)
	if err != nil {
		return err
	}
	if there := ns.links[e.Name]; there != nil {
		if there.Alias == e.Alias {
			return nil
		}
		return refused(vswitch.EndpointExists, syscall.EEXIST, "the container already has an interface %s", e.Name)
	}
	vf, err := f.host.link(s.Lent.Netdev)
	if err != nil {
		return err
	}
	if vf.MAC != e.MAC {
		return wrongAddress(s.Lent.Netdev, vf.MAC, e.MAC)
	}
	vf.moveTo(ns, e.Name)
	vf.Alias = e.Alias
	return nil
}

func (f *Fake) returnNetdev(s plan.ReturnNetdev) {
	e := s.Lent.Endpoint
	ns, err := f.namespace(e.Netns)
	if err != nil {
		return
	}
	if vf := ns.links[e.Name]; vf != nil && vf.Alias == e.Alias {
		vf.moveTo(f.host, s.Lent.Netdev)
		vf.Alias = ""
	}
}

// moveTo is dev_change_net_namespace: the netdev goes down and loses what it has.
func (l *fakeLink) moveTo(ns *fakeNetns, name string) {
	l.release()
	l.down()
	l.addresses = nil
	delete(l.ns.links, l.Name)
	l.ns, l.Name = ns, name
	ns.links[name] = l
}

func (f *Fake) observeLent(scope plan.State, seen *plan.State) {
	for id, want := range scope.Lent {
		ns, err := f.namespace(want.Endpoint.Netns)
		if err != nil {
			continue
		}
		l := ns.links[want.Endpoint.Name]
		if l == nil || l.Alias != want.Endpoint.Alias {
			continue
		}
		put(&seen.Lent, id, plan.Lent{Netdev: want.Netdev, Endpoint: *f.observeEndpoint("", want.Endpoint)})
	}
}
