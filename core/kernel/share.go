package kernel

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file gives netdevs the classes by which ports share them. A frame's class is found by
// the address that it is from: a table of 256 places by its last byte, so that it costs the
// same however many ports there are.

// ShareSymbols are what minimums of bandwidth are made of.
const ShareSymbols = "CONFIG_NET_SCH_HTB and CONFIG_NET_CLS_U32"

const (
	shareHandle  = plan.ShareHandle << 16
	shareTable   = plan.ShareTable << 20
	sharePlaces  = 256
	shareFilters = 1 // the preference of all of ours
)

// shareStep carries out a step about a netdev's classes.
func (a *applier) shareStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.MakeShares:
		return a.makeShares(i, s)
	case plan.SetShares:
		return a.setShares(i, s)
	case plan.DeleteShares:
		index, err := a.index(i, "", s.Netdev)
		if errors.Is(err, vswitch.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return a.queueShares(i, false, queueing(unix.RTM_DELQDISC, 0, index, atRoot, shareHandle))
	}
	return a.mirrorStep(i, s)
}

// makeShares begins with nothing: what is there of ours cannot be changed into another.
func (a *applier) makeShares(step int, s plan.MakeShares) error {
	dev, err := a.index(step, "", s.Netdev)
	if err != nil {
		return err
	}
	root := queueing(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, dev, atRoot, shareHandle)
	root.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("htb")))
	glob := nl.TcHtbGlob{Version: 3, Rate2Quantum: 10, Defcls: plan.DefaultClass}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_HTB_INIT, glob.Serialize())
	root.AddData(options)
	if err := a.queueShares(step, false, queueing(unix.RTM_DELQDISC, 0, dev, atRoot, shareHandle)); err != nil {
		return err
	}
	messages := append([]*nl.NetlinkRequest{root}, shareTrunk(dev, s.Tree.Rate, s.Tree.Default)...)
	messages = append(messages, shareTableAt(dev), shareLink(dev))
	for mac, c := range s.Tree.Classes {
		messages = append(messages, shareClass(dev, plan.RootClass, c), shareFilter(dev, mac, c))
	}
	if err := a.queueShares(step, true, messages...); err != nil {
		return err
	}
	return a.queueFair(step, dev, s.Tree.Default, s.Tree.Classes)
}

func (a *applier) setShares(step int, s plan.SetShares) error {
	dev, err := a.index(step, "", s.Netdev)
	if err != nil {
		return err
	}
	var gone []*nl.NetlinkRequest
	for mac, c := range s.Gone {
		gone = append(gone, shareFilterAt(unix.RTM_DELTFILTER, 0, dev, plan.ShareFilter(mac, c)),
			queueing(unix.RTM_DELTCLASS, 0, dev, shareHandle, shareHandle|uint32(c.ID)))
	}
	if err := a.queueShares(step, false, gone...); err != nil {
		return err
	}
	messages := shareTrunk(dev, s.Rate, s.Default)
	for _, c := range s.Changed {
		messages = append(messages, shareClass(dev, plan.RootClass, c))
	}
	for mac, c := range s.New {
		messages = append(messages, shareClass(dev, plan.RootClass, c), shareFilter(dev, mac, c))
	}
	if err := a.queueShares(step, true, messages...); err != nil {
		return err
	}
	return a.queueFair(step, dev, plan.Class{}, s.New)
}

// queueShares queues messages that make something, or that remove what need not be there.
func (a *applier) queueShares(step int, makes bool, messages ...*nl.NetlinkRequest) error {
	explain := noQueue
	if makes {
		explain = explainSharing
	}
	for _, m := range messages {
		if err := a.queue("", request{NetlinkRequest: m, step: step, explain: explain}); err != nil {
			return err
		}
	}
	return nil
}

func explainSharing(err error) error { return explainTC(err, ShareSymbols, "minimums of bandwidth") }

// queueFair has the flows of a class take turns. A kernel that cannot leaves them the plain
// queue that a class is born with.
func (a *applier) queueFair(step, dev int, others plan.Class, classes map[vswitch.MAC]plan.Class) error {
	ids := []uint16{others.ID}
	for _, c := range classes {
		ids = append(ids, c.ID)
	}
	for _, id := range ids {
		if id == 0 {
			continue
		}
		r := queueing(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, dev, shareHandle|uint32(id), 0)
		r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("fq_codel")))
		if err := a.queueShares(step, false, r); err != nil {
			return err
		}
	}
	return nil
}

