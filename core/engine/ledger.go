package engine

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ledger is what a resident engine has repaired, what it could not repair, and when
// it tries again.
type ledger struct {
	mu       sync.Mutex
	now      func() time.Time
	since    time.Time
	repairs  []Repair // the newest last
	trouble  map[string]*trouble
	contests map[string]contest
	// failovers are each team's last one.
	failovers map[string]Failover
	herald    *herald
	lookout   *lookout
}

// trouble is an object that is not as it should be and could not be repaired.
type trouble struct {
	Unrepaired
	tries int
	last  time.Time
}

// contest counts repairs of the same drift of one object that follow close upon
// each other: somebody else wants it otherwise.
type contest struct {
	what    string
	repairs int
	last    time.Time
}

const (
	keptRepairs = 64
	firstRetry  = time.Second
	lastRetry   = 5 * time.Minute
	// An object that had to be repaired of the same more often than contested times,
	// each within contestGap of the one before, is repaired ever more rarely.
	contested  = 5
	contestGap = 5 * time.Second
	// maxContests bounds what is remembered; it is forgotten from time to time.
	maxContests = 1024
)

func newLedger(now func() time.Time) *ledger {
	return &ledger{now: now, since: now(), trouble: make(map[string]*trouble), contests: make(map[string]contest), failovers: make(map[string]Failover)}
}

// status is what is told of a resident engine; nil for one that is not.
func (l *ledger) status() *DaemonStatus {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &DaemonStatus{PID: os.Getpid(), Since: l.since, Repairs: slices.Clone(l.repairs)}
	slices.Reverse(s.Repairs)
	for _, object := range slices.Sorted(maps.Keys(l.trouble)) {
		s.Unrepaired = append(s.Unrepaired, l.trouble[object].Unrepaired)
	}
	return s
}

// mayTry reports whether an object may be repaired now. One that fails, or that
// somebody else changes again and again (new), has to wait.
func (l *ledger) mayTry(object string, what []string) (may, contest bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if t := l.trouble[object]; t != nil {
		if now.Before(t.last.Add(firstRetry)) {
			t.Next = minTime(t.Next, t.last.Add(firstRetry))
			return false, false
		}
		return true, false
	}
	c := l.contests[object]
	if c.repairs <= contested || c.what != strings.Join(what, ";") || !now.Before(c.last.Add(backoff(c.repairs-contested))) {
		return true, false
	}
	l.trouble[object] = &trouble{
		Unrepaired: Unrepaired{
			Object: object, Since: now, Next: c.last.Add(backoff(c.repairs - contested)),
			Reason: "somebody changes it again and again", Hint: "find out who: another network manager may take it for its own",
		},
		tries: c.repairs - contested, last: now,
	}
	return false, true
}

// repaired notes that an object is as it should be again.
func (l *ledger) repaired(object string, what []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	delete(l.trouble, object)
	c := l.contests[object]
	said := strings.Join(what, ";")
	if c.what != said || now.Sub(c.last) > max(contestGap, 2*backoff(c.repairs-contested)) {
		c.repairs = 0
	}
	if len(l.contests) >= maxContests {
		clear(l.contests)
	}
	l.contests[object] = contest{what: said, repairs: c.repairs + 1, last: now}
	l.repairs = append(l.repairs, Repair{Time: now, Object: object, What: what})
	if len(l.repairs) > keptRepairs {
		l.repairs = slices.Delete(l.repairs, 0, len(l.repairs)-keptRepairs)
	}
}

// fine notes that nothing had to be done about an object.
func (l *ledger) fine(object string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.trouble, object)
}

// failed notes that an object could not be repaired, and when it is tried again. It
// reports whether that is news.
func (l *ledger) failed(object string, err error) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	t := l.trouble[object]
	if t == nil {
		t = &trouble{Unrepaired: Unrepaired{Object: object, Since: now}}
		l.trouble[object] = t
	}
	reason := problem(err).Message
	news = t.Reason != reason
	t.tries++
	t.last = now
	t.Reason, t.Hint, t.Next = reason, vswitch.HintOf(err), now.Add(backoff(t.tries))
	return news
}

// due returns the objects whose time has come.
func (l *ledger) due() (objects []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for object, t := range l.trouble {
		if !t.Next.After(now) {
			objects = append(objects, object)
		}
	}
	slices.Sort(objects)
	return objects
}

// next is when the next object's time comes.
func (l *ledger) next() (at time.Time, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.trouble {
		if !any || t.Next.Before(at) {
			at, any = t.Next, true
		}
	}
	return at, any
}

// backoff is the wait after the n-th failure: 1 s, 2 s, 4 s, ... up to 5 minutes.
func backoff(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	return min(firstRetry<<min(n-1, 16), lastRetry)
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// forgetPort drops what is known of a port that is no more.
func (l *ledger) forgetPort(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.trouble, func(object string, _ *trouble) bool { return strings.HasPrefix(object, "port "+id+" ") })
}

func (l *ledger) failedOver(team string, f Failover) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failovers[team] = f
}

// failover is a team's last one, or nil; always nil of an engine that is not resident.
func (l *ledger) failover(team string) *Failover {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, any := l.failovers[team]; any {
		return &f
	}
	return nil
}

// watch tells the lookout, if there is one.
func (l *ledger) watch(p vswitch.Port) {
	if l != nil {
		l.lookout.watch(p)
	}
}

// guestArrived tells the herald, if there is one.
func (l *ledger) guestArrived(switchName string, announced []plan.AnnounceMACs) {
	if l != nil {
		l.herald.guestArrived(switchName, announced)
	}
}

// uplinkMoved tells the herald, if there is one.
func (l *ledger) uplinkMoved(switchName string) {
	if l != nil {
		l.herald.uplinkMoved(switchName)
	}
}
