package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestAttachTwiceIsOnePort(t *testing.T) {
	l := newLab(t)
	first := l.mustAttach(request(0))
	picture := l.kernel.String()
	again := l.mustAttach(request(0))
	if first.Port.MAC != again.Port.MAC || len(again.Port.Addresses) != 2 || first.Port.Addresses[0] != again.Port.Addresses[0] {
		t.Errorf("attached again with other addresses: %+v, then %+v", first.Port, again.Port)
	}
	if diff := cmp.Diff(picture, l.kernel.String()); diff != "" {
		t.Errorf("attaching again changed the kernel:\n%s", diff)
	}
	other := request(0)
	other.MACSpoofing = true
	_, err := l.Attach(context.Background(), other)
	wantKind(t, err, vswitch.Conflict)
}

func TestDetachIsIdempotent(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	before := l.kernel.String()
	l.mustDetach(0) // never attached
	l.mustAttach(request(0))
	l.kernel.RemoveNetns(netns(0)) // the runtime was faster
	l.mustDetach(0)
	l.mustDetach(0)
	l.kernel.AddNetns(netns(0))
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("detach left something:\n%s", diff)
	}
	l.wantNoGuests()
}

// A container that was killed and started again under its old id has a new
// namespace: its port follows.
func TestAttachInANewNamespace(t *testing.T) {
	l := newLab(t)
	l.mustAttach(request(0))
	l.kernel.RemoveNetns(netns(0))
	req := request(0)
	req.Owner.Netns = netns(5)
	a := l.mustAttach(req)
	p, err := l.Port(context.Background(), a.Port.ID)
	if err != nil || len(p.Drift) > 0 {
		t.Errorf("the port did not follow: %v, %v", p.Drift, err)
	}
}

func TestAttachRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*engine.AttachRequest)
		kind   vswitch.Kind
	}{
		"no such switch":         {func(r *engine.AttachRequest) { r.Switch, r.Define = "other", nil }, vswitch.NotFound},
		"no such namespace":      {func(r *engine.AttachRequest) { r.Owner.Netns = "/run/netns/gone" }, vswitch.NetnsNotFound},
		"container id":           {func(r *engine.AttachRequest) { r.Owner.ID = "../etc" }, vswitch.Invalid},
		"interface name":         {func(r *engine.AttachRequest) { r.Owner.Endpoint = "waytoolonganinterface" }, vswitch.Invalid},
		"multicast MAC":          {func(r *engine.AttachRequest) { r.MAC = vswitch.MAC{1, 2, 3, 4, 5, 6} }, vswitch.MACInvalid},
		"MAC of a NIC":           {func(r *engine.AttachRequest) { r.MAC = vswitch.MAC{0x52, 0x54, 0, 0, 0, 1} }, vswitch.MACDuplicate},
		"MAC of a VF":            {func(r *engine.AttachRequest) { r.MAC = vswitch.MAC{0x52, 0x54, 0, 0, 1, 0} }, vswitch.MACDuplicate},
		"static MAC in the pool": {func(r *engine.AttachRequest) { r.MAC = vswitch.DefaultMACRange("machine").Last }, vswitch.MACStaticInPool},
		"MTU over the switch's":  {func(r *engine.AttachRequest) { r.MTU = 9000 }, vswitch.Invalid},
		"address outside": {func(r *engine.AttachRequest) {
			r.Requested = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
		}, vswitch.IPRangeInvalid},
		"the gateway's address": {func(r *engine.AttachRequest) {
			r.Requested = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
		}, vswitch.IPRangeInvalid},
		"address in use": {func(r *engine.AttachRequest) {
			r.Requested = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
		}, vswitch.IPInUse},
		"route without gateway": {func(r *engine.AttachRequest) {
			r.Ranges = ranges("10.0.0.0/24")
		}, vswitch.Invalid},
		"another definition": {func(r *engine.AttachRequest) {
			s := internal()
			s.Gateway = s.Gateway[:1]
			r.Define = &s
		}, vswitch.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.mustAttach(request(7)) // holds 10.0.0.2
			picture := l.kernel.String()
			macs, _ := l.MACs(context.Background())
			req := request(0)
			c.change(&req)
			_, err := l.Attach(context.Background(), req)
			wantKind(t, err, c.kind)
			if diff := cmp.Diff(picture, l.kernel.String()); diff != "" {
				t.Errorf("a refused attach left something:\n%s", diff)
			}
			if after, _ := l.MACs(context.Background()); len(after) != len(macs) {
				t.Errorf("a refused attach holds a MAC address: %v", after)
			}
		})
	}
}

