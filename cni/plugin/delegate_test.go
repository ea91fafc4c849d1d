package plugin

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// ADD again, as after a restart of the runtime, must neither ask another IPAM
// again nor have it take back what is in use.
func TestAddAgainWithAnotherIPAM(t *testing.T) {
	l := newLab(t)
	first := l.attached(on(other))
	if calls := l.calls(); calls != "ADD" {
		t.Fatalf("the other plugin was called for %q", calls)
	}
	l.answers("ADD", `{"code":99,"msg":"there is a lease already"}`, 1)
	again := l.attached(on(other))
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same attachment has another result:\n%s", diff)
	}
	l.answers("ADD", answer, 0)
	if _, err := l.tryAttach(args(on(`,"mtu":1400` + other))); err == nil {
		t.Error("another MTU for what is attached")
	}
	if calls := l.calls(); calls != "" {
		t.Errorf("the other plugin was called for %q, which frees or doubles a live lease", calls)
	}
	if p, found := l.port(); !found || len(p.Addresses) != 1 {
		t.Errorf("port %+v, %v", p, found)
	}
}

// A failed ADD of the other plugin's is undone by it, and so is what it gave for
// an attachment that failed.
func TestFailedAddIsTakenBack(t *testing.T) {
	const impossible = `{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.7/24"}],"routes":[{"dst":"fd77::/64"}]}`
	for name, c := range map[string]struct {
		answer string
		exit   int
		code   uint
		says   string
	}{
		"its own code":    {`{"code":77,"msg":"no more","details":"more"}`, 1, 77, "no more"},
		"code 999":        {`{"code":999,"msg":"oops"}`, 1, codeDelegate, "oops"},
		"no code":         {`{"msg":"oops"}`, 1, codeDelegate, "oops"},
		"no words":        {``, 1, codeDelegate, "other"},
		"no JSON":         {`nonsense`, 0, codeDelegate, "other"},
		"no addresses":    {`{"cniVersion":"1.1.0"}`, 0, codeDelegate, "no address"},
		"null address":    {`{"cniVersion":"1.1.0","ips":[null]}`, 0, codeDelegate, "ips[0]"},
		"null, old":       {`{"cniVersion":"0.4.0","ips":[null]}`, 0, codeDelegate, "ips[0]"},
		"null route":      {strings.Replace(answer, `"ips"`, `"routes":[null],"ips"`, 1), 0, codeDelegate, "routes[0]"},
		"empty address":   {`{"cniVersion":"1.1.0","ips":[{}]}`, 0, codeDelegate, "no address"},
		"empty route":     {strings.Replace(answer, `"ips"`, `"routes":[{}],"ips"`, 1), 0, codeDelegate, "no subnet"},
		"our own failure": {impossible, 0, types.ErrInvalidNetworkConfig, "fd77::/64"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.answers("ADD", c.answer, c.exit)
			_, err := l.tryAttach(args(on(other)))
			wantCode(t, err, c.code, c.says)
			if calls := l.calls(); calls != "ADD DEL" {
				t.Errorf("the other plugin was called for %q, want ADD DEL", calls)
			}
			l.answers("DEL", `{"code":5,"msg":"disk full"}`, 1)
			_, err = l.tryAttach(args(on(other)))
			wantCode(t, err, c.code, c.says, "disk full")
		})
	}
}

// An ADD that fails because another one beside it has won must leave the lease to
// that one.
func TestLeaseOfAnAddBesideThisOne(t *testing.T) {
	l := newLab(t)
	l.attached(on(other))
	l.calls()
	a := args(on(other))
	c, err := parse(a.Stdin)
	l.must(err)
	l.must(l.giveBack(context.Background(), c, a.Stdin, ownerOf("net", a)))
	if calls := l.calls(); calls != "" {
		t.Errorf("the other plugin was called for %q", calls)
	}
	a.ContainerID = "failed"
	l.must(l.giveBack(context.Background(), c, a.Stdin, ownerOf("net", a)))
	if calls := l.calls(); calls != "DEL" {
		t.Errorf("the other plugin was called for %q, want DEL", calls)
	}
}

