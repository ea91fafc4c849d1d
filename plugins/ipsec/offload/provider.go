package offload

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Provider is the sdk.Provider of IPsec offload by the kernel. It reads counters and tells
// events too.
type Provider struct {
	version   string
	listeners listeners
	ends      *ends

	mu     sync.Mutex // of all that changes what ports hold
	record *record    // nil before Configure
	owners map[uint64]*owner
	grants map[sdk.Ref]grant
}

// New makes a provider, which touches nothing before it is configured.
func New(version string) *Provider {
	p := &Provider{version: version, owners: map[uint64]*owner{}, grants: map[sdk.Ref]grant{}}
	p.ends = newEnds(p.gone)
	return p
}

// defaultState is below what a boot empties.
const defaultState = "/run/patchbay/ipsec"

// Describe says what the plugin is.
func (p *Provider) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{
		Name: "ipsec", Vendor: "Patchbay", Version: p.version, Features: []vswitch.Feature{vswitch.IPsec},
		Schema: sdk.Schema{{Key: "state", Type: sdk.String, Doc: "directory where grants are remembered while the plugin starts again", Default: defaultState}},
	}, nil
}

// Configure finds out what ports held before the plugin was started. Asked again it keeps
// what they hold, and writes it to the new place.
func (p *Provider) Configure(_ context.Context, c sdk.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := record{dir: c.Text("state")}
	if p.record != nil && *p.record == r {
		return nil
	}
	remembered, err := r.load()
	if err != nil {
		return err
	}
	for _, g := range p.grants {
		if err := r.save(g); err != nil {
			return err
		}
	}
	first := p.record == nil
	p.record = &r
	if !first {
		return nil
	}
	for _, g := range remembered {
		if err := p.resume(g); err != nil {
			slog.Info("what a port held is gone", "port", g.Port, "netns", g.Netns, "err", err)
			logIfAny("forget a grant", []error{r.remove(g)})
		}
	}
	return nil
}

// resume goes on with a grant of an earlier process.
func (p *Provider) resume(g grant) error {
	o, err := p.owner(g.Netns)
	if err != nil {
		return err
	}
	if o.inode != g.Inode {
		p.closeIfIdle(o)
		return errors.New("another namespace is there")
	}
	return p.put(o, g)
}

// put carries a grant out.
func (p *Provider) put(o *owner, g grant) error {
	was, had := p.grants[g.ref()]
	if g.Netns != "" && (!had || was.Netns != g.Netns) {
		err := p.ends.await(g.Netns)
		if err == nil && !g.standsAtPath() { // it went, or another came, before that
			p.ends.forget(g.Netns)
			err = errors.New("it is gone")
		}
		if err != nil {
			p.closeIfIdle(o)
			return noNetns(g.Netns, err)
		}
	}
	p.grants[g.ref()] = g
	o.put(g)
	if had && was.Inode != g.Inode {
		p.leave(was)
	}
	if had && was.Netns != "" && was.Netns != g.Netns {
		p.ends.forget(was.Netns)
	}
	return nil
}

// leave takes a grant from the namespace where it was.
func (p *Provider) leave(g grant) {
	if o, open := p.owners[g.Inode]; open {
		o.remove(g.ref())
		p.closeIfIdle(o)
	}
}

// owner is the namespace at a path, watched.
func (p *Provider) owner(path string) (*owner, error) {
	ns, inode, err := netnsAt(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }() // read only
	if o, open := p.owners[inode]; open {
		return o, nil
	}
	o, err := openOwner(ns, inode, p.listeners.tell)
	if err == nil {
		p.owners[inode] = o
	}
	return o, err
}

// closeIfIdle stops watching a namespace in which nobody has a grant.
func (p *Provider) closeIfIdle(o *owner) {
	if len(o.granted()) == 0 {
		o.close()
		delete(p.owners, o.inode)
	}
}

