package vswitch

import (
	"encoding/base32"
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

const maxNetdevName = 15

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

// digest is 16 bytes that depend on every seed: FNV-1a, since nobody gains by
// making two of them equal and package crypto would cost each plugin process a
// tenth of a millisecond of start.
func digest(seeds ...string) []byte {
	h := fnv.New128a()
	for _, s := range seeds {
		_, _ = io.WriteString(h, s)
		_, _ = h.Write([]byte{0})
	}
	return h.Sum(nil)
}
