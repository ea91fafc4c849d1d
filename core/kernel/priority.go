package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file is about the priority that tags have.

// resetPriority takes from tags that others than uplinks send how urgent they say they are,
// where that is not wanted.
func resetPriority(at header) []expression {
	return rule(hasPriority(), ours(unix.NFT_META_IIFGROUP), isNot(unix.NFT_META_IIFGROUP, vswitch.UplinkGroup),
		[]expression{meta(unix.NFT_META_IIFNAME), lookupNot(setPriority), counter()}, withoutPriority(at))
}

// setAsideTag is where a tag is that the kernel has set aside.
func setAsideTag() header { return ether(tci, 2) }

// @ll,112,4 != 0: the tag's priority, or that it may be dropped first
func hasPriority() []expression {
	return []expression{load(setAsideTag()), masked([]byte{0xf0, 0}), notEqual([]byte{0, 0})}
}

// withoutPriority writes the tag back without it. A kernel with the fix of Linux 6.5
// ("skbuff vlan metadata mangle support", in stable kernels too) changes a tag that it has
// set aside, if both bytes are written at once. One without writes over the first bytes
// of the packet, which get back what was there before: it does nothing.
func withoutPriority(at header) []expression {
	first := network(0, 2)
	return []expression{
		loadTo(unix.NFT_REG_2, first),
		load(setAsideTag()), masked([]byte{0x0f, 0xff}), store(at),
		storeFrom(unix.NFT_REG_2, first),
	}
}

// tagSet holds what a tag begins with.
func tagSet() ruleSet { return ruleSet{name: setTags, key: etherTypes, constant: tagTypes()} }

// tagTypes are what a tag begins with, of customers and of providers (IEEE 802.1Q).
func tagTypes() (types []string) {
	for _, t := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		types = append(types, string(binary.BigEndian.AppendUint16(nil, t)))
	}
	return types
}

// probePatience is more than a frame takes through the kernel.
const probePatience = 2 * time.Second

// resetsPriority fails unless a tagged frame, sent by the port that probeBridge has made,
// comes to the bridge without its priority and otherwise as it was. It leaves the port's other
// end down: a mirror to there, which is tried next, would have the kernel send one frame in a
// circle for as long as the namespace is there, which is some time longer than the probe.
func (c *rtnl) resetsPriority(ctx context.Context) error {
	open := plan.Port{Name: "port", Bridge: "probe", MTU: vswitch.DefaultMTU, Up: true} // to any address
	err := c.send(append(setPort(open, true), byName(unix.RTM_NEWLINK, 0, "probe", upHeader()), byName(unix.RTM_NEWLINK, 0, "peer", upHeader()))...)
	if err != nil {
		return err
	}
	defer func() { _ = c.send(byName(unix.RTM_NEWLINK, 0, "peer", downHeader())) }()
	if err := awaitPort(c, "port"); err != nil {
		return err
	}
	peer, err := c.link("peer")
	if err != nil {
		return err
	}
	if err := tryTable(ruleTable{name: "try", family: unix.NFPROTO_BRIDGE, chains: []ruleChain{{
		name: "prerouting", kind: chainFilter, hook: unix.NF_INET_PRE_ROUTING, priority: bridgeFirst,
		rules: func() [][]expression {
			return [][]expression{rule(inSet(load(ether(etherType, 2)), setTags), hasPriority(), withoutPriority(setAsideTag()))}
		},
	}}, sets: []ruleSet{tagSet()}}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	sent, came := false, errors.New("the frame did not come")
	_, err = Capture(ctx, CaptureRequest{
		Netdev: "probe", Snaplen: MaxSnaplen,
		Idle: func() error {
			if sent {
				return nil
			}
			sent = true
			return sendFrame(peer.index, taggedTry(0xe02a))
		},
		Frame: func(f CapturedFrame) error {
			switch string(f.Data) {
			case string(taggedTry(0x002a)):
				came = nil
			case string(taggedTry(0xe02a)):
				came = errors.New("the frame has kept its priority")
			default:
				return nil
			}
			cancel()
			return nil
		},
	})
	return errors.Join(err, came)
}

// taggedTry is a frame to all with a tag, of the type that IEEE has set aside for tries.
func taggedTry(tci uint16) []byte {
	f := append(make([]byte, 0, 64), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1)
	for _, word := range []uint16{unix.ETH_P_8021Q, tci, 0x88b5} {
		f = binary.BigEndian.AppendUint16(f, word)
	}
	return append(f, make([]byte, 46)...)
}

// sendFrame sends by a netdev of the calling thread's namespace.
func sendFrame(index int, frame []byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
}