func TestMissingPlugin(t *testing.T) {
	l := newLab(t)
	_, err := l.tryAttach(args(on(`,"ipam":{"type":"absent"}`)))
	wantCode(t, err, codeNotAvailable, "absent", "CNI_PATH")
	l.attached(on(own))
	wantCode(t, l.del(t.Context(), args(on(`,"ipam":{"type":"absent"}`))), codeNotAvailable, "absent")
	if _, found := l.port(); found {
		t.Error("the port is still there because another plugin is not")
	}
}

// Each verb reaches the other plugin, with its errors told.
func TestVerbsReachTheOtherPlugin(t *testing.T) {
	l := newLab(t)
	r := l.attached(on(other))
	l.calls()
	prev := prevResult(t, r)
	for _, c := range []struct {
		verb string
		do   func() error
	}{
		{"STATUS", func() error { return l.status(t.Context(), args(on(other))) }},
		{"CHECK", func() error { return l.check(t.Context(), args(on(other+prev))) }},
		{"GC", func() error {
			return l.gc(t.Context(), args(on(other+`,"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]`)))
		}},
		{"DEL", func() error { return l.del(t.Context(), args(on(other))) }},
	} {
		t.Run(c.verb, func(t *testing.T) {
			l.must(c.do())
			l.answers(c.verb, `{"code":999,"msg":"oops"}`, 1)
			wantCode(t, c.do(), codeDelegate, "oops", "other")
			l.answers(c.verb, "", 0)
			if calls := l.calls(); calls != c.verb+" "+c.verb {
				t.Errorf("the other plugin was called for %q", calls)
			}
		})
	}
	l.attached(on(own)) // is as before with our own
	l.calls()
	l.must(l.check(t.Context(), args(on(own+prevResult(t, l.attached(on(own)))))))
	if calls := l.calls(); calls != "" {
		t.Errorf("with our own IPAM the other plugin was called for %q", calls)
	}
}

// Everything that a route and an address of another IPAM say arrives.
func TestDelegatedResult(t *testing.T) {
	l := newLab(t)
	l.answers("ADD", `{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1"},{"address":"fd00::7/64"}],
		"routes":[{"dst":"10.9.0.0/16","gw":"10.0.0.9","mtu":1400,"advmss":1300,"priority":7,"table":100,"scope":0},{"dst":"0.0.0.0/0"}],
		"dns":{"nameservers":["10.0.0.53"]}}`, 0)
	r := l.attached(on(`,"ipam":{"type":"other","dad":true}`))
	if diff := cmp.Diff([]string{"10.0.0.53"}, r.DNS.Nameservers); diff != "" {
		t.Error(diff)
	}
	p, _ := l.port()
	hundred, zero := 100, 0
	gw := netip.MustParseAddr("10.0.0.1")
	wantAddresses := []vswitch.Address{
		{Prefix: netip.MustParsePrefix("10.0.0.7/24"), Gateway: gw, DAD: true},
		{Prefix: netip.MustParsePrefix("fd00::7/64"), DAD: true},
	}
	wantRoutes := []vswitch.Route{
		{
			Dst: netip.MustParsePrefix("10.9.0.0/16"), Gateway: netip.MustParseAddr("10.0.0.9"),
			MTU: 1400, AdvMSS: 1300, Priority: 7, Table: &hundred, Scope: &zero,
		},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: gw},
	}
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	samePrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(wantAddresses, p.Addresses, same, samePrefix); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantRoutes, p.Routes, same, samePrefix); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprint(r.Routes[0]); !strings.Contains(got, "1300") || !strings.Contains(got, "100") {
		t.Errorf("the result's route: %s", got)
	}
}