// shareTrunk are the class that all others are in, and that of the default flow.
func shareTrunk(dev int, rate uint64, others plan.Class) []*nl.NetlinkRequest {
	return []*nl.NetlinkRequest{
		shareClass(dev, 0, plan.Class{ID: plan.RootClass, Rate: rate, Ceil: rate}),
		shareClass(dev, plan.RootClass, others),
	}
}

// shareClass makes a class, or changes it.
func shareClass(dev, parent int, c plan.Class) *nl.NetlinkRequest {
	const linkEthernet = 1 // TC_LINKLAYER_ETHERNET: the kernel counts bytes as they are
	r := queueing(unix.RTM_NEWTCLASS, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, dev, shareHandle|uint32(parent), shareHandle|uint32(c.ID))
	r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("htb")))
	opt := nl.TcHtbCopt{Buffer: shareBurst(c.Rate), Cbuffer: shareBurst(c.Ceil), Quantum: clamp(c.Quantum)}
	opt.Rate.Rate, opt.Rate.Linklayer = clamp(c.Rate), linkEthernet
	opt.Ceil.Rate, opt.Ceil.Linklayer = clamp(c.Ceil), linkEthernet
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_HTB_PARMS, opt.Serialize())
	if c.Rate > uint64(opt.Rate.Rate) {
		options.AddRtAttr(nl.TCA_HTB_RATE64, nl.Uint64Attr(c.Rate))
	}
	if c.Ceil > uint64(opt.Ceil.Rate) {
		options.AddRtAttr(nl.TCA_HTB_CEIL64, nl.Uint64Attr(c.Ceil))
	}
	r.AddData(options)
	return r
}

// shareBurst is what passes at once of a rate, in ticks.
func shareBurst(rate uint64) uint32 {
	return ticks(plan.ShapeOf(vswitch.Limit{Max: vswitch.Bits(rate * 8)}, vswitch.DefaultMTU))
}

// shareFilterAt is a message about one of a netdev's filters.
func shareFilterAt(message, flags, dev int, handle uint32) *nl.NetlinkRequest {
	all := uint32(binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}))
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(dev), Handle: handle, Parent: shareHandle, Info: shareFilters<<16 | all})
	if message == unix.RTM_NEWTFILTER {
		r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("u32")))
	}
	return r
}

// shareTableAt makes the table of filters.
func shareTableAt(dev int) *nl.NetlinkRequest {
	r := shareFilterAt(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, dev, shareTable)
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_U32_DIVISOR, nl.Uint32Attr(sharePlaces))
	r.AddData(options)
	return r
}

// Where the address that a frame is from begins and ends, from where its payload does.
const (
	sourceBegin = -8
	sourceEnd   = -4 // its last two bytes, and what the payload is
)

// shareLink sends each frame to its place in the table.
func shareLink(dev int) *nl.NetlinkRequest {
	r := shareFilterAt(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, dev, 0)
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_U32_LINK, nl.Uint32Attr(shareTable))
	options.AddRtAttr(nl.TCA_U32_SEL, shareSelector().Serialize())
	r.AddData(options)
	return r
}

func shareSelector() *nl.TcU32Sel {
	lastByte := binary.NativeEndian.Uint32([]byte{0, 0xff, 0, 0})
	return &nl.TcU32Sel{Nkeys: 1, Keys: []nl.TcU32Key{{}}, Hoff: sourceEnd, Hmask: lastByte}
}

// shareFilter has frames from an address go by a class.
func shareFilter(dev int, mac vswitch.MAC, c plan.Class) *nl.NetlinkRequest {
	r := shareFilterAt(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, dev, plan.ShareFilter(mac, c))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_U32_HASH, nl.Uint32Attr(plan.ShareBucket(mac)))
	options.AddRtAttr(nl.TCA_U32_CLASSID, nl.Uint32Attr(shareHandle|uint32(c.ID)))
	options.AddRtAttr(nl.TCA_U32_SEL, sourceSelector(mac).Serialize())
	r.AddData(options)
	return r
}

// sourceSelector matches the address that a frame is from.
func sourceSelector(mac vswitch.MAC) *nl.TcU32Sel {
	const terminal = 1 // TC_U32_TERMINAL
	word := func(b ...byte) uint32 { return binary.NativeEndian.Uint32(b) }
	return &nl.TcU32Sel{Flags: terminal, Nkeys: 2, Keys: []nl.TcU32Key{
		{Mask: word(0xff, 0xff, 0xff, 0xff), Val: word(mac[:4]...), Off: sourceBegin},
		{Mask: word(0xff, 0xff, 0, 0), Val: word(mac[4], mac[5], 0, 0), Off: sourceEnd},
	}}
}