func TestRequestedAddresses(t *testing.T) {
	l := newLab(t)
	req := request(0)
	req.MAC = vswitch.MAC{0x02, 0, 0, 0, 0, 0x42}
	req.Requested = []netip.Addr{netip.MustParseAddr("fd00::99"), netip.MustParseAddr("10.0.0.99")}
	a := l.mustAttach(req)
	var got []string
	for _, addr := range a.Port.Addresses {
		got = append(got, addr.Prefix.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.99/24", "fd00::99/64"}, got); diff != "" {
		t.Error(diff)
	}
	if a.Port.MAC != req.MAC || !a.Port.StaticMAC {
		t.Errorf("MAC address is %s", a.Port.MAC)
	}
}

// Whatever step of an attach fails, nothing is left but the switch.
func TestAttachUndoesItself(t *testing.T) {
	var before string
	prepare := func(t *testing.T) *lab {
		l := newLab(t)
		l.mustAdd(internal())
		before = l.kernel.String()
		return l
	}
	verb := func(l *lab) error { _, err := l.Attach(context.Background(), request(0)); return err }
	eachStepFails(t, prepare, verb, func(step int, l *lab) {
		if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
			t.Errorf("step %d left:\n%s", step, diff)
		}
		l.wantNoGuests()
	})
}

// stepsOf counts the kernel steps of a verb.
func stepsOf(t *testing.T, prepare func(*lab), verb func(*lab) error) int {
	t.Helper()
	l := newLab(t)
	prepare(l)
	before := l.kernel.Steps()
	if err := verb(l); err != nil {
		t.Fatal(err)
	}
	n := l.kernel.Steps() - before
	if n == 0 {
		t.Fatal("the verb takes no step")
	}
	return n
}

// A process that is killed before any step of any verb leaves nothing that the
// next Detach, GC and delete do not remove.
func TestKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	none := func(*lab) {}
	attached := func(l *lab) { l.mustAttach(request(0)) }
	withACL := func() engine.AttachRequest {
		req := request(0)
		req.Policy.ACL = ptr(aclRules(t, "deny out to 10.0.0.0/8", "allow in tcp weight 9 stateful"))
		return req
	}
	for name, c := range map[string]struct {
		prepare func(*lab)
		verb    func(*lab) error
	}{
		"attach": {none, func(l *lab) error { _, err := l.Attach(ctx, request(0)); return err }},
		"detach": {attached, func(l *lab) error { return l.Detach(ctx, owner(0)) }},
		"add": {none, func(l *lab) error {
			_, err := l.AddSwitch(ctx, engine.AddSwitchRequest{Switch: internal()})
			return err
		}},
		"set": {attached, func(l *lab) error {
			_, err := l.SetSwitch(ctx, "prod", engine.SwitchChange{Gateway: ptr(internal().Gateway[:1]), Masquerade: &vswitch.Masquerade{}})
			return err
		}},
		"delete":             {attached, func(l *lab) error { return l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}) }},
		"attach with an ACL": {none, func(l *lab) error { _, err := l.Attach(ctx, withACL()); return err }},
		"another ACL": {func(l *lab) { l.mustAttach(withACL()) }, func(l *lab) error {
			_, err := l.SetPort(ctx, owner(0).PortID(), engine.PortChange{Policy: vswitch.PolicyChange{ACL: ptr(aclRules(t, "deny in any"))}})
			return err
		}},
		"no ACL": {func(l *lab) { l.mustAttach(withACL()) }, func(l *lab) error {
			_, err := l.SetPort(ctx, owner(0).PortID(), engine.PortChange{Policy: vswitch.PolicyChange{ACL: &[]vswitch.ACLRule{}}})
			return err
		}},
		"detach with an ACL": {func(l *lab) { l.mustAttach(withACL()) }, func(l *lab) error { return l.Detach(ctx, owner(0)) }},
		"gc":                 {attached, func(l *lab) error { _, err := l.GC(ctx, engine.GCRequest{Network: "net"}); return err }},
	} {
		steps := stepsOf(t, c.prepare, c.verb)
		for n := 1; n <= steps; n++ {
			for _, cleaner := range []string{"detach", "gc", "again"} {
				t.Run(fmt.Sprintf("%s step %d then %s", name, n, cleaner), func(t *testing.T) {
					l := newLab(t)
					pristine := l.kernel.String()
					c.prepare(l)
					l.kernel.DieAt(n)
					if !dies(func() error { return c.verb(l) }) {
						t.Fatal("the process was not killed")
					}
					l.kernel.Revive()
					l.open()
					l.sweep(cleaner, func() error { return c.verb(l) })
					l.wantClean(pristine)
				})
			}
		}
	}
}

// sweep is what a user or runtime does after a crash.
func (l *lab) sweep(cleaner string, again func() error) {
	l.t.Helper()
	ctx := context.Background()
	switch cleaner {
	case "detach":
		l.mustDetach(0)
	case "gc":
		if _, err := l.GC(ctx, engine.GCRequest{Network: "net"}); err != nil {
			l.t.Fatal(err)
		}
	case "again":
		if err := again(); err != nil && !errors.Is(err, vswitch.NotFound) {
			l.t.Fatal(err)
		}
	}
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod", Force: true}); err != nil && !errors.Is(err, vswitch.NotFound) {
		l.t.Fatal(err)
	}
}

