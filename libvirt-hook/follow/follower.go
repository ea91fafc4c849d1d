package follow

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// Verbs are those that are used; the contracts stand at the engine's methods.
type Verbs interface {
	Ports(ctx context.Context, sw string) ([]vswitch.Port, error)
	Switches(context.Context) ([]engine.SwitchStatus, error)
	ReleasePort(context.Context, vswitch.Owner) error
	ReleaseUnused(ctx context.Context, seen vswitch.Port, stopped bool) (gone bool, err error)
	ActivateDomain(ctx context.Context, uuid string) ([]vswitch.Port, error)
	ExportDomain(ctx context.Context, uuid string) (engine.DomainState, error)
	HoldMAC(context.Context, engine.HoldMACRequest) (vswitch.MACHold, error)
	MACs(context.Context) ([]engine.MACLease, error)
	LoosenVFs(ctx context.Context, uuid string) error
	TakeVF(context.Context, engine.TakeVFRequest) error
	KeepVFs(ctx context.Context, uuid string, away bool) error
	ReturnVFs(ctx context.Context, uuid string) ([]vswitch.Port, error)
	AnnounceDomain(ctx context.Context, uuid string) error
	ReleaseMAC(context.Context, engine.ReleaseMACRequest) ([]vswitch.MACHold, error)
}

// Config is what a Follower needs.
type Config struct {
	URIs  []string // of libvirt's drivers
	Dial  Dial
	Verbs Verbs
	// Hook carries out a call of the hook, for one that was missed.
	Hook func(context.Context, wire.HookCall) wire.Answer
	Log  *slog.Logger
}

// How long things are waited for. Nothing ticks faster than once a minute while libvirtd
// is there.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// resync is how often all is looked at without an event.
	resync = time.Minute
	// settling is how long something may be left over before it is released: libvirt may be
	// about to tell.
	settling = 30 * time.Second
)

// Follower follows the drivers of a host's libvirtd.
type Follower struct {
	Config
	links []*link
}

// New returns a Follower that does nothing before Run.
func New(c Config) *Follower {
	f := &Follower{Config: c}
	for _, uri := range c.URIs {
		f.links = append(f.links, &link{follower: f, uri: uri, wake: make(chan struct{}, 1), events: make(chan struct{}, 1), known: map[string]bool{}, since: map[string]time.Time{}, held: map[string]definition{}})
	}
	return f
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	for _, l := range f.links {
		group.Go(func() { l.keep(ctx) })
	}
}

// Heard says that libvirtd has called a hook, and so is there: one that was waited for is
// tried at once.
func (f *Follower) Heard() {
	for _, l := range f.links {
		l.heard()
	}
}

// Changed says that ports of a domain were changed, or "" of any, so that running domains
// shall carry that along when they go. Of one that starts libvirt tells once it runs.
func (f *Follower) Changed(domain string) {
	for _, l := range f.links {
		if domain == "" || l.runs(domain) {
			l.mark(domain)
		}
	}
}

// Binds reports whether taps of a domain are the follower's to bind, as the domain is defined: it knows the domain, or cannot
// tell as yet. It looks at one that runs.
func (f *Follower) Binds(domain string) (yes bool) {
	for _, l := range f.links {
		yes = l.binds(domain) || yes
	}
	return yes
}

// Define defines and starts a network, see Libvirt.
func (f *Follower) Define(xml string) (stale bool, err error) {
	err = ErrNotFollowed
	for _, l := range f.links {
		if stale, err = l.define(xml); !errors.Is(err, ErrNotFollowed) {
			break
		}
	}
	return stale, err
}

// Status tells how the connections are.
func (f *Follower) Status() (all []engine.LibvirtStatus) {
	for _, l := range f.links {
		all = append(all, l.status())
	}
	return all
}

// others reports which domains drivers know besides that of a link, and whether all are known: a
// driver that cannot be asked may have any. One that does not exist has none that runs.
func (f *Follower) others(than *link) (known map[string]bool, all bool) {
	known, all = map[string]bool{}, true
	for _, l := range f.links {
		if l == than {
			continue
		}
		l.mu.Lock()
		switch l.state {
		case stateFollowing:
			for id := range l.known {
				known[id] = true
			}
		case stateDown:
			all = false
		}
		l.mu.Unlock()
	}
	return known, all
}

// replay carries out a call that a hook should have made.
func (f *Follower) replay(ctx context.Context, c wire.HookCall) error {
	if a := f.Hook(ctx, c); a.Failed {
		return errors.New(string(a.Out))
	}
	return nil
}
