package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// sharing reads how a netdev is shared, and how fast it is if that matters.
func (o *observer) sharing(netdev string, scope plan.Sharing, seen *plan.State) error {
	l, err := o.host.link(netdev)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var s plan.Sharing
	if len(scope.Ports) > 0 {
		s.Link = uint64(linkSpeed(netdev)) * 1e6
	}
	if s.Tree, s.Queue, err = o.host.shareTree(l.index); err != nil {
		return ignoreAbsent(err)
	}
	if seen.Shares == nil {
		seen.Shares = make(map[string]plan.Sharing)
	}
	seen.Shares[netdev] = s
	return nil
}

// shareTree reads the classes of ours that a netdev has, nil if it has none, and what root
// queue of somebody else's. A tree in which anything is otherwise than we make it has no rate.
func (c *rtnl) shareTree(dev int) (t *plan.Tree, queue string, err error) {
	var root shareRoot
	if err := c.rootQueue(dev, func(b []byte) { root = parseShareRoot(b) }); err != nil {
		return nil, "", err
	}
	if root.handle != shareHandle {
		return nil, root.given(), nil
	}
	t = &plan.Tree{Classes: make(map[vswitch.MAC]plan.Class)}
	if root.kind != "htb" || root.others != plan.DefaultClass {
		return t, "", nil
	}
	return t, "", c.readShares(dev, t)
}

// readShares reads the classes below a root queue of ours.
func (c *rtnl) readShares(dev int, t *plan.Tree) error {
	classes, err := c.shareClasses(dev)
	if err != nil {
		return err
	}
	filters, whole, err := c.shareFilters(dev)
	if err != nil {
		return err
	}
	root := classes[plan.RootClass]
	t.Default = classes[plan.DefaultClass]
	delete(classes, plan.RootClass)
	delete(classes, plan.DefaultClass)
	for mac, id := range filters {
		class, there := classes[id]
		whole = whole && there
		t.Classes[mac] = class
		delete(classes, id)
	}
	if whole && len(classes) == 0 && root.Rate == root.Ceil && t.Default.ID != 0 {
		t.Rate = root.Rate
	}
	return nil
}

// shareRoot is a root queue.
type shareRoot struct {
	handle uint32
	kind   string
	others uint32 // the class of the default flow
}

// given names one that somebody has given the netdev: the kernel's own have no number.
func (r shareRoot) given() string {
	if r.handle == 0 {
		return ""
	}
	return fmt.Sprintf("%s %x:", r.kind, r.handle>>16)
}

func parseShareRoot(b []byte) (r shareRoot) {
	const header = 20 // struct tcmsg
	if len(b) < header {
		return r
	}
	r.handle = binary.NativeEndian.Uint32(b[8:])
	for attr, v := range attributes(b[header:]) {
		switch attr {
		case nl.TCA_KIND:
			r.kind = text(v)
		case nl.TCA_OPTIONS:
			for attr, v := range attributes(v) {
				if attr == nl.TCA_HTB_INIT && len(v) >= nl.SizeofTcHtbGlob {
					r.others = nl.DeserializeTcHtbGlob(v).Defcls
				}
			}
		}
	}
	return r
}

// shareClasses lists a netdev's classes by their numbers.
func (c *rtnl) shareClasses(dev int) (classes map[uint16]plan.Class, err error) {
	r := queueing(unix.RTM_GETTCLASS, unix.NLM_F_DUMP, dev, shareHandle, 0)
	err = c.dump(r, func() { classes = make(map[uint16]plan.Class) }, func(b []byte) {
		if class := parseShareClass(b); class.ID != 0 {
			classes[class.ID] = class
		}
	})
	return classes, err
}

