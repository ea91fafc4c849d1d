package kernel

import (
	"encoding/hex"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// neighbours are the ones that somebody configured, and copies of those that the
// kernel knows: whoever has them need not ask.
func (s *survey) neighbours() error {
	for _, n := range []neighbour{{family: unix.AF_INET}, {family: unix.AF_INET6}, {family: unix.AF_INET, flags: unix.NTF_PROXY}, {family: unix.AF_INET6, flags: unix.NTF_PROXY}} {
		if err := s.list(unix.RTM_GETNEIGH, n, s.neighbour); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) neighbour(b []byte) (plan.Item, bool) {
	if len(b) < unix.SizeofNdMsg || number32(b[4:]) != s.index {
		return plan.Item{}, false
	}
	state := nl.NativeEndian().Uint16(b[8:])
	all := without(parts(b, unix.SizeofNdMsg), unix.NDA_CACHEINFO, unix.NDA_PROBES)
	dst, lladdr := addrOf(valueOf(all, unix.NDA_DST)), valueOf(all, unix.NDA_LLADDR)
	words := fmt.Sprintf("%s lladdr %s dev %%", dst, hardware(lladdr))
	i := plan.Item{Kind: plan.ItemNeighbour}
	const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	switch {
	case !dst.IsValid() || dst.IsMulticast():
		return i, false
	case b[10]&unix.NTF_PROXY != 0:
		i.Words = fmt.Sprintf("proxy %s dev %%", dst)
	case state&unix.NUD_PERMANENT != 0:
		i.Words = words + " nud permanent"
	case state&known != 0 && len(lladdr) > 0:
		nl.NativeEndian().PutUint16(b[8:], unix.NUD_STALE)
		i.Words, i.Passing = words+" nud stale", true
	default:
		return i, false
	}
	clear(b[4:8])
	i.Message = message(b[:unix.SizeofNdMsg], all)
	i.Key = digest(i.Message)
	if i.Passing {
		i.Key = dst.String()
	}
	return i, true
}

func hardware(lladdr []byte) string {
	if len(lladdr) == len(vswitch.MAC{}) {
		return vswitch.MAC(lladdr).String()
	}
	return hex.EncodeToString(lladdr)
}
