package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
)

// The overlaid directories are those where container runtimes look for plugins
// and configuration and keep state.
func TestMain(m *testing.M) {
	if os.Getenv(sdk.CookieKey) != "" { // patchbayd has started this program as a plugin
		sdk.Serve(&unruly{Provider: card.New()})
	}
	os.Exit(host.Main(m.Run, "/etc", "/opt", "/var/lib", "/var/tmp"))
}

// How long to wait for what must come, and for what must not.
const (
	patience = 20 * time.Second // a busy machine with 5000 containers is slow
	silence  = 500 * time.Millisecond
)

// testHost is a host that checks, when the test ends, that nothing is left.
type testHost struct {
	*host.Host
	t      *testing.T
	before host.Snapshot
	keeps  []string // netdevs that the test made on the host itself
	daemon *host.Patchbayd
}

// withDaemon makes every host of the tests one with a patchbayd: all that a runtime
// and a user see must be the same.
const withDaemon = "PATCHBAY_TEST_DAEMON"

func newHost(t *testing.T) *testHost {
	t.Helper()
	if !host.Inside() {
		t.Skip("needs root: network namespaces")
	}
	h, err := host.New(t.TempDir())
	ok(t, err)
	th := &testHost{Host: h, t: t}
	for _, bin := range []string{"bin/patchbay", "bin/cni/patchbay"} {
		if _, err := os.Stat(filepath.Join(h.Root, bin)); err != nil {
			t.Fatalf("%v; run `make build deps`", err)
		}
	}
	t.Cleanup(th.close)
	th.before, err = h.Snapshot()
	ok(t, err)
	if os.Getenv(withDaemon) != "" {
		th.startDaemon()
	}
	return th
}

// startDaemon gives the host a patchbayd until the test ends.
func (h *testHost) startDaemon(env ...string) *host.Patchbayd {
	h.t.Helper()
	d, err := h.Patchbayd("patchbayd", env...)
	ok(h.t, err)
	h.daemon = d
	return d
}

func (h *testHost) stopDaemon() {
	h.t.Helper()
	if h.daemon == nil {
		return
	}
	ok(h.t, h.daemon.Stop())
	if h.t.Failed() {
		h.t.Logf("patchbayd:\n%s", h.daemon.Log())
	}
	h.daemon = nil
}

// close deletes the switches and teams and fails the test for anything left behind.
func (h *testHost) close() {
	h.t.Helper()
	if !h.t.Failed() {
		h.checkClean()
	}
	if h.t.Failed() {
		out, err := h.Patchbay("port", "list")
		h.t.Logf("patchbay port list (%v):\n%s", err, out)
	}
	h.stopDaemon()
	ok(h.t, h.Close())
}

func (h *testHost) checkClean() {
	h.t.Helper()
	if left := h.ports(); len(left) > 0 {
		h.t.Errorf("port records left: %v", left)
		return
	}
	var switches []struct{ Name string }
	ok(h.t, h.PatchbayJSON(&switches, "switch", "list"))
	for _, s := range switches {
		if out, err := h.Patchbay("switch", "delete", s.Name); err != nil {
			h.t.Errorf("switch delete %s: %v: %s", s.Name, err, out)
		}
	}
	var teams []struct{ Name string }
	ok(h.t, h.PatchbayJSON(&teams, "team", "list"))
	for _, x := range teams {
		if out, err := h.Patchbay("team", "delete", x.Name); err != nil {
			h.t.Errorf("team delete %s: %v: %s", x.Name, err, out)
		}
	}
	var leases []struct{ MAC string }
	ok(h.t, h.PatchbayJSON(&leases, "mac", "list"))
	if len(leases) > 0 {
		h.t.Errorf("MAC leases left: %v", leases)
	}
	h.stopDaemon()
	after, err := h.Snapshot()
	ok(h.t, err)
	left := slices.DeleteFunc(after.Since(h.before), func(s string) bool {
		return h.others(s) || slices.ContainsFunc(h.keeps, func(netdev string) bool { return strings.HasPrefix(s, "netdev "+netdev+" ") })
	})
	if len(left) > 0 {
		h.t.Errorf("left behind: %v", left)
	}
}

