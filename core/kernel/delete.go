package kernel

import (
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// deleteNetdev forgets the pair's numbers: a netdev of that name made later in
// the same plan has others.
func (a *applier) deleteNetdev(step int, name string) error {
	if err := a.outside(func() error { return nil }); err != nil {
		return err
	}
	clear(a.links)
	clear(a.born)
	return a.remove(step, "", byName(unix.RTM_DELLINK, 0, name, noHeader()))
}

// deleteNetdevs removes many with one request: unregistering a netdev waits for
// every processor (rcu_barrier), 16 ms or so, and a group waits once.
func (a *applier) deleteNetdevs(step int, names []string) error {
	return a.outside(func() error {
		clear(a.links)
		clear(a.born)
		indexes, err := a.host.ourLinks(step, names)
		if err != nil || len(indexes) == 0 {
			return err
		}
		return a.host.do(deleteGroup(step, vswitch.DoomedGroup(names...), indexes))
	})
}

// ourLinks returns the numbers of those of the netdevs that are there and ours.
func (c *rtnl) ourLinks(step int, names []string) (indexes []int, err error) {
	var requests []request
	for _, name := range names {
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

// isOurs tells by the marks that we set. A pair that was born a moment ago, by a
// process that was killed then, has its group and no alias yet.
func isOurs(l link) bool {
	return strings.HasPrefix(l.alias, vswitch.AliasPrefix) || l.kind == "veth" && l.group&vswitch.GroupMask == vswitch.GroupMark
}

// deleteGroup marks netdevs and removes what is marked. They are marked by number: no
// other netdev can have taken the place of one that was looked at.
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
