package kernel

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fakeNotice is what can be told of a netdev; what differs is told.
type fakeNotice struct {
	link, speed, queue, fdb, addresses, routes string
	team                                       string // that it is a member of
	ours, stranger                             bool
}

// fakeScene is all that can be told of the host's namespace.
type fakeScene struct {
	netdevs map[string]fakeNotice
	rules   string
	spreads map[string]string // by team
	mirrors map[string]string // by bridge
}

// Watch is Kernel's. Events come in the call that causes them.
func (f *Fake) Watch(ctx context.Context, ready func(), tell func(Event)) error {
	f.mu.Lock()
	if f.watchers == nil {
		f.watchers = make(map[int]func(Event))
	}
	f.watches++
	id := f.watches
	f.watchers[id] = tell
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, id)
	}()
	ready()
	<-ctx.Done()
	return nil
}

// Overrun tells watchers that events were lost, as a full socket does.
func (f *Fake) Overrun() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tellAll(Event{Change: Lost})
}

// NetnsID is Kernel's: another one for each namespace, also on the same path.
func (f *Fake) NetnsID(path string) (NetnsID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ns, err := f.namespace(path)
	if err != nil || path == "" {
		return 0, noNetns(path, err)
	}
	return ns.id, nil
}

func (f *Fake) tellAll(e Event) {
	for _, id := range slices.Sorted(maps.Keys(f.watchers)) {
		f.watchers[id](e)
	}
}

// scene is taken before a change and compared with the one after it. Nobody pays
// for it while nobody watches.
func (f *Fake) scene() fakeScene {
	if len(f.watchers) == 0 {
		return fakeScene{}
	}
	s := fakeScene{netdevs: make(map[string]fakeNotice, len(f.host.links))}
	for name, l := range f.host.links {
		s.netdevs[name] = l.notice()
	}
	var b strings.Builder
	f.drawRules(&b)
	s.rules = b.String()
	s.spreads = make(map[string]string)
	for team, spread := range f.spreads {
		s.spreads[team] = fmt.Sprint(*spread)
	}
	s.mirrors = make(map[string]string)
	for _, table := range slices.Sorted(maps.Keys(f.mirrors)) {
		s.mirrors[f.mirrors[table].bridge] += fmt.Sprintf("%p ", f.mirrors[table])
	}
	return s
}

func (l *fakeLink) notice() fakeNotice {
	n := fakeNotice{
		link:  fmt.Sprintf("%p %v %v %v %v %v %v", l, l.words(), l.learning, l.flood, l.locked, l.options, l.vlans),
		speed: fmt.Sprint(l.Speed),
		ours:  strings.HasPrefix(l.Alias, vswitch.AliasPrefix) || l.group&vswitch.GroupMask == vswitch.GroupMark,
	}
	n.stranger = !n.ours && !l.isMember() && l.master != nil && strings.HasPrefix(l.master.Alias, vswitch.AliasPrefix)
	n.queue = fmt.Sprintf("%v %p %v", l.queue, l.steer, l.shares)
	if l.isMember() {
		n.link += fmt.Sprint(l.hasCarrier(), l.master.bond.active == l)
		n.team = l.master.Name
	}
	if l.master != nil {
		var macs []string
		for e, port := range l.master.fdb {
			if port == l {
				macs = append(macs, fmt.Sprint(e))
			}
		}
		slices.Sort(macs)
		n.fdb = strings.Join(macs, " ")
	}
	n.addresses = fmt.Sprint(l.addresses)
	for _, i := range l.all() {
		switch i.Kind {
		case plan.ItemAddress:
			n.addresses += i.Key
		case plan.ItemRoute:
			n.routes += i.Key
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(l.ns.routes), compareRoutes) {
		if r := l.ns.routes[id]; r.link == l {
			n.routes += r.words()
		}
	}
	return n
}

// tellSince ends every change: bonds look at their links, and it tells what has changed since a scene was taken.
func (f *Fake) tellSince(before fakeScene) {
	f.elect()
	if before.netdevs == nil || len(f.watchers) == 0 {
		return
	}
	after := f.scene()
	for _, name := range slices.Sorted(maps.Keys(before.netdevs)) {
		if _, there := after.netdevs[name]; !there {
			f.tellAll(Event{Change: NetdevGone, Netdev: name, Ours: before.netdevs[name].ours, Team: before.netdevs[name].team})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after.netdevs)) {
		was, now := before.netdevs[name], after.netdevs[name]
		ours := was.ours || now.ours
		for _, part := range []struct {
			change   Change
			was, now string
		}{{SpeedChanged, was.speed, now.speed}, {QueueChanged, was.queue, now.queue}, {ForwardingChanged, was.fdb, now.fdb}, {AddressChanged, was.addresses, now.addresses}, {RouteChanged, was.routes, now.routes}} {
			if part.was != part.now {
				f.tellAll(Event{Change: part.change, Netdev: name, Ours: ours})
			}
		}
		if was.link != now.link {
			f.tellAll(Event{Change: NetdevChanged, Netdev: name, Ours: ours, Stranger: now.stranger, Print: fakePrint(now.link), Team: cmp.Or(now.team, was.team)})
		}
	}
	if before.rules != after.rules {
		f.tellAll(Event{Change: RulesChanged})
	}
	for _, bridge := range slices.Sorted(maps.Keys(merged(before.mirrors, after.mirrors))) {
		if before.mirrors[bridge] != after.mirrors[bridge] {
			f.tellAll(Event{Change: MirrorChanged, Netdev: bridge, Ours: true})
		}
	}
	for team, was := range before.spreads {
		if now, there := after.spreads[team]; !there || now != was {
			f.tellAll(Event{Change: SpreadChanged, Netdev: team, Ours: true})
		}
	}
}

func fakePrint(words string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(words)) // never fails
	return h.Sum64() | 1
}

// merged has the keys of both.
func merged[V any](a, b map[string]V) map[string]V {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}