// others reports whether a thing is the mount of a namespace of another test's host,
// which runs beside this one.
func (h *testHost) others(thing string) bool {
	return strings.HasPrefix(thing, "mount "+filepath.Join(os.TempDir(), "Test")) && strings.Contains(thing, "/netns/") &&
		!strings.HasPrefix(thing, "mount "+h.Dir+"/")
}

// portRecord is what `patchbay port list -o json` shows of a port.
type portRecord struct {
	ID, Switch, MAC, Netdev string
	Owner                   struct{ Kind, Network, ID, Endpoint, Netns string }
	Addresses               []struct{ Prefix netip.Prefix }
	VLAN                    vswitch.PortVLAN
	Segment                 int
}

// ports lists the ports of containers.
func (h *testHost) ports() []portRecord {
	h.t.Helper()
	var all []portRecord
	ok(h.t, h.PatchbayJSON(&all, "port", "list"))
	return slices.DeleteFunc(all, func(p portRecord) bool { return p.Owner.Kind == "host" })
}

func (h *testHost) network(conflist string) *host.Network {
	h.t.Helper()
	n, err := h.Network(conflist)
	ok(h.t, err)
	return n
}

func (h *testHost) container(id string) *host.Container {
	h.t.Helper()
	c, err := h.Container(id)
	ok(h.t, err)
	return c
}

// attached makes a container and attaches it; the test detaches it.
func (h *testHost) attached(n *host.Network, id string) (*host.Container, *types100.Result) {
	h.t.Helper()
	c := h.container(id)
	r, err := n.Add(c)
	ok(h.t, err)
	return c, r
}

// outside joins the host by a NIC called nic to a network beyond it.
func (h *testHost) outside(nic string) *host.Netns {
	h.t.Helper()
	ns, err := h.Neighbour("outside-" + nic)
	ok(h.t, err)
	ok(h.t, host.Cable(h.Netns, nic, ns, "wan"))
	h.keeps = append(h.keeps, nic)
	return ns
}

func (h *testHost) tap(n *host.Netns, netdev string) *host.Tap {
	h.t.Helper()
	p, err := n.Tap(netdev)
	ok(h.t, err)
	h.t.Cleanup(func() { ok(h.t, p.Close()) })
	return p
}

func (h *testHost) run(n *host.Netns, argv ...string) string {
	h.t.Helper()
	out, err := n.Run(argv...)
	ok(h.t, err)
	return out
}

// reply is what a plugin did, as a runtime sees it.
type reply struct {
	code   int // exit code
	stdout string
	stderr string
	Code   int    `json:"code"`
	Msg    string `json:"msg"`
	Detail string `json:"details"`
}

// exec runs the plugin as a runtime does, without libcni: env and standard input
// as given.
func (h *testHost) exec(stdin string, env ...string) reply {
	h.t.Helper()
	var out, errs bytes.Buffer
	var r reply
	ok(h.t, h.Do(func() error {
		c := exec.Command(filepath.Join(h.Root, "bin/cni/patchbay"))
		c.Env = slices.Concat(h.Env(), []string{"CNI_PATH=" + strings.Join(h.PluginPath(), ":"), "PATH=" + os.Getenv("PATH")}, env)
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errs
		err := c.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			r.code = exit.ExitCode()
			return nil
		}
		return err
	}))
	r.stdout, r.stderr = out.String(), errs.String()
	if r.code != 0 {
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			h.t.Fatalf("exit %d without an error object on standard output: %q %q", r.code, r.stdout, r.stderr)
		}
	}
	return r
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func reaches(t *testing.T, from *host.Netns, dst string) {
	t.Helper()
	if err := from.Ping(netip.MustParseAddr(dst), patience); err != nil {
		t.Errorf("from %s: %v", filepath.Base(from.Path), err)
	}
}

// addresses of a result, in order, with prefix lengths.
func addresses(r *types100.Result) []string {
	var s []string
	for _, ip := range r.IPs {
		s = append(s, ip.Address.String())
	}
	return s
}

// tool finds a program that `make deps` installs.
func tool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v; run `make deps`", err)
		}
	}
}
