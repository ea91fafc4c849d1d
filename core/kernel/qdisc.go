package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file brings ports to their limits, and spells qdiscs and filters for it.

// LimitSymbols are what limits of bandwidth are made of.
const LimitSymbols = "CONFIG_NET_SCH_TBF, CONFIG_IFB, CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32, CONFIG_NET_CLS_ACT and CONFIG_NET_ACT_MIRRED"

// Places in the tree of a netdev's queues, of linux/pkt_sched.h.
const (
	atRoot    = 0xffff_ffff // TC_H_ROOT
	atIngress = 0xffff_fff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	atEgress  = 0xffff_fff3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
	clsact    = 0xffff_fff1 // TC_H_CLSACT
)

const shaperHandle = plan.ShaperHandle << 16

func (a *applier) setLimits(step int, s plan.SetLimits) error {
	want, had := s.Limits, s.Had
	if want.From.IsZero() && !had.From.IsZero() {
		if err := a.unsteer(step, s); err != nil {
			return err
		}
	}
	if want.To != had.To {
		if err := a.shape(step, s.Port, want.To); err != nil {
			return err
		}
	}
	switch {
	case want.From == had.From || want.From.IsZero():
		return nil
	case s.Steered():
		return a.shape(step, want.Via, want.From)
	}
	return a.steer(step, s)
}

// shape gives a netdev a token bucket, or takes ours away.
func (a *applier) shape(step int, netdev string, s plan.Shape) error {
	index, err := a.index(step, "", netdev)
	if s.IsZero() && errors.Is(err, vswitch.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.IsZero() {
		return a.queue("", request{NetlinkRequest: queueing(unix.RTM_DELQDISC, 0, index, atRoot, shaperHandle), step: step, explain: noQueue})
	}
	return a.queue("", request{NetlinkRequest: tokenBucket(index, s), step: step, explain: explainShaping})
}

// noQueue takes it for done that there is none, or another one than ours.
func noQueue(err error) error {
	if errors.Is(err, unix.EINVAL) || isAbsent(err) {
		return nil
	}
	return err
}

func explainShaping(err error) error { return explainTC(err, LimitSymbols, "the limit") }

// explainTC tells what the kernel lacks for a queue or a filter, and what to leave out.
func explainTC(err error, symbols, what string) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Err: fmt.Errorf("this kernel lacks one of %s: %w", symbols, err),
			Hint: "load the module, boot a kernel that has it, or leave " + what + " out",
		}
	}
	return err
}

// steer makes the netdev that holds back what comes by a port, and sends it there. What
// is there of a process that was killed is taken as it is.
func (a *applier) steer(step int, s plan.SetLimits) error {
	via := s.Limits.Via
	birth := byName(unix.RTM_NEWLINK, create, via, noHeader())
	birth.AddData(uint32Attribute(unix.IFLA_GROUP, int(s.Group)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("ifb"))
	birth.AddData(info)
	err := a.queue("", request{NetlinkRequest: birth, step: step, explain: func(err error) error {
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return explainShaping(err)
	}})
	if err != nil {
		return err
	}
	delete(a.links, linkKey{"", via})
	index, err := a.index(step, "", via)
	if err != nil {
		return err
	}
	if l := a.links[linkKey{"", via}]; l.kind != "ifb" || !isOurs(l) {
		return &vswitch.Error{
			Kind: vswitch.AlreadyExists, Err: fmt.Errorf("netdev %s, which the limit needs, is there and somebody else's", via),
			Hint: fmt.Sprintf("rename it: `ip link set %s name NEW`", via),
		}
	}
	port, err := a.index(step, "", s.Port)
	if err != nil {
		return err
	}
	mark := byName(unix.RTM_NEWLINK, 0, via, upHeader())
	mark.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(s.Limits.Alias)))
	if spec := noLinkLocal(vswitch.DefaultMTU); spec != nil {
		quiet := byName(unix.RTM_NEWLINK, 0, via, noHeader())
		quiet.AddData(spec)
		if err := a.send(step, quiet); err != nil { // before it comes up: see setBridge
			return err
		}
	}
	for _, r := range []request{
		{NetlinkRequest: tokenBucket(index, s.Limits.From), explain: explainShaping},
		{NetlinkRequest: mark},
		{NetlinkRequest: hook(port), explain: explainHook},
		{NetlinkRequest: shaperPlace.filter(unix.RTM_DELTFILTER, 0, port), explain: noQueue},
		{NetlinkRequest: redirect(port, index), explain: explainShaping},
	} {
		r.step = step
		if err := a.queue("", r); err != nil {
			return err
		}
	}
	return nil
}

// unsteer lets what comes by a port go on by itself, and removes the netdev.
func (a *applier) unsteer(step int, s plan.SetLimits) error {
	port, err := a.index(step, "", s.Port)
	switch {
	case err == nil:
		err = a.unhook(step, port, shaperPlace)
	case errors.Is(err, vswitch.NotFound):
		err = nil
	}
	if err != nil {
		return err
	}
	return a.deleteNetdevs(step, s.Limits.Via)
}

// hook is what filters of a port hang on.
func hook(port int) *nl.NetlinkRequest {
	r := queueing(unix.RTM_NEWQDISC, create, port, clsact, 0xffff_0000)
	r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	return r
}

