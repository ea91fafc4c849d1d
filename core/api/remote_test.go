package api

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// outcome is what a face gets of a verb.
type outcome struct {
	Result any
	Error  string
	Kind   vswitch.Kind
	Op     string
	Hint   string
}

func outcomeOf(result any, err error) outcome {
	o := outcome{Result: result}
	if c, ok := result.(engine.Check); ok { // steps from afar are words
		words := []string{}
		for _, step := range c.Steps {
			words = append(words, step.String())
		}
		o.Result = []any{c.Port, words}
	}
	if err == nil {
		return o
	}
	o.Error, o.Kind, o.Hint = err.Error(), vswitch.KindOf(err), vswitch.HintOf(err)
	var v *vswitch.Error
	if errors.As(err, &v) {
		o.Op = v.Op
	}
	return o
}

// aLife uses every verb, with success and without.
func aLife(v Verbs) []outcome {
	ctx := context.Background()
	var all []outcome
	did := func(result any, err error) { all = append(all, outcomeOf(result, err)) }
	name, notes, access := "prod", "for guests", false
	none := []netip.Prefix{}
	var noGateway []netip.Prefix
	did(nil, v.CanAttach(ctx, name, nil))
	s := prod()
	did(nil, v.CanAttach(ctx, name, &s))
	did(v.Attach(ctx, attach()))
	did(v.Attach(ctx, attach()))
	did(v.Attach(ctx, engine.AttachRequest{Owner: vswitch.Owner{Kind: "?", ID: "-"}, Switch: "/", MTU: 1}))
	did(v.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "prod", Type: vswitch.Private}}))
	did(v.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "lan", Type: vswitch.External, Uplink: "nic0", HostAccess: &access}}))
	did(v.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "wan", Type: vswitch.External, Uplink: "nic9"}}))
	did(v.AddSwitch(ctx, engine.AddSwitchRequest{Switch: vswitch.Switch{Name: "", Type: "?", MTU: 3}}))
	did(v.SetSwitch(ctx, name, engine.SwitchChange{Notes: &notes}))
	did(v.SetSwitch(ctx, "lan", engine.SwitchChange{Gateway: &none}))
	did(v.SetSwitch(ctx, name, engine.SwitchChange{Gateway: &noGateway, Masquerade: &vswitch.Masquerade{}}))
	did(v.SetSwitch(ctx, "other", engine.SwitchChange{}))
	did(v.Switch(ctx, name))
	did(v.Switch(ctx, "other"))
	did(v.Switches(ctx))
	did(v.Ports(ctx, ""))
	did(v.Ports(ctx, "other"))
	did(v.Port(ctx, "c"))
	did(v.Port(ctx, "nobody"))
	did(v.PortStats(ctx, engine.PortStatsRequest{}))
	did(v.PortStats(ctx, engine.PortStatsRequest{Port: "nobody"}))
	p, found, err := v.Attached(ctx, owner())
	did([]any{p, found}, err)
	p, found, err = v.Attached(ctx, vswitch.Owner{Kind: vswitch.OwnerContainer, ID: "x", Network: "n", Endpoint: "eth0"})
	did([]any{p, found}, err)
	did(v.Check(ctx, owner()))
	did(v.Check(ctx, vswitch.Owner{Kind: vswitch.OwnerContainer, ID: "x", Network: "n", Endpoint: "eth0"}))
	guest := vswitch.Owner{Kind: vswitch.OwnerVM, ID: "4a2f0f0e-7f3a-4f6b-9d1c-0c5c8f0f2b01", Endpoint: "p1", Name: "web01"}
	reserve := engine.ReservePortRequest{Owner: guest, Switch: "prod", MAC: vswitch.MAC{0x52, 0x54, 0, 0xaa, 0, 1}}
	did(v.ReservePort(ctx, reserve))
	did(v.ReservePort(ctx, engine.ReservePortRequest{Owner: guest, Switch: "other"}))
	did(v.BindPort(ctx, engine.BindPortRequest{Owner: guest, Netdev: "vnet9"}))
	did(v.BindPort(ctx, engine.BindPortRequest{Owner: vswitch.Owner{Kind: vswitch.OwnerVM}, Netdev: "?"}))
	did(v.BindPorts(ctx, []engine.BindPortRequest{{Owner: guest, Netdev: "vnet9"}}))
	did(v.ExportDomain(ctx, guest.ID))
	did(nil, v.ExpectDomain(ctx, engine.ExpectDomainRequest{Domain: guest.Domain(), State: &engine.DomainState{Version: 9}}))
	did(v.ActivateDomain(ctx, guest.ID))
	did(nil, v.ReleasePort(ctx, guest))
	did(nil, v.ReleaseDomain(ctx, guest.ID))
	did(v.HoldMAC(ctx, engine.HoldMACRequest{Domain: guest.Domain(), MAC: reserve.MAC}))
	did(v.HoldMAC(ctx, engine.HoldMACRequest{Domain: vswitch.DomainRef{Name: "db01"}, MAC: reserve.MAC}))
	did(v.ReleaseMAC(ctx, engine.ReleaseMACRequest{Domain: guest.Domain()}))
	did(v.MACPool(ctx))
	did(v.MACs(ctx))
	did(v.SetMACPool(ctx, vswitch.MACRange{First: vswitch.MAC{2, 0, 0, 0, 0, 0}, Last: vswitch.MAC{2, 0, 0, 0, 0, 255}}))
	did(v.Status(ctx))
	did(v.Topology(ctx))
	did(v.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: name}))
	did(nil, v.DeletePort(ctx, "nobody"))
	did(v.GC(ctx, engine.GCRequest{Network: "net", Valid: []vswitch.Owner{{ID: "c", Endpoint: "eth0"}}}))
	did(v.GC(ctx, engine.GCRequest{Network: "net"}))
	did(nil, v.Detach(ctx, owner()))
	did(nil, v.Detach(ctx, vswitch.Owner{}))
	did(v.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: name, Force: true}))
	did(v.DeleteSwitch(ctx, engine.DeleteSwitchRequest{Name: name, Force: true}))
	return all
}

