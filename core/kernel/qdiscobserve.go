package kernel

import (
	"encoding/binary"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
)

// limits reads how a port is limited.
func (o *observer) limits(port link, scope plan.Limits) (plan.Limits, error) {
	seen := plan.Limits{Via: scope.Via, Alias: scope.Alias}
	if !scope.Any() {
		return seen, nil
	}
	var err error
	if seen.To, err = o.host.shape(port.index, scope.To); err != nil || scope.Via == "" {
		return seen, err
	}
	via, err := o.host.link(scope.Via)
	if err != nil && !isAbsent(err) {
		return seen, err
	}
	to, steered, err := o.host.steered(port.index)
	if err != nil || via.index == 0 && !steered {
		return seen, err
	}
	seen.From = plan.InParts()
	if via.index == 0 || to != via.index || !via.up || via.kind != "ifb" || via.alias != scope.Alias {
		return seen, nil
	}
	shape, err := o.host.shape(via.index, scope.From)
	if !shape.IsZero() {
		seen.From = shape
	}
	return seen, err
}

// asked begins the sequence number of every question of ours for a queue. The kernel tells
// the answer to all who watch, as it tells of a change, with the question's number.
const asked = 0x5042_0000

// isAnswer reports that a notification is the answer to such a question.
func isAnswer(h syscall.NlMsghdr) bool {
	return h.Type == unix.RTM_NEWQDISC && h.Seq&0xffff_0000 == asked
}

// shape reads the token bucket of ours that a netdev has. The kernel tells of a burst in
// round figures: one that is as much as wanted is what is wanted.
func (c *rtnl) shape(index int, want plan.Shape) (s plan.Shape, err error) {
	err = c.rootQueue(index, func(b []byte) { s = parseTokenBucket(b) })
	if want.Rate != 0 && s.Rate == want.Rate && s.Queue == want.Queue && closeTo(s.Burst, uint64(ticks(want))) {
		return want, err
	}
	return s, err
}

// rootQueue asks for a netdev's.
func (c *rtnl) rootQueue(index int, answer func([]byte)) error {
	r := queueing(unix.RTM_GETQDISC, unix.NLM_F_ECHO, index, atRoot, 0)
	r.Seq = asked | r.Seq&0xffff
	return c.do([]request{{NetlinkRequest: r, absent: true, explain: noQueue, answer: answer}})
}

// closeTo compares what was rounded twice.
func closeTo(a, b uint64) bool { return max(a, b)-min(a, b) <= 2+max(a, b)/1000 }

// parseTokenBucket reads one whose Burst is left in ticks.
func parseTokenBucket(b []byte) (s plan.Shape) {
	const header = 20 // struct tcmsg
	if len(b) < header || binary.NativeEndian.Uint32(b[8:]) != shaperHandle {
		return s
	}
	for kind, v := range attributes(b[header:]) {
		if kind != nl.TCA_OPTIONS {
			continue
		}
		for kind, v := range attributes(v) {
			switch {
			case kind == nl.TCA_TBF_PARMS && len(v) >= nl.SizeofTcTbfQopt:
				q := nl.DeserializeTcTbfQopt(v)
				s = plan.Shape{Rate: max(s.Rate, uint64(q.Rate.Rate)), Burst: uint64(q.Buffer), Queue: uint64(q.Limit)}
			case kind == nl.TCA_TBF_RATE64 && len(v) >= 8:
				s.Rate = binary.NativeEndian.Uint64(v)
			}
		}
	}
	return s
}

// steered finds where our filter sends what comes by a port; to is 0 if that netdev is gone.
func (c *rtnl) steered(port int) (to int, steered bool, err error) {
	all, err := c.mirreds(shaperPlace, port, mirredRedirect)
	for _, index := range all {
		to = max(to, index)
	}
	return to, len(all) > 0, err
}

// mirreds are the netdevs to which our filters at a place send frames; 0 is one that is gone.
func (c *rtnl) mirreds(at filterPlace, port int, does uint32) (to []int, err error) {
	err = c.eachAction(at, port, func() { to = nil }, func(action []byte) {
		if netdev, is := mirredTo(action, does); is {
			to = append(to, netdev)
		}
	})
	return to, err
}

// eachAction calls do for each action of our filters at a place, after reset if that begins
// anew.
func (c *rtnl) eachAction(at filterPlace, port int, reset func(), do func(action []byte)) error {
	err := c.dump(at.filter(unix.RTM_GETTFILTER, unix.NLM_F_DUMP, port), reset, func(b []byte) {
		for kind, options := range attributes(b[min(len(b), sizeofTcMsg):]) {
			if kind != nl.TCA_OPTIONS {
				continue
			}
			for kind, actions := range attributes(options) {
				if kind != nl.TCA_U32_ACT {
					continue
				}
				for _, action := range attributes(actions) {
					do(action)
				}
			}
		}
	})
	return noQueue(err)
}

// mirredTo digs the number of a netdev out of an action.
func mirredTo(action []byte, does uint32) (netdev int, is bool) {
	for kind, v := range attributes(action) {
		if kind != nl.TCA_ACT_OPTIONS {
			continue
		}
		for kind, v := range attributes(v) {
			if kind == nl.TCA_MIRRED_PARMS && len(v) >= sizeofMirred && binary.NativeEndian.Uint32(v[mirredDoes:]) == does {
				return int(binary.NativeEndian.Uint32(v[mirredNetdev:])), true
			}
		}
	}
	return 0, false
}
