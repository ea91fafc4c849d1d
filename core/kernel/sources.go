package kernel

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// This file counts frames by the address that they come from. A locked port drops those from
// another one than its own behind the bridge's first hook, and does not count them. Which
// address is a port's own the rules need not know, so that an attach does not touch them:
// packets fill the sets.

const chainSources = "sources"

// sourcesRest is how long after its first frame an address of a port is forgotten with what
// it has sent: nothing else takes those of ports that are gone out of the set. maxSources is for
// the ports of a host and those that have come and gone in that time.
const sourcesRest, maxSources = 4 * time.Hour, 1 << 16

// classMask tells the 16 classes of addresses apart, of each of which a port has one in
// setSpoke: who sends from ever new addresses fills neither the set nor memory.
var classMask = vswitch.MAC{5: 0x0f}

// sourceRules count a frame where they find its source. An address that is new is noted if the
// port has none of its class yet; if it has, the frame counts for the class.
func sourceRules() [][]expression {
	class := rule(source(), []expression{maskedIn(registerAt(1), classMask[:], make([]byte, etherLen))})
	return [][]expression{
		// iif . ether saddr @spoke return
		rule(source(), []expression{lookup(setSpoke)}, returned()),
		rule(notOurs(unix.NFT_META_IIFGROUP), returned()),
		// iif . ether saddr & 00:00:00:00:00:0f @spoke_more return
		rule(class, []expression{lookup(setSpokeMore)}, returned()),
		// update @spoke_more { iif . ether saddr & 00:00:00:00:00:0f }
		rule(class, []expression{noted(setSpokeMore)}),
		// update @spoke { iif . ether saddr }
		rule(source(), []expression{noted(setSpoke)}),
	}
}

// source is the key of setSpoke: iif . ether saddr
func source() []expression {
	return []expression{meta(unix.NFT_META_IIF), loadTo(registerAt(1), ether(etherSrc, etherLen))}
}

// return
func returned() []expression {
	code := unix.NFT_RETURN
	return []expression{verdictOf(uint32(code))}
}

// Sources are the frames of a port by their source address.
type Sources struct {
	By map[vswitch.MAC]uint64
	// More are, by the class of the address, the first frame of the one in By and all from
	// others.
	More map[vswitch.MAC]uint64
}

// Foreign are the frames from any other address than the port's own. What may have come from
// that one is none of them: if it had to share its class with the frames of others, because one
// of those came first.
func (s Sources) Foreign(own vswitch.MAC) (frames uint64) {
	for mac, n := range s.By {
		if mac != own {
			frames += n
		}
	}
	_, known := s.By[own]
	for class, n := range s.More {
		if n > 0 && (known || class != classOf(own)) {
			frames += n - 1 // the first one is that of By
		}
	}
	return frames
}

func classOf(mac vswitch.MAC) (class vswitch.MAC) {
	for i := range mac {
		class[i] = mac[i] & classMask[i]
	}
	return class
}

// sources reads the sets, by the index of the netdev. On a kernel without such sets there is
// nothing.
func (l *Linux) sources() (map[uint32]Sources, error) {
	all := make(map[uint32]Sources)
	err := l.ruleset(func(c *rtnl) error {
		clear(all)
		for set, of := range map[string]func(Sources) map[vswitch.MAC]uint64{
			setSpoke:     func(s Sources) map[vswitch.MAC]uint64 { return s.By },
			setSpokeMore: func(s Sources) map[vswitch.MAC]uint64 { return s.More },
		} {
			err := eachElement(c, bridgeTable(), set, func(element []byte) {
				key, _ := parseElement(element)
				if len(key) != ifIndexEtherAddr.size() {
					return
				}
				index, mac := binary.NativeEndian.Uint32(key), vswitch.MAC(key[4:4+etherLen])
				if _, there := all[index]; !there {
					all[index] = Sources{By: make(map[vswitch.MAC]uint64), More: make(map[vswitch.MAC]uint64)}
				}
				of(all[index])[mac] = elementCount(element)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, vswitch.CapabilityMissing) {
		return nil, nil
	}
	return all, err
}
