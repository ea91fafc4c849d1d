package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Fake is a Kernel in memory. It keeps what steps make, refuses what Linux
// refuses with the same kinds and errnos, loses what Linux loses (a namespace
// takes its veth pairs along, an interface that goes down its routes), and
// prints itself. It can fail or die at the n-th step.
type Fake struct {
	mu      sync.Mutex
	host    *fakeNetns
	netns   map[string]*fakeNetns // by path
	caps    Capabilities
	rules   plan.Rules
	onward  plan.Families // IP forwarding
	around  Host          // what Host finds
	lacp    vswitch.MAC   // the partner of every group
	heard   map[heard]string
	fault   fakeFault
	log     []string
	spreads map[string]*fakeSpread  // by team
	vfs     map[string]VF           // by PCI address
	mirrors map[string]*fakeMirror  // by table
	voices  map[voice]chan struct{} // those that are listened for

	born     NetnsID // namespaces made so far
	watches  int     // calls of Watch so far
	watchers map[int]func(Event)
}

var _ Kernel = (*Fake)(nil)

// FakeConfig is the host as it is before Patchbay touches it.
type FakeConfig struct {
	Netdevs      []Netdev // NICs and other netdevs of the host
	Capabilities Capabilities
	Netns        []string // paths of network namespaces
}

// NewFake returns a host with the netdevs and namespaces of cfg and nothing else.
func NewFake(cfg FakeConfig) *Fake {
	f := &Fake{host: newFakeNetns(""), netns: make(map[string]*fakeNetns), caps: cfg.Capabilities, vfs: make(map[string]VF), voices: make(map[voice]chan struct{})}
	f.lacp = vswitch.DerivedMAC("physical switch")
	for _, n := range cfg.Netdevs {
		f.AddNetdev(n)
	}
	for _, path := range cfg.Netns {
		f.AddNetns(path)
	}
	return f
}

// AddNetdev gives the host a netdev that is not Patchbay's: a NIC, a tap, the second end of a
// pair whose first one is there. One of the same name gives way.
func (f *Fake) AddNetdev(n Netdev) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if old := f.host.links[n.Name]; old != nil {
		old.remove()
	}
	link := f.host.add(n)
	for _, a := range n.Addresses {
		link.items = append(link.items, AddressItem(a))
	}
	for _, other := range f.host.links {
		if n.Peer != 0 && other.Index == n.Peer && other.Peer == n.Index {
			link.peer, other.peer = other, link
		}
	}
	if master := f.host.links[n.Master]; n.Master != "" && master != nil {
		link.enslave(master)
	}
}

// RemoveNetdev takes a netdev away as if it were unplugged or its process ended.
func (f *Fake) RemoveNetdev(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if link := f.host.links[name]; link != nil {
		link.remove()
	}
}

// RemoveNetdevIn is RemoveNetdev in a container's namespace.
func (f *Fake) RemoveNetdevIn(netns, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if ns := f.netns[netns]; ns != nil && ns.links[name] != nil {
		ns.links[name].remove()
	}
}

// AddNetns makes a network namespace; one that is there stays as it is.
func (f *Fake) AddNetns(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.netns[path] == nil {
		f.born++
		f.netns[path] = newFakeNetns(path)
		f.netns[path].id = f.born
	}
}

// RemoveNetns ends a namespace: the endpoints in it vanish, and with them the
// other ends of their pairs. What is hardware goes home, with its alias.
func (f *Fake) RemoveNetns(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	ns := f.netns[path]
	if ns == nil {
		return
	}
	for _, link := range slices.Collect(maps.Values(ns.links)) {
		if link.Kind == "" && f.host.links[link.Name] == nil {
			link.moveTo(f.host, link.Name)
			continue
		}
		link.remove()
	}
	delete(f.netns, path)
}

// UnmountNetns takes away a namespace's path while a process keeps the namespace
// alive: what is in it goes on, and nobody can look inside any more.
func (f *Fake) UnmountNetns(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.netns, path)
}

