package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file plans and ends the way of what the host has from netdev to netdev.

// passage is the way of the host's things through one switch.
type passage struct {
	name    string
	to      string // the netdev that is to have them; "" while nobody has
	port    string // the host port
	heir    string // the switch whose host port takes them over; "" if none does
	nic     string // the uplink
	sources []string
	renewed bool     // the host stays on the port, which gets another address with its uplink
	gone    []string // what is no item: addresses of ours
	before  hosted
	after   hosted
}

// placeHost adds to the states what the host has and where it shall be.
func (e *Engine) placeHost(ctx context.Context, t *transaction, desired, had *plan.State) ([]passage, error) {
	var all []passage
	for _, c := range t.changes {
		p, err := e.passage(ctx, t, c)
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		what, err := e.gather(ctx, p)
		if err != nil {
			return nil, err
		}
		if len(what.Items) == 0 && p.before.NIC == "" {
			continue
		}
		p.place(what, desired, had)
		all = append(all, *p)
	}
	return all, nil
}

// passage finds out where the host's things go; nil if they stay where they are.
func (e *Engine) passage(ctx context.Context, t *transaction, c change) (*passage, error) {
	name := nameOf(c)
	p := &passage{name: name, port: vswitch.HostPortName(name)}
	var last string
	carried := false
	for _, r := range t.from {
		if r.Name == name && r.Uplink != "" {
			carried = carried || r.CarriesHost
			p.renewed = p.renewed || r.CarriesHost && c.new != nil && c.new.Uplink != r.Uplink
			if last == "" {
				last = r.Uplink
			}
			for _, g := range r.Gateway {
				p.gone = append(p.gone, g.String())
			}
		}
	}
	var err error
	if p.before, err = e.hosted(name); err != nil {
		return nil, err
	}
	nic := last
	switch {
	case c.new != nil && c.new.Uplink != "":
		nic = c.new.Uplink
		p.sources = append(p.sources, nic)
		if c.new.HostPort() {
			p.to = p.port
			if !c.new.CarriesHost {
				return nil, nil
			}
		}
	case last == "" || !carried && len(p.before.Items) == 0:
		return nil, nil
	default:
		p.to, p.heir = t.carrierOf(last)
	}
	if carried && p.to != p.port {
		p.sources = append(p.sources, p.port)
	}
	p.sources = slices.DeleteFunc(p.sources, func(s string) bool { return s == p.to })
	if p.nic = nic; p.before.NIC == nic {
		p.after.NIC, p.after.Settings = nic, p.before.Settings
	}
	if p.to == nic {
		_, err = e.kernel.Netdev(ctx, nic)
		if errors.Is(err, vswitch.NotFound) { // was unplugged: there is nobody to give it to
			p.to, err = "", nil
		}
	}
	return p, err
}

// notRenamed refuses to take the host from a NIC that is there under another name: what
// it has would go to nobody.
func (e *Engine) notRenamed(ctx context.Context, r store.SwitchRecord) error {
	note, err := e.hosted(r.Name)
	if err != nil || !r.CarriesHost && len(note.Items) == 0 {
		return err
	}
	if _, err = e.kernel.Netdev(ctx, r.Uplink); !errors.Is(err, vswitch.NotFound) {
		return err
	}
	all, err := e.kernel.Netdevs(ctx)
	for _, n := range all {
		if n.Master == vswitch.BridgeName(r.Name) && !strings.HasPrefix(n.Alias, vswitch.AliasPrefix) && n.Kind != "tun" {
			return fault("", "switch "+r.Name, &vswitch.Error{
				Kind: vswitch.UplinkNotFound, Err: fmt.Errorf("there is no NIC %s that the host could go back to, but the switch has %s, which may be the same", r.Uplink, n.Name),
				Hint: fmt.Sprintf("give it its name back with `ip link set %s name %s`, or take it out with `ip link set %s nomaster`", n.Name, r.Uplink, n.Name),
			})
		}
	}
	return err
}

// carrierOf is the netdev that has what the host has on a NIC after the transaction,
// and the switch that it is the host port of, if it is one.
func (t *transaction) carrierOf(nic string) (netdev, heir string) {
	for _, r := range t.news() {
		if r.Uplink == nic && r.HostPort() {
			return vswitch.HostPortName(r.Name), r.Name
		}
	}
	return nic, ""
}

func nameOf(c change) string {
	if c.new != nil {
		return c.new.Name
	}
	return c.old.Name
}

// gather reads what the host has on the sources, and on the port if that gets another
// uplink, and completes the notes.
func (e *Engine) gather(ctx context.Context, p *passage) (plan.Addressing, error) {
	what := plan.Addressing{Items: p.before.Items}
	if err := e.former(ctx, p); err != nil {
		return what, err
	}
	sources := p.sources
	if p.to == p.port && p.renewed {
		sources = append(slices.Clone(sources), p.port)
	}
	for _, source := range sources {
		a, err := e.kernel.Addressing(ctx, source)
		if errors.Is(err, vswitch.NotFound) {
			continue
		}
		if err != nil {
			return what, err
		}
		if source == p.port && p.to != p.port && p.before.Port == nil { // if it has to be made again
			p.before.Port = transferable(a.Settings)
		}
		if source == p.nic {
			if a.CarriesHost() {
				p.learn(a)
			} else {
				a.Items = nil
			}
		}
		a.Items = slices.DeleteFunc(a.Items, func(i plan.Item) bool { return slices.Contains(p.gone, i.Key) })
		what = plan.Addressing{Items: a.Items}.With(what)
	}
	p.before.Items = what.Items
	if p.to == "" {
		p.after.Items, p.after.Port = what.Items, p.before.Port
	}
	return what, nil
}

