package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// del detaches a container. It needs neither its namespace nor a previous result,
// and succeeds on what is not there. Another IPAM hears of it before the netdev
// goes, since a DHCP lease is released through it; neither failure stops the other.
func (p plugin) del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return cniError(err)
	}
	ctx := context.Background()
	return joined(c.IPAM.delegateDel(ctx, args.StdinData), p.client.Detach(ctx, c.owner(args)))
}

// check compares the attachment with what it should be: the steps that are
// missing are the message.
func (p plugin) check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return cniError(err)
	}
	prev, err := c.previous()
	if err != nil {
		return cniError(err)
	}
	if prev == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "CHECK needs a prevResult", "")
	}
	ctx := context.Background()
	if c.IPAM.delegated() {
		if err := invoke.DelegateCheck(ctx, c.IPAM.Type, args.StdinData, nil); err != nil {
			return delegateError(c.IPAM.Type, err)
		}
	}
	found, err := p.client.Check(ctx, c.owner(args))
	if err != nil {
		return cniError(err)
	}
	if err := listed(found.Port, prev); err != nil {
		return err
	}
	if len(found.Steps) == 0 {
		return nil
	}
	words := make([]string, len(found.Steps))
	for i, s := range found.Steps {
		words[i] = s.String()
	}
	return types.NewError(codeDrift, "the attachment is not as it should be; to repair it: "+strings.Join(words, "; "),
		"have the runtime delete and add the attachment again")
}

// listed compares what we know of the port with what the runtime was told.
func listed(p vswitch.Port, prev *types100.Result) error {
	for _, a := range p.Addresses {
		found := false
		for _, ip := range prev.IPs {
			found = found || ip.Address.String() == a.Prefix.String()
		}
		if !found {
			return types.NewError(codeDrift, fmt.Sprintf("prevResult lacks address %s of the attachment", a.Prefix), "")
		}
	}
	if p.Adopted {
		return nil
	}
	for _, i := range prev.Interfaces {
		if i.Sandbox != "" && i.Name == p.Owner.Endpoint {
			return nil
		}
	}
	return types.NewError(codeDrift, fmt.Sprintf("prevResult lacks interface %s of the attachment", p.Owner.Endpoint), "")
}

// status tells whether an ADD can succeed now.
func (p plugin) status(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return cniError(err)
	}
	ctx := context.Background()
	s, err := p.client.Status(ctx)
	if err != nil {
		return types.NewError(codeNotAvailable, err.Error(), vswitch.HintOf(err))
	}
	if !s.Ready {
		return notReady(s)
	}
	if err := p.client.CanAttach(ctx, c.Switch, c.define); err != nil {
		return types.NewError(codeNotAvailable, err.Error(), vswitch.HintOf(err))
	}
	if c.IPAM.delegated() {
		if err := invoke.DelegateStatus(ctx, c.IPAM.Type, args.StdinData, nil); err != nil {
			return delegateError(c.IPAM.Type, err)
		}
	}
	return nil
}

func notReady(s engine.Status) error {
	var words, hints []string
	for _, p := range s.Problems {
		words = append(words, p.Message)
		if p.Hint != "" {
			hints = append(hints, p.Hint)
		}
	}
	return types.NewError(codeNotAvailable, strings.Join(words, "; "), strings.Join(hints, "; "))
}

// gc detaches what the runtime does not list any more, and goes on after errors.
func (p plugin) gc(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return cniError(err)
	}
	if !c.listsValid {
		// Without a list nothing can be told from what is still in use. libcni sends
		// none if its caller gave none, after a DEL for everything it knows of.
		return nil
	}
	ctx := context.Background()
	req := engine.GCRequest{Network: c.Name}
	for _, a := range c.ValidAttachments {
		req.Valid = append(req.Valid, vswitch.Owner{ID: a.ContainerID, Endpoint: a.IfName})
	}
	_, err = p.client.GC(ctx, req)
	var delegated error
	if c.IPAM.delegated() {
		if derr := invoke.DelegateGC(ctx, c.IPAM.Type, args.StdinData, nil); derr != nil {
			delegated = delegateError(c.IPAM.Type, derr)
		}
	}
	return joined(err, delegated)
}

// joined is one CNI error of several: the first one's code, everybody's words.
func joined(errs ...error) error {
	var first *types.Error
	for _, err := range errs {
		if err == nil {
			continue
		}
		var e *types.Error
		if !errors.As(cniError(err), &e) {
			continue
		}
		if first == nil {
			copied := *e
			first = &copied
			continue
		}
		first.Msg += "; " + e.Msg
	}
	if first == nil {
		return nil
	}
	return first
}
