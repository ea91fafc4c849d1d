// Package fleet runs all plugins of a host, and speaks of them in the nouns of
// core/vswitch: it is what the engine, which knows nothing of plugins, has of them.
package fleet

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// Plugin is what a fleet needs of a plugin: *host.Plugin, or sdk.Client.
type Plugin interface {
	sdk.Provider
	sdk.EventSource
}

// Fleet is the plugins of a host. It is to be closed.
type Fleet struct {
	log    *slog.Logger
	config Config // of one that was opened
	life   context.Context
	end    context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member
	hear    map[int]func(plugin string)
	heard   int
}

// member is a plugin with what it told last.
type member struct {
	plugin Plugin
	close  func()
	origin string          // of what it was started; see installation
	life   context.Context // as long as it is listened to
	end    context.CancelFunc
	nics   []sdk.NIC
	knows  bool          // nics is what it told, if nothing else
	failed string        // why it tells nothing at present
	told   chan struct{} // closed when it has told, or failed, once
	once   sync.Once
}

// New returns a fleet without plugins.
func New(log *slog.Logger) *Fleet {
	f := &Fleet{log: log, members: make(map[string]*member), hear: make(map[int]func(string))}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// Add follows a plugin that is there already, under its name.
func (f *Fleet) Add(name string, p Plugin) {
	m := f.member(name)
	m.plugin = p
	f.follow(name, m)
}

// Close ends all plugins that Open started.
func (f *Fleet) Close() {
	f.end()
	f.done.Wait() // nobody starts another one after that
	var closing sync.WaitGroup
	for _, m := range f.members {
		if m.close != nil {
			closing.Go(m.close)
		}
	}
	closing.Wait()
}

func (f *Fleet) member(name string) *member {
	m := &member{told: make(chan struct{})}
	m.life, m.end = context.WithCancel(f.life)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[name] = m
	return m
}

func (f *Fleet) fails(name string, m *member, why string) {
	f.mu.Lock()
	m.failed = why
	f.mu.Unlock()
	f.stir(name, m)
}

// stir is rouse for a member that has told its NICs, or failed.
func (f *Fleet) stir(name string, m *member) {
	m.once.Do(func() { close(m.told) })
	f.rouse(name)
}

// rouse tells all who listen that a plugin may have something else to say.
func (f *Fleet) rouse(name string) {
	f.mu.Lock()
	hear := slices.Collect(maps.Values(f.hear))
	f.mu.Unlock()
	for _, changed := range hear {
		changed(name)
	}
}

// Watch calls changed with each plugin's name, and again whenever it may tell something
// else, until ctx ends. changed must not block.
func (f *Fleet) Watch(ctx context.Context, changed func(plugin string)) {
	f.mu.Lock()
	f.heard++
	me := f.heard
	f.hear[me] = changed
	names := slices.Collect(maps.Keys(f.members))
	f.mu.Unlock()
	for _, name := range names {
		changed(name)
	}
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hear, me)
}

// Look returns all NICs as their plugins told last, by plugin. Those of a plugin that has
// failed since can do nothing until it is back. It waits until each has told or failed once.
func (f *Fleet) Look(ctx context.Context) vswitch.OffloadInventory {
	f.mu.Lock()
	members := maps.Clone(f.members)
	f.mu.Unlock()
	for _, m := range members {
		select {
		case <-m.told:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all vswitch.OffloadInventory
	for _, name := range slices.Sorted(maps.Keys(members)) {
		m := members[name]
		for _, n := range m.nics {
			all.NICs = append(all.NICs, m.nic(name, n))
		}
		if m.failed != "" {
			if all.Failed == nil {
				all.Failed = make(map[string]string)
			}
			all.Failed[name] = m.failed
			all.Untold = all.Untold || !m.knows
		}
	}
	return all
}

// nic is what a NIC can do while its plugin is as it is.
func (m *member) nic(plugin string, n sdk.NIC) vswitch.OffloadNIC {
	nic := vswitch.OffloadNIC{Plugin: plugin, ID: n.ID, Netdev: n.Netdev, Link: n.Link, Capabilities: n.Capabilities}
	if m.failed == "" {
		return nic
	}
	for _, feature := range vswitch.Features() {
		if n.Capabilities.Of(feature) != (vswitch.Capability{}) {
			nic.Capabilities.Set(feature, vswitch.Capability{Missing: vswitch.ProviderFailed})
		}
	}
	return nic
}
