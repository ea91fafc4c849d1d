package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// applier turns steps into messages and sends as many together as it can: it
// goes to the kernel only when it needs an answer (the index of a netdev) or when
// the namespace changes.
type applier struct {
	kernel     *Linux
	host       *rtnl
	departures *departures // nil if deletions are waited for
	steps      []plan.Step
	pending    []request
	at         string               // the namespace that pending is for; "" is the host's
	made       map[int][]netip.Addr // the host's, by netdev, whose answers are pending

	links map[linkKey]link
	born  map[linkKey]bool // both ends of pairs made by this plan: MAC, MTU and group are set
	netns map[string]*openedNetns
}

// linkKey is a netdev in a namespace.
type linkKey struct{ netns, name string }

type openedNetns struct {
	file *os.File
	conn *rtnl
}

func (a *applier) closeNetns() {
	for _, n := range a.netns {
		if n.conn != nil {
			n.conn.close()
		}
		_ = n.file.Close()
	}
}

// stepError attributes a failure to its step; fallback is the step at work.
func (a *applier) stepError(fallback int, err error) error {
	index := fallback
	var r *requestError
	if errors.As(err, &r) {
		index, err = r.step, r.err
	}
	if errors.Is(err, unix.EPERM) {
		err = &vswitch.Error{Kind: vswitch.KernelFailed, Err: err, Hint: "run as root: this needs CAP_NET_ADMIN"}
	}
	return &StepError{Index: index, Step: a.steps[index], Err: err}
}

// queue adds a message in a namespace, after sending what is pending for another.
func (a *applier) queue(netns string, r request) error {
	if netns != a.at || len(a.pending) >= maxPending {
		if err := a.flush(); err != nil {
			return err
		}
		a.at = netns
	}
	a.pending = append(a.pending, r)
	return nil
}

func (a *applier) flush() error {
	if len(a.pending) == 0 {
		return nil
	}
	requests := a.pending
	a.pending = nil
	c, err := a.conn(a.at)
	if err != nil {
		return &requestError{step: requests[0].step, err: err}
	}
	return c.do(requests)
}

func (a *applier) conn(netns string) (*rtnl, error) {
	if netns == "" {
		return a.host, nil
	}
	n, err := a.namespace(netns)
	if err != nil {
		return nil, err
	}
	if n.conn == nil {
		n.conn, err = dialRTNLAt(n.file)
	}
	return n.conn, err
}

func (a *applier) namespace(path string) (*openedNetns, error) {
	if n, ok := a.netns[path]; ok {
		return n, nil
	}
	f, err := openNetns(path)
	if err != nil {
		return nil, err
	}
	n := &openedNetns{file: f}
	if a.netns == nil {
		a.netns = make(map[string]*openedNetns)
	}
	a.netns[path] = n
	return n, nil
}

// index returns a netdev's number, asking the kernel if no message told it yet.
func (a *applier) index(step int, netns, name string) (int, error) {
	key := linkKey{netns, name}
	if _, known := a.links[key]; !known {
		if err := a.ask(step, netns, name); err != nil {
			return 0, err
		}
	}
	if a.links[key].index == 0 { // asked for, not answered yet
		if err := a.flush(); err != nil {
			return 0, err
		}
	}
	if l := a.links[key]; l.index != 0 {
		return l.index, nil
	}
	return 0, noNetdev(name)
}

// ask queues the question for a netdev; index collects the answer.
func (a *applier) ask(step int, netns, name string) error {
	key := linkKey{netns, name}
	a.links[key] = link{}
	return a.queue(netns, request{
		NetlinkRequest: getLink(name), step: step,
		answer: func(b []byte) { a.links[key] = parseLink(b) },
		explain: func(err error) error {
			if isAbsent(err) {
				return noNetdev(name)
			}
			return err
		},
	})
}

func noNetdev(name string) error {
	return &vswitch.Error{Kind: vswitch.NotFound, Err: fmt.Errorf("netdev %s is not there: %w", name, unix.ENODEV)}
}

// send queues messages of a step for the host's namespace.
func (a *applier) send(step int, messages ...*nl.NetlinkRequest) error {
	for _, m := range messages {
		if err := a.queue("", request{NetlinkRequest: m, step: step, explain: explainLimit}); err != nil {
			return err
		}
	}
	return nil
}

// remove queues a message that takes away what may be gone already.
func (a *applier) remove(step int, netns string, m *nl.NetlinkRequest) error {
	return a.queue(netns, request{NetlinkRequest: m, step: step, absent: true})
}

// explainLimit knows the errno of a bridge that has no port number left.
func explainLimit(err error) error {
	if errors.Is(err, unix.EXFULL) {
		return &vswitch.Error{
			Kind: vswitch.SwitchFull, Err: fmt.Errorf("a Linux bridge takes 1023 ports: %w", err),
			Hint: "attach to another switch",
		}
	}
	return err
}

