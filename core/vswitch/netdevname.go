package vswitch

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
)

// Every netdev of ours has a name that is a pure function of what it serves, so
// that it can be found and removed with no store at all:
//
//	pb-NAME    the bridge of switch NAME
//	pbh-NAME   the host's end of its host port (Hyper-V: "vEthernet (NAME)")
//	pbp-NAME   the switch's end of its host port
//	pbXXXXXXXXXXXXX   the switch's end of a guest's port: the port's ID
//	pbK-NAME   the bridge of the switch's segment K (1, 2, ...)
//	pbrK-NAME  the end at the root bridge of the trunk to segment K
//	pbsK-NAME  the end at segment K of that trunk
//	pbnK-NAME  the end at segment K-1 of the relay of broadcasts to the next one, K
//	pbvK-NAME  the end at segment K of that relay
//	pqXXXXXXXXXXXXX   by which a port goes whose owner may send so much and no more: its ID
//	                  with another beginning
//
//	ptXXXXXXXXXXXXX  a tap that is made for a VM, by the VM's name and the interface's
//
// A NAME that does not fit 15 bytes, or looks like one that did not, is cut and
// ended with "-" and five characters of its hash.

// BridgeName names the bridge netdev of a switch.
func BridgeName(switchName string) string { return netdevName("pb-", switchName) }

// HostPortName names the host's end of a switch's host port.
func HostPortName(switchName string) string { return netdevName("pbh-", switchName) }

// HostPortPrefix begins the name of every host port's switch end and of no other
// netdev of ours.
const HostPortPrefix = "pbp-"

// HostPortSwitchEnd names the switch's end of its host port.
func HostPortSwitchEnd(switchName string) string { return netdevName(HostPortPrefix, switchName) }

// SegmentName names the bridge of a segment of a switch; that of segment 0, the root,
// is the switch's own.
func SegmentName(switchName string, segment int) string {
	if segment == 0 {
		return BridgeName(switchName)
	}
	return netdevName(fmt.Sprintf("pb%d-", segment), switchName)
}

// SegmentTrunkPrefix begins the names of trunks' ends at further segments.
const SegmentTrunkPrefix = "pbs"

// TrunkNames names the two ends of the trunk between the root and a further segment.
func TrunkNames(switchName string, segment int) (atRoot, atSegment string) {
	return netdevName(fmt.Sprintf("pbr%d-", segment), switchName), netdevName(fmt.Sprintf("%s%d-", SegmentTrunkPrefix, segment), switchName)
}

// IsTrunk reports whether a netdev's name is that of a trunk's end at the root.
func IsTrunk(netdev string) bool {
	rest, trunk := strings.CutPrefix(netdev, "pbr")
	number, _, cut := strings.Cut(rest, "-")
	return trunk && cut && number != "" && strings.Trim(number, "0123456789") == ""
}

// RelayNames names the two ends of the relay between a further segment and the one
// before it.
func RelayNames(switchName string, segment int) (before, atSegment string) {
	return netdevName(fmt.Sprintf("pbn%d-", segment), switchName), netdevName(fmt.Sprintf("pbv%d-", segment), switchName)
}

const maxNetdevName = 15

// ShaperName names the netdev that holds back what the owner of a port sends, by the port's
// ID; "" for what is no port's.
func ShaperName(portID string) string {
	rest, ours := strings.CutPrefix(portID, "pb")
	if ours && (isGuests(rest) || strings.HasPrefix(portID, HostPortPrefix)) {
		return shaperPrefix + rest
	}
	return ""
}

// isGuests reports that the rest of a name is that of a guest's port.
func isGuests(rest string) bool {
	return len("pb")+len(rest) == maxNetdevName && !strings.Contains(rest, "-")
}

// ShapedPort is the ID of the port that a netdev of ShaperName's is for.
func ShapedPort(netdev string) (id string, is bool) {
	rest, is := strings.CutPrefix(netdev, shaperPrefix)
	id = "pb" + rest
	return id, is && ShaperName(id) == netdev
}

const shaperPrefix = "pq"

// TapName names the tap that is made for an interface of a VM.
func TapName(vm, nic string) string { return "pt" + shortHash(maxNetdevName-len("pt"), vm, nic) }

func netdevName(prefix, name string) string {
	const hashed = 5
	keep := maxNetdevName - len(prefix) - hashed - 1
	looksCut := len(prefix)+len(name) == maxNetdevName && name[keep] == '-'
	if len(prefix)+len(name) <= maxNetdevName && !looksCut {
		return prefix + name
	}
	return prefix + name[:keep] + "-" + shortHash(hashed, name)
}

// shortHash is n characters [a-z2-7] that depend on every seed.
func shortHash(n int, seeds ...string) string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(digest(seeds...)))[:n]
}

// digest is 16 bytes that depend on every seed: two FNV-1a sums, each stirred so
// that a change anywhere changes every bit. Nobody gains by making two of them
// equal, and package crypto would cost each plugin process a tenth of a
// millisecond of start.
func digest(seeds ...string) []byte {
	var out []byte
	for _, salt := range []byte{0, 1} {
		h := fnv.New64a()
		_, _ = h.Write([]byte{salt})
		for _, s := range seeds {
			_, _ = io.WriteString(h, s)
			_, _ = h.Write([]byte{0})
		}
		out = binary.BigEndian.AppendUint64(out, stir(h.Sum64()))
	}
	return out
}

// stir is the finalizer of MurmurHash3: FNV alone leaves its high bits to the
// last bytes.
func stir(n uint64) uint64 {
	n = (n ^ n>>33) * 0xff51afd7ed558ccd
	n = (n ^ n>>33) * 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}
