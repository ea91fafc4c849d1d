package offload

import (
	"fmt"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/sdk"
)

// standing is how many SAs there are of a port, how many of them are on its NIC, and why not
// all, if they are not.
type standing struct {
	held, all int
	reason    vswitch.Reason
	detail    string
}

// standing is that of a grant. Of several reasons the first counts, as they are ordered
// here: what more room would mend, then what nothing would.
func (o *owner) standing(g grant) (s standing) {
	n, _ := find(o.netdevs, g.NIC, g.MAC)
	words := map[vswitch.Reason]string{}
	room := o.nics()[n.index] - o.held(n.index) // as far as ports go
	for _, t := range o.sas {
		switch on := t.on(); {
		case on == n.index && on != 0:
			s.held++
		case on != 0:
			continue // another port's NIC has it
		default:
			reason, why := o.why(t, n, room)
			words[reason] = why
		}
		s.all++
	}
	if o.failed != nil {
		s.reason, s.detail = vswitch.ProviderFailed, o.failed.Error()
		return s
	}
	for _, reason := range []vswitch.Reason{vswitch.NoFreeSA, vswitch.LimitReached, vswitch.Refused, vswitch.NeedsSoftwarePath} {
		if why, is := words[reason]; is {
			s.reason, s.detail = reason, why
			return s
		}
	}
	return s
}

// why is why an SA is not on a NIC with that much room.
func (o *owner) why(t *tracked, n netdev, room int) (vswitch.Reason, string) {
	switch index := o.routeOf(t).index; {
	case t.unfit != "":
		return vswitch.NeedsSoftwarePath, t.unfit
	case n.index == 0:
		return vswitch.NeedsSoftwarePath, "the NIC is not in the owner's namespace"
	case index != n.index:
		return vswitch.NeedsSoftwarePath, fmt.Sprintf("packets are routed to %s, not to %s", o.view.name(index), n.name)
	case t.refused[n.index] != "":
		return vswitch.Refused, t.refused[n.index]
	case room > 0:
		return vswitch.NoFreeSA, o.full[n.index].words
	}
	return vswitch.LimitReached, ""
}

// report tells of grants that stand otherwise than was told before.
func (o *owner) report() {
	for ref, g := range o.grants {
		s := o.standing(g)
		if o.told[ref] == s {
			continue
		}
		o.told[ref] = s
		o.tell(sdk.Event{Kind: sdk.GrantChanged, Time: time.Now(), NIC: g.NIC, Ref: ref, Reason: s.reason, Detail: s.detail})
	}
}

// granted are the grants here as they stand.
func (o *owner) granted() (all []sdk.Grant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.grants {
		all = append(all, o.asGranted(g))
	}
	return all
}

func (o *owner) asGranted(g grant) sdk.Grant {
	s := o.standing(g)
	return sdk.Grant{
		Ref: g.ref(), NIC: g.NIC, Generation: g.Generation, Amount: g.MaxSAs,
		SAs: s.all, SAsHeld: s.held, Reason: s.reason, Detail: s.detail,
	}
}

// Names of counters.
const (
	countSAs     = "sas"           // that the owner has, on the NIC or not
	countHeld    = "sas_offloaded" // on the NIC
	countBytes   = "bytes"         // of those on the NIC
	countPackets = "packets"
)

// counters are those of a grant.
func (o *owner) counters(ref sdk.Ref) (map[string]uint64, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g, granted := o.grants[ref]
	if !granted {
		return nil, false
	}
	n, _ := find(o.netdevs, g.NIC, g.MAC)
	c := map[string]uint64{countSAs: 0, countHeld: 0, countBytes: 0, countPackets: 0}
	listed, err := o.conn.List()
	if err != nil {
		listed = nil
		for _, t := range o.sas {
			listed = append(listed, t.sa)
		}
	}
	for _, sa := range listed {
		on, _ := sa.Offload()
		if on != 0 && on != n.index {
			continue
		}
		c[countSAs]++
		if on != 0 {
			bytes, packets := sa.Used()
			c[countHeld]++
			c[countBytes] += bytes
			c[countPackets] += packets
		}
	}
	return c, true
}