// explainHook takes one that is there for ours.
func explainHook(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explainShaping(err)
}

// unhook takes our filters at some places away, and what filters hang on if no other one is
// left.
func (a *applier) unhook(step, port int, places ...filterPlace) error {
	for _, at := range places {
		if err := a.queue("", request{NetlinkRequest: at.filter(unix.RTM_DELTFILTER, 0, port), step: step, explain: noQueue}); err != nil {
			return err
		}
	}
	if err := a.flush(); err != nil {
		return err
	}
	others := false
	for _, at := range []uint32{atIngress, atEgress} {
		r := nl.NewNetlinkRequest(unix.RTM_GETTFILTER, unix.NLM_F_DUMP)
		r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(port), Parent: at})
		err := a.host.dump(r, func() {}, func([]byte) { others = true })
		if noQueue(err) != nil {
			return err
		}
	}
	if others {
		return nil
	}
	return a.queue("", request{NetlinkRequest: queueing(unix.RTM_DELQDISC, 0, port, clsact, 0), step: step, explain: noQueue})
}

// queueing is a message about a netdev's queues.
func queueing(message, flags, index int, parent, handle uint32) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Handle: handle, Parent: parent})
	return r
}

// tokenBucket makes, or changes, a netdev's.
func tokenBucket(index int, s plan.Shape) *nl.NetlinkRequest {
	const linkEthernet = 1 // TC_LINKLAYER_ETHERNET: the kernel counts bytes as they are
	r := queueing(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, atRoot, shaperHandle)
	r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("tbf")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	q := nl.TcTbfQopt{Limit: clamp(s.Queue), Buffer: ticks(s)}
	q.Rate.Rate, q.Rate.Linklayer = clamp(s.Rate), linkEthernet
	options.AddRtAttr(nl.TCA_TBF_PARMS, q.Serialize())
	if s.Rate > uint64(q.Rate.Rate) {
		options.AddRtAttr(nl.TCA_TBF_RATE64, nl.Uint64Attr(s.Rate))
	}
	options.AddRtAttr(nl.TCA_TBF_BURST, nl.Uint32Attr(clamp(s.Burst)))
	r.AddData(options)
	return r
}

// clamp is n, or all bits where that is more than fits.
func clamp(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }

// ticks are a burst as the kernel tells of it: as the time that it takes, in units of 64 ns.
func ticks(s plan.Shape) uint32 {
	return clamp(uint64(float64(s.Burst) / float64(s.Rate) * 1e9 / 64))
}

// filterPlace is where filters of ours stand at a port: among those of what comes in or of
// what goes out, and how early.
type filterPlace struct {
	way        uint32
	preference int
}

// shaperPlace is that of the filter that hands on what a limit holds back.
var shaperPlace = filterPlace{atIngress, plan.ShaperPreference}

// filter is a message about those of a port.
func (at filterPlace) filter(message, flags, port int) *nl.NetlinkRequest {
	all := uint32(binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}))
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
	r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(port), Parent: at.way, Info: uint32(at.preference)<<16 | all})
	return r
}

// Where what is in a struct tc_mirred.
const (
	mirredAction = 8
	mirredDoes   = 20
	mirredNetdev = 24
	sizeofMirred = 28
)

// What mirred does, and what becomes of the frame then, of linux/tc_act/tc_mirred.h and
// linux/pkt_cls.h.
const (
	mirredRedirect = 1           // TCA_EGRESS_REDIR
	mirredMirror   = 2           // TCA_EGRESS_MIRROR
	goesOn         = 0xffff_ffff // TC_ACT_UNSPEC: to the next filter
	stolen         = 4           // TC_ACT_STOLEN
)

// redirect hands all that comes by a port to another netdev, from which it comes back.
func redirect(port, via int) *nl.NetlinkRequest {
	return mirred(shaperPlace, port, mirredRedirect, stolen, via)
}

// copyTo sends a copy of all that comes in by a port, or goes out, by another netdev.
func copyTo(at filterPlace, port, to int) *nl.NetlinkRequest {
	return mirred(at, port, mirredMirror, goesOn, to)
}

func mirred(at filterPlace, port int, does, then uint32, to int) *nl.NetlinkRequest {
	const terminal = 1 // TC_U32_TERMINAL
	r := at.filter(unix.RTM_NEWTFILTER, create, port)
	r.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("u32")))
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	everything := nl.TcU32Sel{Flags: terminal, Nkeys: 1, Keys: []nl.TcU32Key{{}}}
	options.AddRtAttr(nl.TCA_U32_SEL, everything.Serialize())
	action := options.AddRtAttr(nl.TCA_U32_ACT, nil).AddRtAttr(1, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("mirred"))
	parms := make([]byte, sizeofMirred) // the library's type has another size
	nl.NativeEndian().PutUint32(parms[mirredAction:], then)
	nl.NativeEndian().PutUint32(parms[mirredDoes:], does)
	nl.NativeEndian().PutUint32(parms[mirredNetdev:], uint32(to))
	action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_MIRRED_PARMS, parms)
	r.AddData(options)
	return r
}