// Ensure gives a port's owner room for SAs on a NIC, and places those that there are. The
// error of a NIC that is not where the owner's SAs are is NeedsSoftwarePath: SAs and the
// netdev that works for them must be in one namespace.
func (p *Provider) Ensure(_ context.Context, r sdk.Request) (sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	has, granted := p.grants[r.Ref]
	switch {
	case p.record == nil:
		return sdk.Grant{}, &vswitch.Error{Kind: vswitch.Conflict, Op: "ensure", Object: r.String(), Err: errors.New("the plugin is not configured yet")}
	case granted && r.Generation < has.Generation:
		return sdk.Grant{}, sdk.Late(r, has.Generation)
	case r.Feature != vswitch.IPsec:
		return sdk.Grant{}, sdk.Deny(vswitch.NoDriverSupport, "this plugin does ipsec, not %s", r.Feature)
	case r.Owner == vswitch.OwnerVM:
		return sdk.Grant{}, sdk.Deny(vswitch.NeedsSoftwarePath, "a VM's SAs are in the VM, where its own kernel gives them to its VF")
	}
	o, err := p.owner(r.Netns)
	if err != nil {
		return sdk.Grant{}, err
	}
	if err := o.serves(r.NIC, r.MAC); err != nil {
		p.closeIfIdle(o)
		return sdk.Grant{}, p.explain(err, r)
	}
	g := grant{Port: r.Port, NIC: r.NIC, MAC: r.MAC, Generation: r.Generation, MaxSAs: r.MaxSAs, Netns: r.Netns, Inode: o.inode}
	if err := p.record.save(g); err != nil {
		p.closeIfIdle(o)
		return sdk.Grant{}, err
	}
	if err := p.put(o, g); err != nil {
		if granted {
			return sdk.Grant{}, errors.Join(err, p.record.save(has))
		}
		return sdk.Grant{}, errors.Join(err, p.record.remove(g))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asGranted(g), nil
}

// errElsewhere says that a NIC is not in the namespace.
var errElsewhere = errors.New("the NIC is not in the owner's namespace")

// serves fails unless a NIC, or the VF of it with that address, is here and encrypts. It may
// have come a moment ago, and not have been heard of.
func (o *owner) serves(nic string, mac vswitch.MAC) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, there := find(o.netdevs, nic, mac)
	if !there {
		if err := o.look(); err != nil {
			return err
		}
		if n, there = find(o.netdevs, nic, mac); !there {
			return errElsewhere
		}
	}
	can, err := o.view.encrypts(n.index)
	if err == nil && !can {
		err = sdk.Deny(vswitch.NoDriverSupport, "%s of driver %s has no %s", n.name, n.driver, espOffload)
	}
	return err
}

// explain tells a NIC that is elsewhere from one that there is not.
func (p *Provider) explain(err error, r sdk.Request) error {
	if !errors.Is(err, errElsewhere) {
		return err
	}
	v, viewErr := openView()
	if viewErr != nil {
		return viewErr
	}
	defer v.close()
	all, viewErr := v.netdevs()
	if viewErr != nil {
		return viewErr
	}
	if n, there := find(all, r.NIC, r.MAC); there && n.id == r.NIC {
		return sdk.Deny(vswitch.NeedsSoftwarePath, "neither %s nor a VF of it with the port's address is in the owner's namespace, so the kernel cannot give SAs to it", n.name)
	}
	return sdk.NotFound("NIC "+r.NIC, "there is none")
}

// Release takes all SAs of a port back from its NIC; they go on in software.
func (p *Provider) Release(_ context.Context, ref sdk.Ref, generation uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	g, granted := p.grants[ref]
	if !granted || g.Generation > generation {
		return nil
	}
	p.forget(g)
	return p.record.remove(g)
}

// forget ends a grant.
func (p *Provider) forget(g grant) {
	delete(p.grants, g.ref())
	if g.Netns != "" {
		p.ends.forget(g.Netns)
	}
	p.leave(g)
}

// gone is told of the end of a namespace, with which all SAs in it end.
func (p *Provider) gone(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref, g := range p.grants {
		if g.Netns != path || g.standsAtPath() {
			continue
		}
		p.forget(g)
		logIfAny("forget a grant", []error{p.record.remove(g)})
		p.listeners.tell(sdk.Event{Kind: sdk.GrantLost, Time: time.Now(), NIC: g.NIC, Ref: ref, Detail: "the owner's network namespace is gone"})
	}
}

// Grants lists what ports hold, after a restart what they held before.
func (p *Provider) Grants(context.Context) ([]sdk.Grant, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []sdk.Grant
	for _, o := range p.owners {
		all = append(all, o.granted()...)
	}
	slices.SortFunc(all, func(a, b sdk.Grant) int { return strings.Compare(a.Port, b.Port) })
	return all, nil
}

// Counters says how many SAs a port's owner has, how many are on its NIC, and what those did.
func (p *Provider) Counters(_ context.Context, ref sdk.Ref) (map[string]uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g, granted := p.grants[ref]; granted {
		if c, there := p.owners[g.Inode].counters(ref); there {
			return c, nil
		}
	}
	return nil, sdk.NotFound(ref.String(), "it was not granted")
}

// WatchEvents tells when more or less of a port's SAs are on its NIC than before.
func (p *Provider) WatchEvents(ctx context.Context, tell func(sdk.Event) error) error {
	return p.listeners.listen(ctx, tell)
}

// Close stops watching. SAs stay where they are.
func (p *Provider) Close() error {
	p.ends.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.owners {
		o.close()
	}
	clear(p.owners)
	return nil
}

// logIfAny logs what failed, if anything did, where nobody can be told of it otherwise.
func logIfAny(what string, errs []error) {
	if err := errors.Join(errs...); err != nil {
		slog.Error(what, "err", err)
	}
}