// step queues one step.
func (a *applier) step(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.CreateBridge:
		return a.send(i, append([]*nl.NetlinkRequest{newBridge(s.Bridge)}, setBridge(s.Bridge)...)...)
	case plan.SetBridge:
		return a.send(i, setBridge(s.Bridge)...)
	case plan.DeleteBridge:
		return a.remove(i, "", byName(unix.RTM_DELLINK, 0, s.Name, noHeader()))
	case plan.DeleteNetdev:
		return a.deleteNetdevs(i, s.Name)
	case plan.DeleteNetdevs:
		return a.deleteNetdevs(i, s.Names...)
	case plan.CreateVeth:
		return a.createVeth(i, s.Port)
	case plan.SetPort:
		return a.setPort(i, s)
	case plan.ReleasePort:
		m := setMaster(s.Name, 0)
		if s.Stays {
			m = byName(unix.RTM_NEWLINK, 0, s.Name, noHeader())
		}
		if s.Ungroup {
			m.AddData(uint32Attribute(unix.IFLA_GROUP, 0))
		}
		return a.remove(i, "", m)
	case plan.FilterVLANs:
		return a.filterVLANs(i, s)
	case plan.AddFDB:
		return a.addFDB(i, s)
	case plan.DeleteFDB:
		return a.deleteFDB(i, s)
	case plan.SetLimits:
		return a.setLimits(i, s)
	case plan.AwaitPort:
		return a.outside(func() error { return awaitPort(a.host, s.Name) })
	case plan.RequireRules:
		return a.netfilter(func(c *rtnl) error { return tablesPresent(c, s) })
	case plan.SetRules:
		return a.netfilter(func(c *rtnl) error { return applyRules(c, s) })
	case plan.SetForwarding:
		return a.outside(func() error { return setForwarding(s.Families) })
	case plan.MakeTap:
		return a.outside(func() error { return makeTap(a.host, s) })
	case plan.LendNetdev:
		return a.outside(func() error { return a.lendNetdev(s) })
	case plan.ReturnNetdev:
		return a.outside(func() error { return a.returnNetdev(s) })
	case plan.DeleteTap:
		return a.outside(func() error { return deleteTap(a.host, i, s) })
	case plan.SetVFMAC:
		return a.queue("", request{NetlinkRequest: setVFMAC(s), step: i})
	case plan.LetIn:
		return a.letIn(i, s)
	default:
		return a.teamStep(i, s)
	}
}

// endpointStep queues a step in the owner's namespace.
func (a *applier) endpointStep(i int, s plan.Step) error {
	switch s := s.(type) {
	case plan.SetEndpoint:
		fresh := a.born[linkKey{s.Endpoint.Netns, s.Endpoint.Name}]
		for _, m := range setEndpoint(s.Endpoint, fresh) {
			if err := a.queue(s.Endpoint.Netns, request{NetlinkRequest: m, step: i}); err != nil {
				return err
			}
		}
		return nil
	case plan.AddAddress:
		return a.atEndpoint(i, s.At, func(index int) *nl.NetlinkRequest {
			return addressMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, s.Address)
		})
	case plan.AddRoute:
		return a.atEndpoint(i, s.At, func(index int) *nl.NetlinkRequest {
			return routeMessage(unix.RTM_NEWROUTE, create, index, s.Route)
		})
	case plan.DeleteAddress:
		return a.removeAtEndpoint(i, s.At, func(index int) *nl.NetlinkRequest {
			return addressMessage(unix.RTM_DELADDR, 0, index, s.Address)
		})
	case plan.DeleteRoute:
		return a.removeAtEndpoint(i, s.At, func(index int) *nl.NetlinkRequest {
			return routeMessage(unix.RTM_DELROUTE, 0, index, s.Route)
		})
	}
	return a.hostStep(i, s)
}

// outside runs what is no rtnetlink message, in its place among them.
func (a *applier) outside(do func() error) error {
	if err := a.flush(); err != nil {
		return err
	}
	return do()
}

// netfilter is outside for what changes nftables.
func (a *applier) netfilter(do func(*rtnl) error) error {
	return a.outside(func() error { return a.kernel.netfilter(do) })
}

func (a *applier) atEndpoint(step int, at plan.At, message func(index int) *nl.NetlinkRequest) error {
	index, err := a.index(step, at.Netns, at.Name)
	if err != nil {
		return err
	}
	return a.queue(at.Netns, request{NetlinkRequest: message(index), step: step, explain: explainAddress})
}

// explainAddress takes what exists for done (only a route can exist, an address is
// replaced) and knows the errno of an owner that has switched IPv6 off.
func explainAddress(err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EACCES):
		return &vswitch.Error{
			Kind: vswitch.CapabilityMissing, Err: fmt.Errorf("IPv6 is switched off in the container: %w", err),
			Hint: "give the container net.ipv6.conf.all.disable_ipv6=0, or the network no IPv6 range",
		}
	}
	return err
}

// removeAtEndpoint is atEndpoint for what is gone if the endpoint is.
func (a *applier) removeAtEndpoint(step int, at plan.At, message func(index int) *nl.NetlinkRequest) error {
	index, err := a.index(step, at.Netns, at.Name)
	if errors.Is(err, vswitch.NotFound) || errors.Is(err, vswitch.NetnsNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.remove(step, at.Netns, message(index))
}
