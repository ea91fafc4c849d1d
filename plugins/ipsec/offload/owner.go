package offload

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/plugins/ipsec/xfrm"
	"github.com/patchbay-net/patchbay/sdk"
)

// owner is a network namespace, of a port's owner or the host's, whose SAs are placed.
type owner struct {
	inode uint64
	conn  *xfrm.Conn
	watch *xfrm.Watch
	view  *view
	tell  func(sdk.Event)
	stop  context.CancelFunc
	loops sync.WaitGroup

	mu      sync.Mutex
	netdevs []netdev
	sas     map[xfrm.Key]*tracked
	marks   bool // some SA has, or had, one
	grants  map[sdk.Ref]grant
	full    map[int]fullness // NICs that refused one more
	told    map[sdk.Ref]standing
	failed  error // nothing is heard of any more
}

// tracked is an SA, and what was found out about it.
type tracked struct {
	sa      xfrm.SA
	unfit   string // for being moved at all, in words
	route   *route // nil where it has to be asked for
	refused map[int]string
}

func track(sa xfrm.SA) *tracked { return &tracked{sa: sa, unfit: sa.Unfit(time.Now())} }

// fullness is how many SAs a NIC had of this namespace when its driver found no place for
// another, and the driver's words. With fewer one more is tried, and with as many none: each try
// makes the SA anew.
type fullness struct {
	held  int
	words string
}

// on is the netdev that works for the SA, 0 for none.
func (t *tracked) on() int { i, _ := t.sa.Offload(); return i }

// openOwner begins to watch a network namespace.
func openOwner(ns *os.File, inode uint64, tell func(sdk.Event)) (*owner, error) {
	o := &owner{
		inode: inode, tell: tell,
		sas: map[xfrm.Key]*tracked{}, grants: map[sdk.Ref]grant{}, full: map[int]fullness{}, told: map[sdk.Ref]standing{},
	}
	err := within(ns, func() (err error) {
		if o.watch, err = xfrm.OpenWatch(); err != nil {
			return err
		}
		if o.conn, err = xfrm.Open(); err != nil {
			return err
		}
		o.view, err = openView()
		return err
	})
	if err == nil {
		err = o.look() // after the watches, so that nothing is missed
	}
	if err != nil {
		o.closeSockets()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	o.loops.Go(func() { o.end(ctx, o.watch.Run(ctx, o.heard)) })
	o.loops.Go(func() { o.end(ctx, o.view.follow(ctx, o.moved)) })
	return o, nil
}

func (o *owner) closeSockets() {
	if o.watch != nil {
		_ = o.watch.Close() // nothing was written
	}
	if o.conn != nil {
		_ = o.conn.Close()
	}
	if o.view != nil {
		o.view.close()
	}
}

// close stops watching; SAs stay as they are.
func (o *owner) close() {
	o.stop()
	_ = o.watch.Close()
	_ = o.view.news.Close()
	o.loops.Wait()
	o.closeSockets()
}

// end notes why a loop ended.
func (o *owner) end(ctx context.Context, err error) {
	if ctx.Err() != nil || err == nil {
		return
	}
	slog.Error("no SAs are placed any more", "netns", o.inode, "err", err)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = err
	o.report()
}

// look finds out what there is.
func (o *owner) look() error {
	all, err := o.view.netdevs()
	if err != nil {
		return err
	}
	listed, err := o.conn.List()
	if err != nil {
		return err
	}
	known := o.sas
	o.netdevs, o.sas = all, make(map[xfrm.Key]*tracked, len(listed))
	for _, sa := range listed {
		t := track(sa)
		if was, ok := known[sa.Key()]; ok {
			t.route, t.refused = was.route, was.refused
		}
		o.note(t)
	}
	return nil
}

// note remembers an SA. Two with one key there can be, with marks that overlap: neither is
// moved, since the kernel might remove the other.
func (o *owner) note(t *tracked) {
	k := t.sa.Key()
	o.marks = o.marks || k.Mark != (xfrm.Mark{})
	for other := range o.sas {
		if !o.marks {
			break // then a number is there once
		}
		if other != k && other.Dst == k.Dst && other.SPI == k.SPI && other.Proto == k.Proto {
			t.unfit = "there are two of that number, told apart by marks"
			o.sas[other].unfit = t.unfit
		}
	}
	o.sas[k] = t
}

// heard is told of changes of SAs.
func (o *owner) heard(events []xfrm.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range events {
		switch {
		case e.By == o.conn.Port(): // our own doing, which is noted already
		case e.Kind == xfrm.Many:
			clear(o.full)
			if err := o.look(); err != nil {
				slog.Error("look at SAs", "netns", o.inode, "err", err)
			}
		default:
			o.refresh(e.SA)
		}
	}
	o.settle()
}

// refresh looks at an SA of which something was told: that may be older than what was done
// to the SA since.
func (o *owner) refresh(told xfrm.SA) {
	k := told.Key()
	sa, err := o.conn.Get(k)
	switch {
	case errors.Is(err, xfrm.ErrGone):
		delete(o.sas, k)
		return
	case err != nil || sa.Key() != k: // another one, with a mark that overlaps
		sa = told
	}
	t := track(sa)
	if was, known := o.sas[k]; known && was.sa.Made().Equal(sa.Made()) {
		t.refused = was.refused
	}
	o.note(t)
}

// moved is told of changes of netdevs and routes.
func (o *owner) moved(n news) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n.netdevs {
		before := o.sas
		clear(o.full)
		if err := o.look(); err != nil {
			slog.Error("look at netdevs", "netns", o.inode, "err", err)
		}
		for k, t := range before {
			if o.sas[k] == nil && t.on() != 0 { // the kernel tells nobody
				slog.Warn("an SA ended with the NIC that held it", "sa", k.String(), "netns", o.inode)
			}
		}
	}
	o.forgetRoutes()
	o.settle()
}