// TestSameByDaemon lives the same life with a daemon and without: answers, kinds,
// texts and hints are equal, and every verb has been asked for.
func TestSameByDaemon(t *testing.T) {
	served, alone := newLab(t), newLab(t)
	alone.stop()
	want, got := aLife(alone.engine), aLife(served.client)
	same := []cmp.Option{
		cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, vswitch.Span{}),
		// Rolled at random, one each.
		cmpopts.IgnoreFields(engine.SwitchStatus{}, "BridgeMAC"), cmpopts.IgnoreFields(engine.Attachment{}, "HostMAC"),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".NICs" }, cmp.Ignore()),
	}
	if len(want) != len(got) {
		t.Fatalf("%d outcomes, want %d", len(got), len(want))
	}
	for i := range want {
		if diff := cmp.Diff(want[i], got[i], same...); diff != "" {
			t.Errorf("outcome %d (-alone +by daemon):\n%s", i, diff)
		}
	}
	if served.locals != 0 {
		t.Errorf("the client worked by itself %d times", served.locals)
	}
	if names := len(served.server.served); names != reflect.TypeFor[Verbs]().NumMethod() {
		t.Errorf("%d verbs are served of %d", names, reflect.TypeFor[Verbs]().NumMethod())
	}
	for _, line := range []string{"msg=attach", "switch=prod", `owner="container c"`, "msg=\"switch add\"", "kind=UPLINK_NOT_FOUND"} {
		if !strings.Contains(served.log.String(), line) {
			t.Errorf("the log lacks %s:\n%s", line, served.log)
		}
	}
}

