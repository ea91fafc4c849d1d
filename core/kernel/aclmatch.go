package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file spells what a rule of an ACL matches.

// packetSide is where one end of a packet is found in it.
type packetSide struct {
	mac, ip4, ip6, port header
}

func senderSide() packetSide {
	return packetSide{mac: ether(etherSrc, etherLen), ip4: network(12, 4), ip6: network(8, 16), port: transport(0, 2)}
}

func receiverSide() packetSide {
	return packetSide{mac: ether(etherDst, etherLen), ip4: network(16, 4), ip6: network(24, 16), port: transport(2, 2)}
}

// sidesOf are the owner's and the other side of a packet in a direction.
func sidesOf(d vswitch.ACLDirection) (local, remote packetSide) {
	if d == vswitch.ACLOut {
		return senderSide(), receiverSide()
	}
	return receiverSide(), senderSide()
}

// aclMatch is what a packet in the direction has to be.
func aclMatch(r vswitch.ACLRule, d vswitch.ACLDirection) (match []expression) {
	local, remote := sidesOf(d)
	if !r.Local.AnyMAC && !r.Remote.AnyMAC && r.Local.MAC.IsZero() && r.Remote.MAC.IsZero() {
		match = ipFamily(r)
	}
	match = rule(match, local.address(r.Local), remote.address(r.Remote))
	if r.Protocol != 0 {
		match = append(match, transportProtocol(byte(r.Protocol))...)
	}
	return rule(match, local.ports(r.LocalPort), remote.ports(r.RemotePort))
}

// ipFamily is nothing where the protocol says as much.
func ipFamily(r vswitch.ACLRule) []expression {
	for _, a := range []vswitch.ACLAddress{r.Local, r.Remote} {
		switch {
		case a.Prefix.IsValid() && a.Prefix.Addr().Is4():
			return protocol(unix.ETH_P_IP)
		case a.Prefix.IsValid():
			return protocol(unix.ETH_P_IPV6)
		}
	}
	if r.Protocol != 0 {
		return nil
	}
	return inSet(meta(unix.NFT_META_PROTOCOL), setIP)
}

func (s packetSide) address(a vswitch.ACLAddress) []expression {
	switch {
	case !a.MAC.IsZero():
		return []expression{load(s.mac), equal(a.MAC[:])}
	case !a.Prefix.IsValid() || a.Prefix.Bits() == 0:
		return nil
	}
	at := s.ip6
	if a.Prefix.Addr().Is4() {
		at = s.ip4
	}
	match := []expression{load(at)}
	if !a.Prefix.IsSingleIP() {
		match = append(match, masked(maskOf(a.Prefix.Bits(), at.length)))
	}
	return append(match, equal(a.Prefix.Addr().AsSlice()))
}

func maskOf(bits, length int) []byte {
	mask := make([]byte, length)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

func (s packetSide) ports(p vswitch.ACLPorts) []expression {
	switch {
	case p.IsZero():
		return nil
	case p.First == p.Last:
		return []expression{load(s.port), equal(portBytes(p.First))}
	}
	return []expression{load(s.port), compare(unix.NFT_CMP_GTE, portBytes(p.First)), compare(unix.NFT_CMP_LTE, portBytes(p.Last))}
}

func portBytes(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// ip frag-off & 0x1fff != 0
func laterFragment4() []expression {
	return []expression{load(network(6, 2)), masked([]byte{0x1f, 0xff}), notEqual([]byte{0, 0})}
}

// neighbourDiscovery matches what ARP is for IPv4: solicitations and advertisements of
// neighbours, as they have to be (RFC 4861, 6980): of this link, and in no fragment.
func neighbourDiscovery() []expression {
	const nextHeader, hopLimit = 6, 7
	return rule(protocol(unix.ETH_P_IPV6), []expression{
		load(network(nextHeader, 2)), equal([]byte{unix.IPPROTO_ICMPV6, 255}),
		load(transport(0, 1)), compare(unix.NFT_CMP_GTE, []byte{neighborSolicitation}), compare(unix.NFT_CMP_LTE, []byte{neighborAdvertisement}),
	})
}
