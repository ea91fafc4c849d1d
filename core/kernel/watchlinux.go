package kernel

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// watchBuffer is how much may happen while nobody reads: a burst of 1000 ADDs.
// The kernel takes the memory only when it is needed.
const watchBuffer = 8 << 20

// Watch calls tell for every event, from one goroutine at a time, until ctx ends.
// It has begun when ready is called: nothing that happens later is missed. It
// sleeps in the poller and wakes for notifications alone.
func (l *Linux) Watch(ctx context.Context, ready func(), tell func(Event)) error {
	links, err := openWatch(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_TC, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	files := []*os.File{links}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	w := watcher{tell: tell, seed: maphash.MakeSeed(), netdevs: make(map[int]watched)}
	if err := w.learn(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, speeds := make(chan []syscall.NetlinkMessage), make(chan []syscall.NetlinkMessage)
	ended := make(chan error, 3)
	go func() { ended <- readWatch(ctx, links, events) }()
	if rules, err := openWatch(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err == nil { // else no rules to watch
		files = append(files, rules)
		go func() { ended <- readWatch(ctx, rules, events) }()
	}
	if f, err := openSpeedWatch(); err == nil { // before Linux 5.6 nobody tells
		files = append(files, f)
		go func() { ended <- readWatch(ctx, f, speeds) }()
	}
	stop := context.AfterFunc(ctx, func() {
		for _, f := range files {
			_ = f.Close()
		}
	})
	defer stop()
	ready()
	for {
		select {
		case messages := <-events:
			w.take(messages)
		case messages := <-speeds:
			w.speeds(messages)
		case err := <-ended:
			cancel()
			for range len(files) - 1 {
				err = cmp.Or(err, <-ended) // the first one says why
			}
			if errors.Is(err, os.ErrClosed) {
				return nil
			}
			return fmt.Errorf("watch the kernel: %w", err)
		}
	}
}

// openWatch subscribes to groups. The file is in Go's poller.
func openWatch(family int, groups ...int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, watchBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("netlink bind", err)
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			_ = unix.Close(fd)
			return nil, os.NewSyscallError("netlink membership", err)
		}
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// readWatch hands on what comes until the file is closed; no messages means that
// some were lost.
func readWatch(ctx context.Context, f *os.File, events chan<- []syscall.NetlinkMessage) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		var messages []syscall.NetlinkMessage
		switch {
		case errors.Is(err, unix.ENOBUFS):
		case err != nil:
			return err
		default:
			// The messages lie in the buffer, which is written to again.
			if messages, err = syscall.ParseNetlinkMessage(bytes.Clone(buf[:n])); err != nil {
				messages = nil // as good as lost
			}
		}
		select {
		case events <- messages:
		case <-ctx.Done():
			return os.ErrClosed
		}
	}
}

// watcher turns notifications into events.
type watcher struct {
	tell    func(Event)
	seed    maphash.Seed
	netdevs map[int]watched // by index
}

// watched is what is remembered of a netdev, for messages that only number it.
type watched struct {
	name string
	ours bool
	team int // the bond that it is a member of, by number
}

// learn lists the netdevs that are there.
func (w *watcher) learn() error {
	links, err := linksHere()
	clear(w.netdevs)
	for _, l := range links {
		w.netdevs[l.index] = l.watched()
	}
	return err
}

func (l link) watched() watched {
	n := watched{name: l.name, ours: l.ours()}
	if l.member.member {
		n.team = l.master
	}
	return n
}

// ours reports a mark of ours.
func (l link) ours() bool {
	return strings.HasPrefix(l.alias, vswitch.AliasPrefix) || l.group&vswitch.GroupMask == vswitch.GroupMark
}

func (w *watcher) take(messages []syscall.NetlinkMessage) {
	if messages == nil {
		_ = w.learn() // what it does not know it learns by the next message
		w.tell(Event{Change: Lost})
		return
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
			w.changed(m.Data)
		case unix.RTM_DELLINK:
			w.gone(m.Data)
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			w.forwarding(m.Data)
		case unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTCLASS, unix.RTM_DELTCLASS, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
			if len(m.Data) >= unix.SizeofIfInfomsg && !isAnswer(m.Header) { // struct tcmsg has the number in the same place
				w.of(QueueChanged, int(binary.NativeEndian.Uint32(m.Data[4:])))
			}
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if len(m.Data) >= unix.SizeofIfAddrmsg {
				w.of(AddressChanged, int(binary.NativeEndian.Uint32(m.Data[4:])))
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			w.route(m.Data)
		default:
			w.rules(m)
		}
	}
}

// of tells of something that belongs to a netdev.
func (w *watcher) of(change Change, index int) {
	if n, ok := w.netdevs[index]; ok {
		w.tell(Event{Change: change, Netdev: n.name, Ours: n.ours, Team: w.netdevs[n.team].name})
	}
}

// changed handles RTM_NEWLINK. A bridge sends one of its own kind about a port,
// with its flags alone, and the netdev's own may not follow.
func (w *watcher) changed(data []byte) {
	l := parseLink(data)
	if l.index == 0 || l.name == "" {
		return
	}
	was, known := w.netdevs[l.index]
	if len(data) > 0 && data[0] == unix.AF_BRIDGE {
		w.of(NetdevChanged, l.index)
		return
	}
	now := l.watched()
	if known && was.name != now.name {
		w.tell(Event{Change: NetdevGone, Netdev: was.name, Ours: was.ours})
	}
	w.netdevs[l.index] = now
	e := Event{Change: NetdevChanged, Netdev: l.name, Ours: was.ours || now.ours, Print: w.print(l)}
	e.Stranger = !now.ours && !l.member.member && w.netdevs[l.master].ours
	if team := cmp.Or(now.team, was.team); team != 0 {
		e.Team = w.netdevs[team].name
	}
	w.tell(e)
}

func (w *watcher) gone(data []byte) {
	if len(data) < unix.SizeofIfInfomsg {
		return
	}
	index := int(nl.DeserializeIfInfomsg(data).Index)
	if data[0] == unix.AF_BRIDGE { // it has left its bridge
		w.of(NetdevChanged, index)
		return
	}
	w.of(NetdevGone, index)
	delete(w.netdevs, index)
}

// print sums up what plans compare of a netdev, and what it is in: its numbers
// tell it from another of its name.
func (w *watcher) print(l link) uint64 {
	l.port.forwarding = false
	return maphash.Comparable(w.seed, l) | 1
}

// forwarding handles static entries; what a bridge learns is its own affair.
func (w *watcher) forwarding(data []byte) {
	const header = 12 // struct ndmsg
	if len(data) < header || data[0] != unix.AF_BRIDGE {
		return
	}
	n, known := w.netdevs[int(binary.NativeEndian.Uint32(data[4:]))]
	if state := binary.NativeEndian.Uint16(data[8:]); !known || state&(unix.NUD_NOARP|unix.NUD_PERMANENT) == 0 {
		return
	}
	e := Event{Change: ForwardingChanged, Netdev: n.name, Ours: n.ours}
	for kind, v := range attributes(data[header:]) {
		if kind == unix.NDA_LLADDR && len(v) == len(e.MAC) {
			e.MAC = vswitch.MAC(v)
		}
	}
	w.tell(e)
}

func (w *watcher) route(data []byte) {
	if len(data) < unix.SizeofRtMsg {
		return
	}
	for kind, v := range attributes(data[unix.SizeofRtMsg:]) {
		if kind == unix.RTA_OIF {
			w.of(RouteChanged, int(number(v)))
		}
	}
}

// addsToPort reports that a message is about what a port is given in the tables of guards
// and ACLs: it comes by the hundred, and is for the port's verb. What goes may be missed.
func addsToPort(m syscall.NetlinkMessage) bool {
	var name uint16
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWSETELEM:
		return true
	case unix.NFT_MSG_NEWCHAIN:
		name = unix.NFTA_CHAIN_NAME
	case unix.NFT_MSG_NEWRULE:
		name = unix.NFTA_RULE_CHAIN
	case unix.NFT_MSG_NEWSET:
		name = unix.NFTA_SET_NAME
	default:
		return false
	}
	_, ofPort := portOf(answered(m.Data, name))
	return ofPort
}

// rules handles messages of nftables about our tables. Every object names its table
// in its first attribute.
func (w *watcher) rules(m syscall.NetlinkMessage) {
	const tableAttribute = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, ...
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Header.Type&0xff == unix.NFT_MSG_NEWGEN {
		return
	}
	for kind, v := range nftAttributes(m.Data) {
		if kind != tableAttribute {
			continue
		}
		team, spread := strings.CutPrefix(text(v), plan.SpreadTable(""))
		of, mirror := strings.CutPrefix(text(v), plan.MirrorTables(""))
		added := m.Header.Type&0xff == unix.NFT_MSG_NEWSETELEM // to what is a port's, and by the hundred
		switch table := text(v); {
		case table == tableName, (table == aclTableName || table == guardTableName) && !addsToPort(m):
			w.tell(Event{Change: RulesChanged})
		case spread && !added:
			w.tell(Event{Change: SpreadChanged, Netdev: team, Ours: true})
		case mirror:
			bridge, _, _ := strings.Cut(of, "/")
			w.tell(Event{Change: MirrorChanged, Netdev: bridge, Ours: true})
		}
		return
	}
}