func parseShareClass(b []byte) (c plan.Class) {
	const header = 20
	if len(b) < header || binary.NativeEndian.Uint32(b[8:])&0xffff_0000 != shareHandle {
		return c
	}
	c.ID = uint16(binary.NativeEndian.Uint32(b[8:]))
	var burst uint32
	for kind, v := range attributes(b[header:]) {
		if kind != nl.TCA_OPTIONS {
			continue
		}
		for kind, v := range attributes(v) {
			switch {
			case kind == nl.TCA_HTB_PARMS && len(v) >= nl.SizeofTcHtbCopt:
				q := nl.DeserializeTcHtbCopt(v)
				c.Rate, c.Ceil = max(c.Rate, uint64(q.Rate.Rate)), max(c.Ceil, uint64(q.Ceil.Rate))
				c.Quantum, burst = uint64(q.Quantum), q.Buffer
			case kind == nl.TCA_HTB_RATE64 && len(v) >= 8:
				c.Rate = binary.NativeEndian.Uint64(v)
			case kind == nl.TCA_HTB_CEIL64 && len(v) >= 8:
				c.Ceil = binary.NativeEndian.Uint64(v)
			}
		}
	}
	if !closeTo(uint64(burst), uint64(shareBurst(c.Rate))) {
		c.Ceil = 0 // of none of ours
	}
	return c
}

// shareFilters lists which class frames from an address go by. whole is false if there is
// another filter among ours, or nothing leads to them.
func (c *rtnl) shareFilters(dev int) (classes map[vswitch.MAC]uint16, whole bool, err error) {
	var linked, strange bool
	reset := func() { classes, linked, strange = make(map[vswitch.MAC]uint16), false, false }
	r := shareFilterAt(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, dev, 0)
	err = c.dump(r, reset, func(b []byte) {
		f, is := parseShareFilter(b)
		switch {
		case !is:
		case f.links:
			linked = true
		case f.class == 0:
			strange = true
		default:
			classes[f.mac] = f.class
		}
	})
	return classes, linked && !strange, noQueue(err)
}

// shareFilterSeen is a filter: what leads to the table, or an address's; a class of 0 is
// neither.
type shareFilterSeen struct {
	links bool
	mac   vswitch.MAC
	class uint16
}

// parseShareFilter leaves out tables, which filters are in.
func parseShareFilter(b []byte) (f shareFilterSeen, is bool) {
	const header, node = 20, 0xfff
	if len(b) < header || binary.NativeEndian.Uint32(b[8:])&node == 0 {
		return f, false
	}
	handle := binary.NativeEndian.Uint32(b[8:])
	var class uint32
	var sel []byte
	for kind, v := range attributes(b[header:]) {
		if kind != nl.TCA_OPTIONS {
			continue
		}
		for kind, v := range attributes(v) {
			switch {
			case kind == nl.TCA_U32_LINK && len(v) >= 4:
				f.links = binary.NativeEndian.Uint32(v) == shareTable
			case kind == nl.TCA_U32_CLASSID && len(v) >= 4:
				class = binary.NativeEndian.Uint32(v)
			case kind == nl.TCA_U32_SEL:
				sel = v
			}
		}
	}
	if f.links {
		f.links = bytes.Equal(sel, shareSelector().Serialize())
		return f, true
	}
	if len(sel) != nl.SizeofTcU32Sel+2*nl.SizeofTcU32Key {
		return f, true
	}
	const value = 4 // in a key, behind its mask
	copy(f.mac[:4], sel[nl.SizeofTcU32Sel+value:])
	copy(f.mac[4:], sel[nl.SizeofTcU32Sel+nl.SizeofTcU32Key+value:][:2])
	c := plan.Class{ID: uint16(class)}
	if class&0xffff_0000 == shareHandle && handle == plan.ShareFilter(f.mac, c) && bytes.Equal(sel, sourceSelector(f.mac).Serialize()) {
		f.class = c.ID
	}
	return f, true
}

// observeShares reads all of scope.
func (o *observer) observeShares(scope plan.State, seen *plan.State) error {
	for netdev := range maps.Keys(scope.Shares) {
		if err := o.sharing(netdev, scope.Shares[netdev], seen); err != nil {
			return err
		}
	}
	return nil
}