// TestNobodyAnswers: a client that no daemon serves works by itself.
func TestNobodyAnswers(t *testing.T) {
	for _, x := range []struct {
		name string
		make func(*lab)
	}{
		{"no socket", func(l *lab) { l.stop() }},
		{"a socket that nobody listens on", func(l *lab) {
			l.stop()
			s, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.client.socket, Net: "unix"})
			if err != nil {
				l.t.Fatal(err)
			}
			s.SetUnlinkOnClose(false)
			_ = s.Close()
		}},
		{"a file in its place", func(l *lab) {
			l.stop()
			if err := os.WriteFile(l.client.socket, nil, 0o600); err != nil {
				l.t.Fatal(err)
			}
		}},
		{"another build", func(l *lab) { l.client.build = "other" }},
		{"another host", func(l *lab) { l.serveAs(func(s *Server) { s.place.Net = "other" }) }},
		{"other mounts", func(l *lab) { l.serveAs(func(s *Server) { s.place.Mount = "other" }) }},
		{"another store", func(l *lab) { l.serveAs(func(s *Server) { s.place.State = "/other" }) }},
		{"a verb that the daemon does not know", func(l *lab) { l.serveAs(func(s *Server) { delete(s.served, nameSwitches) }) }},
		{"a daemon that hangs up", func(l *lab) { l.hangUp(false) }},
		{"a daemon that dies over it", func(l *lab) { l.hangUp(true) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			l := newLab(t)
			if _, err := l.engine.AddSwitch(context.Background(), engine.AddSwitchRequest{Switch: prod()}); err != nil {
				t.Fatal(err)
			}
			x.make(l)
			all, err := l.client.Switches(context.Background())
			if err != nil || len(all) != 1 || l.locals == 0 {
				t.Errorf("got %v, %v; worked by itself %d times", all, err, l.locals)
			}
		})
	}
}

// hangUp replaces the server by one that reads a request and hangs up.
func (l *lab) hangUp(takes bool) {
	l.t.Helper()
	l.stop()
	s, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.client.socket, Net: "unix"})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = s.Close() })
	go func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			_, _ = wire.ReadFrame(c, wire.MaxRequest)
			if takes {
				_, _ = c.Write([]byte{wire.Taken, wire.Answered, 0, 0, 1, 0, '{'})
			}
			_ = c.Close()
		}
	}()
}

// TestDeletedTwice: what a dying daemon has deleted already is deleted.
func TestDeletedTwice(t *testing.T) {
	l := newLab(t)
	l.hangUp(true)
	if _, err := l.client.DeleteSwitch(context.Background(), engine.DeleteSwitchRequest{Name: "prod"}); err != nil {
		t.Errorf("a switch that is gone: %v", err)
	}
	if err := l.client.DeletePort(context.Background(), "c"); err != nil {
		t.Errorf("a port that is gone: %v", err)
	}
}

// TestOwnPaths: a path that means something else to the daemon is not handed on.
func TestOwnPaths(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/proc/self/ns/net", "/proc/thread-self/ns/net", "/dev/fd/3", "ns/net"} {
		l.locals = 0
		req := attach()
		req.Owner.Netns = path
		_, err := l.client.Attach(context.Background(), req)
		if !errors.Is(err, vswitch.NetnsNotFound) || l.locals != 1 {
			t.Errorf("%s: %v; worked by itself %d times", path, err, l.locals)
		}
	}
}

// TestSkewIsTold: status names a daemon that a restart would mend.
func TestSkewIsTold(t *testing.T) {
	l := newLab(t)
	l.client.build = "newer"
	s, err := l.client.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	last := s.Problems[len(s.Problems)-1]
	if !s.Ready || !strings.Contains(last.Message, "build") || !strings.Contains(last.Hint, "systemctl restart patchbayd") {
		t.Errorf("problems: %+v", s.Problems)
	}
}

// TestLargeRequest: what patchbayd would not read the client does itself.
func TestLargeRequest(t *testing.T) {
	l := newLab(t)
	req := engine.GCRequest{Network: "net"}
	for range 30000 {
		req.Valid = append(req.Valid, vswitch.Owner{ID: "c", Endpoint: "eth0"})
	}
	if _, err := l.client.GC(context.Background(), req); err != nil || l.locals != 1 {
		t.Errorf("%v; worked by itself %d times", err, l.locals)
	}
}
