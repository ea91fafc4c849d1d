package follow

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
)

// state is how a connection is.
type state int

const (
	stateDown      state = iota // libvirtd does not answer, or not yet
	stateAbsent                 // there is no such driver
	stateFollowing              // it was looked at
)

// link is the connection to a driver.
type link struct {
	follower *Follower
	uri      string
	wake     chan struct{} // there is something to do
	events   chan struct{} // libvirt tells of something

	use sync.RWMutex // held over calls from elsewhere, so that they end before a connection does

	mu     sync.Mutex
	state  state
	conn   Libvirt
	reason error           // why there is none
	known  map[string]bool // the domains of the driver, and whether they run
	all    bool            // everything is to be looked at
	dirty  map[string]bool // or these domains
	gone   bool            // the other side has closed the connection
	// followed says that the driver was there once, so that it is expected back.
	followed bool

	// Of reconcile alone:
	since    map[string]time.Time  // what is left over, by its name
	held     map[string]definition // those that addresses were held for, by domain
	absent   map[string]time.Time  // since when domains of held addresses are missing
	networks map[string]bool       // active ones that are a switch's, by name

	// teams are those of domains on their way to another host.
	teams teams

	activating sync.WaitGroup // and what QEMU tells
}

// keep connects, follows, and connects again, until ctx ends or there is no libvirt.
func (l *link) keep(ctx context.Context) {
	defer l.activating.Wait()
	tell := func(e Event) { l.tell(ctx, e) }
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		conn, err := l.follower.Dial(l.uri, tell, l.lost)
		l.arrived(conn, err)
		switch {
		case err == nil:
			l.follower.Log.Info("libvirt connected", "uri", l.uri, "version", conn.Version())
			if err := conn.Deaf(); err != nil {
				l.follower.Log.Warn("what QEMU tells is not heard; VFs of VMs that migrate keep their addresses", "uri", l.uri, "err", err)
			}
			l.follow(ctx, conn)
			l.use.Lock()
			conn.Close()
			l.use.Unlock()
			wait = firstRetry
		case errors.Is(err, ErrWithout), errors.Is(err, ErrNoLibrary):
			return
		case errors.Is(err, ErrNoDriver):
			wait = lastRetry
		}
		l.pause(ctx, wait)
	}
}

// arrived notes the outcome of an attempt to connect.
func (l *link) arrived(conn Libvirt, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && (l.reason == nil || l.reason.Error() != err.Error()) {
		l.follower.Log.Info("libvirt is not there", "uri", l.uri, "err", err)
	}
	l.conn, l.reason, l.state = conn, err, stateDown
	l.all, l.dirty = true, map[string]bool{}
	if errors.Is(err, ErrWithout) || errors.Is(err, ErrNoLibrary) || errors.Is(err, ErrNoDriver) || errors.Is(err, ErrNoDaemon) && !l.followed {
		l.state = stateAbsent
	}
}

// pause waits before the next attempt, or until a hook tells that libvirtd is there.
func (l *link) pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.wake:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = false
}

// follow looks at whatever is to be looked at until the connection is lost.
func (l *link) follow(ctx context.Context, conn Libvirt) {
	timer := time.NewTimer(resync)
	defer timer.Stop()
	for ctx.Err() == nil {
		work, lost := l.take()
		if lost {
			l.follower.Log.Warn("libvirt is gone; ports stay as they are", "uri", l.uri)
			return
		}
		next, err := l.reconcile(ctx, conn, work)
		if err != nil {
			l.follower.Log.Warn("libvirt and ports cannot be compared; trying again", "uri", l.uri, "err", err)
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-l.events:
			l.gather(ctx)
		case <-timer.C:
			l.mark("")
		}
	}
}

// gathering is for how long events of libvirt's are gathered: it tells of a start before it is
// done with it, and of most things more than once.
const gathering = 100 * time.Millisecond

// gather lets what belongs together come.
func (l *link) gather(ctx context.Context) {
	timer := time.NewTimer(gathering)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.wake:
	case <-timer.C:
	}
}

// work is what is to be looked at.
type work struct {
	all     bool
	domains []string
}

func (l *link) take() (w work, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.all = l.all
	for id := range l.dirty {
		w.domains = append(w.domains, id)
	}
	l.all, l.dirty = false, map[string]bool{}
	if l.gone {
		l.conn, l.state, l.reason = nil, stateDown, ErrNotFollowed
	}
	return w, l.gone
}

// again puts back what could not be looked at. Nobody is roused: it is tried again in a while.
func (l *link) again(w work) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = l.all || w.all
	for _, id := range w.domains {
		l.dirty[id] = true
	}
}

// tell is told of events. A guest that has come from another host shall be found here at
// once, whatever libvirt is being asked meanwhile.
func (l *link) tell(ctx context.Context, e Event) {
	if e.Unplugs != "" || e.Migration != "" {
		l.told(ctx, e)
		if e.Migration == "cancelled" || e.Migration == "failed" { // it may be written to again
			l.note(e.Domain)
			rouse(l.events)
		}
		return
	}
	if e.Speaks {
		l.mu.Lock()
		l.known[e.Domain] = true
		l.mu.Unlock()
		l.activating.Go(func() {
			if _, err := l.follower.Verbs.ActivateDomain(ctx, e.Domain); err != nil {
				l.follower.Log.Warn("a domain that has come cannot be announced", "domain", e.Domain, "err", err)
			}
		})
	}
	l.note(e.Domain)
	rouse(l.events)
}

// mark has a domain looked at, or all.
func (l *link) mark(domain string) {
	l.note(domain)
	rouse(l.wake)
}

func (l *link) note(domain string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if domain == "" {
		l.all = true
	} else if l.dirty != nil {
		l.dirty[domain] = true
	}
}

func (l *link) lost() {
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	rouse(l.wake)
}

// heard ends a pause.
func (l *link) heard() {
	l.mu.Lock()
	waiting := l.conn == nil && (l.state == stateDown || errors.Is(l.reason, ErrNoDaemon))
	l.mu.Unlock()
	if waiting {
		rouse(l.wake)
	}
}

func rouse(who chan<- struct{}) {
	select {
	case who <- struct{}{}:
	default: // it is awake
	}
}

// define defines a network; it may be called at any time.
func (l *link) define(xml string) (stale bool, err error) {
	l.use.RLock()
	defer l.use.RUnlock()
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return false, ErrNotFollowed
	}
	return conn.Define(xml)
}

func (l *link) status() engine.LibvirtStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := engine.LibvirtStatus{URI: l.uri, Connected: l.conn != nil}
	if l.conn != nil {
		s.Version = l.conn.Version()
		if err := l.conn.Deaf(); err != nil {
			s.Deaf = err.Error()
		}
	}
	if l.reason != nil {
		s.Reason = l.reason.Error()
	}
	return s
}
