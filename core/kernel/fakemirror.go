package kernel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// fakeMirror is the table of a port whose frames are copied. Like Linux it goes by netdevs
// and not by their names: another one of the same name is not meant.
type fakeMirror struct {
	bridge, netdev string
	source         *fakeLink
	destinations   []*fakeLink
}

func (f *Fake) carryOutAtMirror(step plan.Step) error {
	switch s := step.(type) {
	case plan.MakeMirror:
		return f.makeMirror(s)
	case plan.DeleteMirror:
		delete(f.mirrors, plan.MirrorTable(s.Bridge, s.Netdev))
		return nil
	}
	return f.carryOutAtEndpoint(step)
}

func (f *Fake) makeMirror(s plan.MakeMirror) error {
	if !f.caps.Mirroring {
		return refused(vswitch.CapabilityMissing, syscall.EOPNOTSUPP, "this kernel lacks CONFIG_NET_ACT_MIRRED")
	}
	source := f.host.links[s.Netdev]
	if source == nil {
		return nil
	}
	if f.mirrors == nil {
		f.mirrors = make(map[string]*fakeMirror)
	}
	f.mirrors[plan.MirrorTable(s.Bridge, s.Netdev)] = &fakeMirror{bridge: s.Bridge, netdev: s.Netdev, source: source, destinations: f.present(s.Destinations)}
	return nil
}

// present are those of the host's netdevs that are there.
func (f *Fake) present(names []string) (links []*fakeLink) {
	for _, name := range names {
		if link := f.host.links[name]; link != nil {
			links = append(links, link)
		}
	}
	return links
}

// is reports that a netdev is still there under its name.
func (f *Fake) is(l *fakeLink) bool { return f.host.links[l.Name] == l }

func (f *Fake) observeMirrors(scope plan.State, seen *plan.State) {
	for bridge, wanted := range scope.Mirrors {
		found := make(plan.Mirrors)
		for _, m := range f.mirrors {
			if m.bridge != bridge {
				continue
			}
			want, is := wanted[m.netdev]
			live := slices.DeleteFunc(slices.Clone(m.destinations), func(l *fakeLink) bool { return !f.is(l) })
			if is && f.is(m.source) && slices.Equal(live, f.present(want.Destinations)) {
				found[m.netdev] = plan.Mirror{Destinations: want.Destinations}
			} else {
				found[m.netdev] = plan.Mirror{Altered: true}
			}
		}
		for netdev := range wanted {
			if _, there := found[netdev]; f.host.links[netdev] == nil {
				found[netdev] = plan.Mirror{Absent: true, Altered: there}
			}
		}
		if len(found) > 0 {
			put(&seen.Mirrors, bridge, found)
		}
	}
}

// FlushMirrors is what a stranger's flush of the whole ruleset does to the tables of copies.
func (f *Fake) FlushMirrors() {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.tellSince(f.scene())
	clear(f.mirrors)
}

func (f *Fake) drawMirrors(b *strings.Builder) {
	for _, table := range slices.Sorted(maps.Keys(f.mirrors)) {
		fmt.Fprintf(b, "nft table %s\n", table)
		for _, d := range f.mirrors[table].destinations {
			line(b, f.is(d), "copy to %s", d.Name) // one that is gone stays, and gets nothing
		}
	}
}
