package kernel

import (
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// deleteNetdevs removes those netdevs that are ours. It forgets the pairs' numbers:
// netdevs of their names made later in the same plan have others.
func (a *applier) deleteNetdevs(step int, names ...string) error {
	return a.outside(func() error {
		clear(a.links)
		clear(a.born)
		indexes, err := a.host.ourLinks(step, names)
		if err != nil || len(indexes) == 0 {
			return err
		}
		requests := deleteLinks(step, vswitch.DoomedGroup(names...), indexes)
		if a.departures == nil {
			return a.host.do(requests)
		}
		return a.kernel.sendOff(a.departures, indexes, requests)
	})
}

// deleteLinks removes many with one request: unregistering a netdev waits for every
// processor (rcu_barrier), 16 ms or so, and a group waits once. All are meant by
// number: no other netdev can have taken the place of one that was looked at.
func deleteLinks(step int, group uint32, indexes []int) []request {
	if len(indexes) > 1 {
		return deleteGroup(step, group, indexes)
	}
	header := noHeader()
	header.Index = int32(indexes[0])
	r := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	r.AddData(&header)
	return []request{{NetlinkRequest: r, step: step, absent: true}}
}

// ourLinks returns the numbers of those of the netdevs that are there and ours.
func (c *rtnl) ourLinks(step int, names []string) (indexes []int, err error) {
	var requests []request
	for _, name := range withShapers(names) {
		requests = append(requests, request{
			NetlinkRequest: getLink(name), step: step, absent: true,
			answer: func(b []byte) {
				if l := parseLink(b); isOurs(l) {
					indexes = append(indexes, l.index)
				}
			},
		})
	}
	err = c.do(requests)
	return indexes, err
}

// withShapers adds to netdevs those by which the guests' ports among them may be limited.
func withShapers(names []string) []string {
	all := slices.Clone(names)
	for _, name := range names {
		if shaper := vswitch.ShaperName(name); shaper != "" {
			all = append(all, shaper)
		}
	}
	return all
}

// isOurs tells by the marks that we set. A pair that was born a moment ago, by a
// process that was killed then, has its group and no alias yet, and so has a bond.
func isOurs(l link) bool {
	return strings.HasPrefix(l.alias, vswitch.AliasPrefix) || (l.kind == "veth" || l.kind == "bond" || l.kind == "ifb") && l.group&vswitch.GroupMask == vswitch.GroupMark
}

// deleteGroup marks netdevs and removes what is marked.
func deleteGroup(step int, group uint32, indexes []int) []request {
	var requests []request
	for _, index := range indexes {
		header := noHeader()
		header.Index = int32(index)
		r := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
		r.AddData(&header)
		r.AddData(uint32Attribute(unix.IFLA_GROUP, int(group)))
		requests = append(requests, request{NetlinkRequest: r, step: step, absent: true})
	}
	header := noHeader()
	r := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	r.AddData(&header)
	r.AddData(uint32Attribute(unix.IFLA_GROUP, int(group)))
	return slices.Concat(requests, []request{{NetlinkRequest: r, step: step, absent: true}})
}
