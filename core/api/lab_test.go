package api

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// lab is a server with an engine on a fake kernel, and a client of it whose own
// engine, if it needs one, is on the same kernel and store.
type lab struct {
	t      *testing.T
	kernel *kernel.Fake
	engine *engine.Engine
	server *Server
	client *remote
	log    *safeBuffer
	stop   func()
	locals int // how often the client worked by itself
}

// safeBuffer is a log that many write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const netns = "/run/netns/c"

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, log: &safeBuffer{}, kernel: kernel.NewFake(kernel.FakeConfig{
		Netdevs: []kernel.Netdev{
			{Name: "lo", Loopback: true, Up: true},
			{Name: "nic0", MAC: vswitch.MAC{0x52, 0x54, 0, 0, 0, 1}, MTU: 1500, Ethernet: true, Up: true, Carrier: true},
		},
		Capabilities: kernel.Capabilities{PortLocked: true, BridgeRules: true, GuardRules: true, ACLRules: true, NAT: true, PriorityReset: true, Limits: true, Shares: true, Mirroring: true}, Netns: []string{netns},
	})}
	dirs := store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}
	now := func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }
	l.engine = engine.New(engine.Config{
		Kernel: l.kernel, Store: store.New(store.Config{Dirs: dirs, BootID: "boot", MachineID: "machine", Now: now}), Now: now,
	})
	l.client = &remote{
		socket: filepath.Join(dirs.Run, "s"), dirs: dirs, build: wire.Build,
		local: func() Verbs { l.locals++; return l.engine },
	}
	l.serve(l.engine)
	return l
}

// serveAs serves the engine by a server that is otherwise.
func (l *lab) serveAs(otherwise func(*Server)) {
	l.t.Helper()
	l.stop()
	l.serve(l.engine, otherwise)
}

// serve begins to serve verbs, until stop.
func (l *lab) serve(v Verbs, otherwise ...func(*Server)) {
	l.t.Helper()
	var err error
	l.server, err = NewServer(ServerConfig{Verbs: v, Dirs: l.client.dirs, Log: slog.New(slog.NewTextHandler(l.log, nil))})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, change := range otherwise {
		change(l.server)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.client.socket, Net: "unix"})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.server.Serve(ctx, socket) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
	l.t.Cleanup(l.stop)
}

func owner() vswitch.Owner {
	return vswitch.Owner{Kind: vswitch.OwnerContainer, Network: "net", ID: "c", Endpoint: "eth0", Netns: netns}
}

func prod() vswitch.Switch {
	return vswitch.Switch{
		Name: "prod", Type: vswitch.Internal, Masquerade: vswitch.Masquerade{IPv4: true},
		Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")},
	}
}

func attach() engine.AttachRequest {
	s, table := prod(), 100
	return engine.AttachRequest{
		Owner: owner(), Switch: s.Name, Define: &s, MAC: vswitch.MAC{2, 0, 0, 0, 0, 7},
		Ranges:    []vswitch.IPRangeSet{{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}, {{Subnet: netip.MustParsePrefix("fd00::/64")}}},
		Requested: []netip.Addr{netip.MustParseAddr("10.0.0.9")},
		Routes:    []vswitch.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Priority: 5}, {Dst: netip.MustParsePrefix("192.0.2.0/24"), Table: &table}},
	}
}