// RenameNetdev renames a netdev in a namespace ("" is the host's), as its owner
// can. A name that is taken or a netdev that is not there changes nothing.
func (f *Fake) RenameNetdev(netns, from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	ns, err := f.namespace(netns)
	if err != nil || ns.links[from] == nil || ns.links[to] != nil {
		return
	}
	link := ns.links[from]
	delete(ns.links, from)
	link.Name = to
	ns.links[to] = link
}

// SetNetdevDown takes a netdev of a namespace ("" is the host's) down, as its
// owner can: it loses its routes and its IPv6 addresses.
func (f *Fake) SetNetdevDown(netns, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if ns, err := f.namespace(netns); err == nil && ns.links[name] != nil {
		ns.links[name].down()
	}
}

// SetCapabilities changes what the kernel can do, as loading a module does.
func (f *Fake) SetCapabilities(caps Capabilities) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.caps = caps
}

// Observe is Kernel's.
func (f *Fake) Observe(ctx context.Context, scope plan.State) (plan.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return plan.State{}, err
	}
	return f.observe(scope), nil
}

// Apply is Kernel's. Steps of several callers interleave, as on a real kernel.
func (f *Fake) Apply(ctx context.Context, steps []plan.Step) error {
	for i, step := range steps {
		if err := f.apply(ctx, step); err != nil {
			return &StepError{Index: i, Step: step, Err: err}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers(ctx)
}

func (f *Fake) apply(ctx context.Context, step plan.Step) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	if err := f.answers(ctx); err != nil {
		return err
	}
	if s, is := step.(plan.AnnounceMACs); is { // which never fails
		f.announceMACs(s)
		return nil
	}
	if err := f.fault.strike(); err != nil {
		return err
	}
	if err := f.carryOut(step); err != nil {
		return err
	}
	f.log = append(f.log, step.String())
	return nil
}

// Netdevs is Kernel's; the list is sorted by name.
func (f *Fake) Netdevs(ctx context.Context) ([]Netdev, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return nil, err
	}
	var all []Netdev
	for _, link := range f.host.links {
		all = append(all, link.netdev())
	}
	slices.SortFunc(all, func(a, b Netdev) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// FreeNetdevs is Kernel's.
func (f *Fake) FreeNetdevs(ctx context.Context) ([]Netdev, error) {
	all, err := f.Netdevs(ctx)
	return slices.DeleteFunc(all, func(n Netdev) bool { return n.Master != "" }), err
}

// Netdev is Kernel's.
func (f *Fake) Netdev(ctx context.Context, name string) (Netdev, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(ctx); err != nil {
		return Netdev{}, err
	}
	link, err := f.host.link(name)
	if err != nil {
		return Netdev{}, err
	}
	return link.netdev(), nil
}

// Capabilities is Kernel's: what FakeConfig said.
func (f *Fake) Capabilities(ctx context.Context) (Capabilities, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.caps, f.answers(ctx)
}

// CheckNetns is Kernel's.
func (f *Fake) CheckNetns(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.answers(context.Background()); err != nil {
		return err
	}
	if path == "" {
		return refused(vswitch.NetnsNotFound, syscall.ENOENT, "the path is empty")
	}
	_, err := f.namespace(path)
	return err
}

// namespace finds a namespace by its path; "" is the host's.
func (f *Fake) namespace(path string) (*fakeNetns, error) {
	if path == "" {
		return f.host, nil
	}
	if ns := f.netns[path]; ns != nil {
		return ns, nil
	}
	return nil, refused(vswitch.NetnsNotFound, syscall.ENOENT, "network namespace %s", path)
}

// answers fails while the Fake is dead or ctx is over.
func (f *Fake) answers(ctx context.Context) error {
	if f.fault.dead {
		return ErrDied
	}
	return context.Cause(ctx)
}

// refused is a refusal whose kind is known.
func refused(kind vswitch.Kind, errno syscall.Errno, format string, args ...any) error {
	return &vswitch.Error{Kind: kind, Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errno)}
}

// ErrDied is what every call of a Fake returns between DieAt's step and Revive.
var ErrDied = errors.New("the process was killed here")