// former notes the settings of a host port that is there before the host comes to it.
func (e *Engine) former(ctx context.Context, p *passage) error {
	p.after.Former = p.before.Former
	if p.to != p.port || p.before.NIC != "" {
		return nil
	}
	a, err := e.kernel.Addressing(ctx, p.port)
	if errors.Is(err, vswitch.NotFound) {
		return nil
	}
	p.before.Former = transferable(a.Settings)
	p.after.Former = p.before.Former
	return err
}

// transferable are the settings that go along with the host: not how a netdev gets its
// link-local address, which moves as it is.
func transferable(settings map[string]string) map[string]string {
	settings = maps.Clone(settings)
	delete(settings, addrGenMode)
	return settings
}

// learn notes the settings of a NIC that the host is about to leave.
func (p *passage) learn(a plan.Addressing) {
	if p.before.NIC == p.nic {
		return
	}
	p.after.NIC, p.after.Settings = p.nic, make(map[string]string)
	for _, name := range []string{rpFilter, addrGenMode} {
		if value, there := a.Settings[name]; there {
			p.after.Settings[name] = value
		}
	}
	if p.before.NIC == "" {
		p.before.NIC, p.before.Settings, p.before.Port = p.nic, p.after.Settings, transferable(a.Settings)
	}
}

// place writes the passage into the states.
func (p *passage) place(what plan.Addressing, desired, had *plan.State) {
	if desired.Hosts == nil {
		desired.Hosts = make(map[string]plan.Addressing)
	}
	if had.Hosts == nil {
		had.Hosts = make(map[string]plan.Addressing)
	}
	for _, source := range p.sources {
		desired.Hosts[source] = plan.Addressing{}
		if source == p.port {
			desired.Hosts[source] = plan.Addressing{Settings: p.before.Former}
		}
		had.Hosts[source] = plan.Addressing{Items: what.Items}
	}
	if p.to == "" { // nexthop objects stay on their NIC: there is nothing that they could go to
		kept := slices.DeleteFunc(slices.Clone(what.Items), func(i plan.Item) bool { return i.Kind == plan.ItemNexthop })
		for _, source := range p.sources {
			had.Hosts[source] = plan.Addressing{Items: kept}
		}
	} else {
		desired.Hosts[p.to] = plan.Addressing{Items: what.Items}.With(desired.Hosts[p.to])
	}
	if p.to == p.port || p.heir != "" && desired.Hosts[p.to].Settings == nil { // the heir may have some of its own to have back
		a := desired.Hosts[p.to]
		a.Settings = p.before.Port
		desired.Hosts[p.to] = a
	}
	p.placeSettings(desired)
}

// placeSettings gives the NIC that the host leaves the settings that keep it quiet, and
// the one that it comes back to, or that another one replaces, those that it had.
func (p *passage) placeSettings(desired *plan.State) {
	give := func(nic string, settings map[string]string) {
		if a, there := desired.Hosts[nic]; there || nic != "" {
			a.Settings = maps.Clone(settings)
			desired.Hosts[nic] = a
		}
	}
	if p.before.NIC != "" && (p.before.NIC != p.nic || p.to == p.nic) {
		give(p.before.NIC, p.before.Settings)
	}
	if p.to != p.nic && p.after.NIC != "" {
		give(p.after.NIC, p.after.Settings)
		if _, there := p.after.Settings[addrGenMode]; there {
			desired.Hosts[p.after.NIC].Settings[addrGenMode] = addrGenNone
		}
	}
}

// depart notes all that is on its way, before the kernel is touched.
func (e *Engine) depart(w *way) error {
	for _, p := range w.passages {
		if err := e.note(p.name, p.before); err != nil {
			return err
		}
	}
	return nil
}

// arrived reads again what has been moved, and forgets the notes that have served.
func (e *Engine) arrived(ctx context.Context, w *way) error {
	if len(w.passages) == 0 {
		return nil
	}
	want, scope := plan.State{Hosts: make(map[string]plan.Addressing)}, plan.State{Hosts: make(map[string]plan.Addressing)}
	for netdev, a := range w.desired.Hosts {
		want.Hosts[netdev] = plan.Addressing{Items: a.Lasting().Items}
		scope.Hosts[netdev] = plan.Addressing{Items: a.Lasting().With(w.had.Hosts[netdev]).Items}
	}
	observed, err := e.kernel.Observe(ctx, scope)
	if err != nil {
		return err
	}
	if missed := plan.Diff(want, observed); len(missed) > 0 {
		return &vswitch.Error{
			Kind: vswitch.KernelFailed, Err: fmt.Errorf("what the host has on the NIC did not arrive whole: %s is missing", missed[0]),
			Hint: "try again; if it stays so, the kernel does not take this back as it gives it",
		}
	}
	for _, p := range w.passages {
		if p.to == p.nic {
			p.after = hosted{}
		}
		if p.heir != "" && p.after.NIC != "" {
			p.after.Former = nil
			if err := e.note(p.heir, p.after); err != nil {
				return err
			}
		}
		if p.heir != "" {
			p.after = hosted{}
		}
		if err := e.note(p.name, p.after); err != nil {
			return err
		}
	}
	return nil
}