func TestConcurrentAttachAndDetach(t *testing.T) {
	l := newLab(t)
	const workers, each = 8, 12
	for i := range workers * each {
		l.kernel.AddNetns(netns(i))
	}
	pristine := l.kernel.String()
	seen := sync.Map{}
	parallel(workers, func(w int) {
		for k := range each {
			a, err := l.Attach(context.Background(), request(w*each+k))
			if err != nil {
				t.Error(err)
				return
			}
			for _, key := range []any{a.Port.MAC, a.Port.Addresses[0].Prefix, a.Port.Addresses[1].Prefix} {
				if by, taken := seen.LoadOrStore(key, a.Port.ID); taken {
					t.Errorf("%v is held by %s and %s", key, by, a.Port.ID)
				}
			}
		}
	})
	parallel(workers, func(w int) {
		for k := range each {
			if err := l.Detach(context.Background(), owner(w*each+k)); err != nil {
				t.Error(err)
			}
		}
	})
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"}); err != nil {
		t.Fatal(err)
	}
	l.wantClean(pristine)
}

func parallel(n int, do func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

func TestAttachRacingDetach(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	before := l.kernel.String()
	for range 30 {
		parallel(2, func(i int) {
			if i == 0 {
				_, _ = l.Attach(context.Background(), request(0))
			} else if err := l.Detach(context.Background(), owner(0)); err != nil {
				t.Error(err)
			}
		})
		l.mustDetach(0)
		if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
			t.Fatalf("left:\n%s", diff)
		}
		l.wantNoGuests()
	}
}

// A store that cannot be read is told, and the netdev, whose name needs no store,
// goes all the same.
func TestDetachWithoutStore(t *testing.T) {
	l := newLab(t)
	l.mustAdd(internal())
	before := l.kernel.String()
	l.mustAttach(request(0))
	files, err := filepath.Glob(filepath.Join(l.dirs.Run, "*.db"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no store in %s: %v", l.dirs.Run, err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(strings.Repeat("garbage", 4096)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, l.Detach(context.Background(), owner(0)), vswitch.StoreCorrupt)
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the port is still there:\n%s", diff)
	}
	_, err = l.Attach(context.Background(), request(1))
	wantKind(t, err, vswitch.StoreCorrupt)
}

func TestAdoptedNetdev(t *testing.T) {
	l := newLab(t)
	pristine := l.kernel.String()
	tap := kernel.Netdev{Name: "tap0", Kind: "tun", MTU: 1500, Ethernet: true, Up: true}
	l.kernel.AddNetdev(tap)
	l.mustAdd(internal())
	before := l.kernel.String()
	req := request(0)
	req.Netdev, req.MAC = "tap0", vswitch.MAC{0x52, 0x54, 0, 0, 0, 0x77}
	a := l.mustAttach(req)
	if n, _ := l.kernel.Netdev(context.Background(), "tap0"); n.Master != "pb-prod" {
		t.Errorf("tap0 is %+v", n)
	}
	if !a.Port.Adopted || a.Port.Netdev != "tap0" || len(a.Port.Addresses) != 2 {
		t.Errorf("port %+v", a.Port)
	}
	if p, err := l.Port(context.Background(), a.Port.ID); err != nil || len(p.Drift) > 0 {
		t.Errorf("drift %v, %v", p.Drift, err)
	}
	l.mustDetach(0)
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the tap is not as it was:\n%s", diff)
	}
	// What its owner has taken out of the bridge leaves our group all the same.
	l.mustAttach(req)
	must(t, l.kernel.Apply(context.Background(), releasing("tap0")))
	l.mustDetach(0)
	if diff := cmp.Diff(before, l.kernel.String()); diff != "" {
		t.Errorf("the tap is not as it was:\n%s", diff)
	}
	// What its owner has moved to another bridge meanwhile stays there.
	l.mustAttach(req)
	l.kernel.AddNetdev(kernel.Netdev{Name: "br0", Kind: "bridge", MTU: 1500, Ethernet: true})
	tap.Master = "br0"
	l.kernel.AddNetdev(tap)
	l.mustDetach(0)
	if n, _ := l.kernel.Netdev(context.Background(), "tap0"); n.Master != "br0" {
		t.Errorf("a tap that moved away was touched: %+v", n)
	}
	l.kernel.RemoveNetdev("br0")
	req.Netdev = "nic9"
	_, err := l.Attach(context.Background(), req)
	wantKind(t, err, vswitch.NotFound)
	l.kernel.RemoveNetdev("tap0")
	if err := l.deleteSwitch(engine.DeleteSwitchRequest{Name: "prod"}); err != nil {
		t.Fatal(err)
	}
	l.wantClean(pristine)
}

func TestAddressRequestedTwice(t *testing.T) {
	l := newLab(t)
	req := request(0)
	req.Requested = []netip.Addr{netip.MustParseAddr("10.0.0.50"), netip.MustParseAddr("10.0.0.50")}
	if a := l.mustAttach(req); a.Port.Addresses[0].Prefix.Addr() != req.Requested[0] {
		t.Errorf("got %s", a.Port.Addresses[0].Prefix)
	}
}
