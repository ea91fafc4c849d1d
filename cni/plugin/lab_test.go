package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/store"
	"github.com/patchbay-net/patchbay/core/store/storetest"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/core/wire"
)

// lab is the plugin on a fake kernel with a real store, and with another IPAM
// plugin, "other", that notes what it is called for and answers as told.
type lab struct {
	plugin
	t      *testing.T
	kernel *kernel.Fake
	dirs   store.Dirs
	path   string
}

const (
	netns  = "/run/netns/c"
	answer = `{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1"}]}`
)

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		t: t, dirs: store.Dirs{State: storetest.Dir(t), Run: storetest.Dir(t)}, path: t.TempDir(),
		kernel: kernel.NewFake(kernel.FakeConfig{
			Netdevs: []kernel.Netdev{{Name: "lo", Loopback: true, Up: true}}, Netns: []string{netns},
			Capabilities: kernel.Capabilities{PortLocked: true, BridgeRules: true, GuardRules: true, ACLRules: true, NAT: true, PriorityReset: true, Limits: true, Shares: true, Mirroring: true},
		}),
	}
	l.plugin = plugin{client: engine.New(engine.Config{
		Kernel: l.kernel, Store: store.New(store.Config{Dirs: l.dirs, BootID: "boot", MachineID: "machine"}),
	})}
	t.Setenv("CNI_PATH", l.path)
	for _, verb := range []string{"DEL", "CHECK", "GC", "STATUS"} {
		l.answers(verb, "", 0)
	}
	l.answers("ADD", answer, 0)
	script := "#!/bin/sh\ncd '" + l.path + "'\necho $CNI_COMMAND >>calls\ncat >stdin\ncat $CNI_COMMAND.out\nexit $(cat $CNI_COMMAND.exit)\n"
	l.write("other", script)
	return l
}

// answers has the other plugin answer a verb in that way from now on.
func (l *lab) answers(verb, output string, exit int) {
	l.t.Helper()
	l.write(verb+".out", output)
	l.write(verb+".exit", string(rune('0'+exit)))
}

func (l *lab) write(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.path, name), []byte(text), 0o755); err != nil {
		l.t.Fatal(err)
	}
}

// calls is what the other plugin was called for since the last time.
func (l *lab) calls() string {
	l.t.Helper()
	file := filepath.Join(l.path, "calls")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.Remove(file)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		l.t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// on is a configuration with an Internal switch and more.
func on(more string) string {
	return conf(`"switch":{"name":"prod","type":"internal","gateway":["10.0.0.1/24","fd00::1/64"]}` + more)
}

// Of the two kinds of IPAM.
const (
	own   = `,"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"fd00::/64"}]]}`
	other = `,"ipam":{"type":"other"}`
)

func args(conf string) wire.Call {
	return wire.Call{ContainerID: "c", IfName: "eth0", Netns: netns, Stdin: []byte(conf)}
}

// attached is an ADD that must succeed.
func (l *lab) attached(conf string) *types100.Result {
	l.t.Helper()
	r, err := l.tryAttach(args(conf))
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// tryAttach is ADD but for the printing.
func (l *lab) tryAttach(a wire.Call) (*types100.Result, error) {
	c, err := parse(a.Stdin)
	if err != nil {
		return nil, err
	}
	return l.attach(context.Background(), c, a)
}

// port is the one port there is, or nothing.
func (l *lab) port() (p vswitch.Port, found bool) {
	l.t.Helper()
	p, found, err := l.client.Attached(context.Background(), ownerOf("net", args("")))
	if err != nil {
		l.t.Fatal(err)
	}
	return p, found
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		var e *types.Error
		if errors.As(err, &e) {
			l.t.Fatalf("code %d: %s; %s", e.Code, e.Msg, e.Details)
		}
		l.t.Fatal(err)
	}
}