func (o *owner) forgetRoutes() {
	for _, t := range o.sas {
		t.route = nil
	}
}

// routeOf is by which netdev an SA's packets leave or come.
func (o *owner) routeOf(t *tracked) route {
	if t.route == nil {
		r := o.view.route(t.sa)
		t.route = &r
	}
	return *t.route
}

// nics are the netdevs of grants here, with how many SAs each may hold.
func (o *owner) nics() map[int]int {
	most := map[int]int{}
	for _, g := range o.grants {
		if n, ok := find(o.netdevs, g.NIC, g.MAC); ok {
			most[n.index] += g.MaxSAs
		}
	}
	return most
}

// held is how many SAs a netdev works for.
func (o *owner) held(index int) (n int) {
	for _, t := range o.sas {
		if t.on() == index {
			n++
		}
	}
	return n
}

// settle places SAs that wait where there is room, the oldest first. It takes none away: who
// has less room than before keeps what it has.
func (o *owner) settle() {
	most := o.nics()
	for _, index := range slices.Sorted(maps.Keys(most)) {
		if o.room(index, most[index]) <= 0 {
			continue
		}
		for _, t := range o.waiting() {
			if t.refused[index] == "" && o.routeOf(t).index == index {
				o.place(t, index)
				if o.room(index, most[index]) <= 0 {
					break
				}
			}
		}
	}
	o.report()
}

// room is how many more SAs a netdev may be given that may have so many.
func (o *owner) room(index, most int) int {
	if f, full := o.full[index]; full {
		most = min(most, f.held)
	}
	return most - o.held(index)
}

// waiting are the SAs that could be placed, in the order in which they are.
func (o *owner) waiting() []*tracked {
	var all []*tracked
	for _, t := range o.sas {
		if t.on() == 0 && t.unfit == "" {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *tracked) int {
		if c := a.sa.Made().Compare(b.sa.Made()); c != 0 {
			return c
		}
		return strings.Compare(a.sa.Key().String(), b.sa.Key().String())
	})
	return all
}

// place has a netdev work for an SA, or, with 0, none.
func (o *owner) place(t *tracked, index int) {
	k := t.sa.Key()
	sa, err := o.conn.Move(k, index, o.routeOf(t).direction)
	switch {
	case err == nil:
		t.sa = sa
	case errors.Is(err, xfrm.ErrGone):
		delete(o.sas, k)
	case errors.Is(err, xfrm.ErrStays):
		t.sa = sa
		o.refuse(t, index, err)
	default:
		slog.Error("move an SA", "sa", k.String(), "to", o.view.name(index), "err", err)
		if lookErr := o.look(); lookErr != nil {
			slog.Error("look at SAs", "netns", o.inode, "err", lookErr)
		}
	}
}

// refuse notes why a netdev does not work for an SA.
func (o *owner) refuse(t *tracked, index int, err error) {
	words := err.Error()
	var r *xfrm.Refusal
	if errors.As(err, &r) {
		words = r.Words
	}
	if errors.Is(err, unix.ENOSPC) {
		o.full[index] = fullness{o.held(index), words}
		return
	}
	if t.refused == nil {
		t.refused = map[int]string{}
	}
	t.refused[index] = words
}

// vacate takes from a netdev what is more than it may hold, the newest first. What is routed
// to another one that is named goes there, if there is room.
func (o *owner) vacate(index, to int) {
	most := o.nics()
	var over []*tracked
	for _, t := range o.sas {
		if i, packets := t.sa.Offload(); i == index && !packets {
			over = append(over, t)
		}
	}
	slices.SortFunc(over, func(a, b *tracked) int { return a.sa.Made().Compare(b.sa.Made()) })
	for _, t := range over[min(len(over), most[index]):] {
		next := 0
		if to != 0 && o.room(to, most[to]) > 0 && o.routeOf(t).index == to {
			next = to
		}
		o.place(t, next)
	}
}

// put gives a port its grant, or changes it.
func (o *owner) put(g grant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, had := o.grants[g.ref()]
	o.grants[g.ref()] = g
	o.forgetRoutes()
	clear(o.full) // others may have left the NIC since
	old, there := find(o.netdevs, was.NIC, was.MAC)
	if now, _ := find(o.netdevs, g.NIC, g.MAC); had && there && old.index != now.index {
		o.vacate(old.index, now.index)
	}
	o.settle()
}

// remove takes a port's grant away, and reports whether it was the last one here.
func (o *owner) remove(ref sdk.Ref) (last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g, had := o.grants[ref]
	delete(o.grants, ref)
	delete(o.told, ref)
	if n, there := find(o.netdevs, g.NIC, g.MAC); had && there {
		o.vacate(n.index, 0)
	}
	o.settle()
	return len(o.grants) == 0
}
