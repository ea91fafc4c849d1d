package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
	plugins "github.com/patchbay-net/patchbay/sdk/host"
)

// unruly is the example's plugin, which does what it should until a setting says otherwise.
type unruly struct {
	*card.Provider
	habit string
}

func (u *unruly) Describe(ctx context.Context) (sdk.Description, error) {
	d, err := u.Provider.Describe(ctx)
	d.Name = "unruly"
	d.Schema = append(d.Schema, sdk.Field{Key: "habit", Type: sdk.String, Doc: "what it does wrong"})
	return d, err
}

func (u *unruly) Configure(ctx context.Context, c sdk.Config) error {
	u.habit = c.Text("habit")
	return u.Provider.Configure(ctx, c)
}

func (u *unruly) Ensure(ctx context.Context, r sdk.Request) (sdk.Grant, error) {
	g, err := u.Provider.Ensure(ctx, r)
	if u.habit == "lies" {
		g.Port = "another"
	}
	return g, err
}

func (u *unruly) WatchInventory(ctx context.Context, tell func(sdk.Inventory) error) error {
	for u.habit == "floods" {
		var all sdk.Inventory
		for i := range 10_000 {
			all.NICs = append(all.NICs, sdk.NIC{ID: fmt.Sprint(i), Model: strings.Repeat("x", 500)})
		}
		if err := tell(all); err != nil {
			return err
		}
	}
	return u.Provider.WatchInventory(ctx, tell)
}

// pluginDir is where plugins and their settings are in these tests. Root alone may write to it.
const pluginDir = "/opt/patchbay-test"

// withPlugins is the environment of a patchbayd whose plugins are in pluginDir.
func withPlugins() []string {
	return []string{"PATCHBAY_PLUGIN_DIRS=" + pluginDir, "PATCHBAY_PLUGIN_SETTINGS=" + pluginDir}
}

// install puts a program there as a plugin, and settings makes what is set of it.
func (h *testHost) install(program, name string) {
	h.t.Helper()
	ok(h.t, os.MkdirAll(pluginDir, 0o755))
	from, err := os.Open(program)
	ok(h.t, err)
	defer from.Close() //nolint:errcheck // it was only read
	path := filepath.Join(pluginDir, sdk.ExecutablePrefix+name)
	to, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	ok(h.t, err)
	_, err = io.Copy(to, from)
	ok(h.t, err)
	ok(h.t, to.Close())
	ok(h.t, os.Rename(path+".new", path))
	h.t.Cleanup(func() { _ = os.RemoveAll(pluginDir) })
}

func (h *testHost) settings(name string, values map[string]any) {
	h.t.Helper()
	text, err := json.Marshal(values)
	ok(h.t, err)
	ok(h.t, os.MkdirAll(pluginDir, 0o755))
	path := filepath.Join(pluginDir, name+".json")
	ok(h.t, os.WriteFile(path+".new", text, 0o644))
	ok(h.t, os.Rename(path+".new", path))
}

// misruled is a host whose uplink the unruly plugin serves, with one container that requires
// a queue of it and has it.
type misruled struct {
	*testHost
	outside           *host.Netns
	requires, prefers *host.Network
	one               *host.Container
}

func newMisruled(t *testing.T) *misruled {
	t.Helper()
	h := newHost(t)
	h.stopDaemon()
	m := &misruled{testHost: h, outside: h.outside("eth0")}
	h.script(m.outside, "addr add 10.9.0.1/24 dev wan")
	h.startDaemon(withPlugins()...)
	h.patchbay("switch", "add", "wan", "--uplink", "eth0")
	network := func(mode string) *host.Network {
		return h.network(fmt.Sprintf(`{"cniVersion":"1.1.0","name":"%s","plugins":[{"type":"patchbay","switch":"wan","offload":{"vmq":{"mode":"%s"}},
			"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.9.0.0/24","rangeStart":"10.9.0.2"}]]}}]}`, mode, mode))
	}
	m.requires, m.prefers = network("require"), network("prefer")
	self, err := os.Executable()
	ok(t, err)
	n := h.daemon.Lines()
	m.behave("")
	h.install(self, "unruly") // patchbayd runs already, and notices
	m.awaitLine(n, "plugin started", "plugin=unruly")
	m.one, _ = h.attached(m.requires, "one")
	return m
}

// behave sets what the plugin does wrong; patchbayd starts it anew then.
func (m *misruled) behave(habit string) {
	m.t.Helper()
	m.settings("unruly", map[string]any{"netdevs": []string{"eth0"}, "habit": habit})
}

func (m *misruled) awaitLine(n int, words ...string) string {
	m.t.Helper()
	line, err := m.daemon.Await(n, patience, words...)
	ok(m.t, err)
	return line
}

// pid is the plugin's process by a line of patchbayd's.
func (m *misruled) pid(line string) int {
	m.t.Helper()
	found := regexp.MustCompile(`pid=(\d+)`).FindStringSubmatch(line)
	if found == nil {
		m.t.Fatalf("no process in %q", line)
	}
	pid, err := strconv.Atoi(found[1])
	ok(m.t, err)
	return pid
}

// running is the plugin's process by now.
func (m *misruled) running() int {
	m.t.Helper()
	var last string
	for line := range strings.Lines(m.daemon.Log()) {
		if strings.Contains(line, "plugin started") {
			last = line
		}
	}
	return m.pid(last)
}

// vmq is what the container has of a queue: "yes", or the reason.
func (m *misruled) vmq() string {
	m.t.Helper()
	var all []engine.SwitchOffload
	ok(m.t, m.PatchbayJSON(&all, "port", "list", "--offload"))
	for _, s := range all {
		for _, p := range s.Ports {
			for _, f := range p.Features {
				switch {
				case p.Owner.ID != "one" || f.Feature != vswitch.VMQ:
				case f.Effective:
					return "yes"
				default:
					return string(f.Reason)
				}
			}
		}
	}
	return "nothing"
}

// awaitVMQ looks whenever patchbayd has logged something.
func (m *misruled) awaitVMQ(want string) {
	m.t.Helper()
	limit := time.After(patience)
	for {
		more := m.daemon.More()
		got := m.vmq()
		if got == want {
			return
		}
		select {
		case <-more:
		case <-limit:
			m.t.Fatalf("it is %s, not %s:\n%s", got, want, m.daemon.Log())
		}
	}
}

// software: the container works while its plugin does not, and its status says why it has no
// queue. So does one that is attached by now, unless it requires a queue.
func (m *misruled) software() {
	m.t.Helper()
	m.awaitVMQ("PROVIDER_FAILED")
	reaches(m.t, m.one.Netns, "10.9.0.1")
	if out := m.patchbay("port", "show", "one"); !strings.Contains(out, "the plugin that serves the NIC failed") {
		m.t.Errorf("port show says\n%s", out)
	}
	another := m.container("another")
	if _, err := m.requires.Add(another); err == nil || !strings.Contains(err.Error(), "vmq is required") {
		m.t.Errorf("what it requires is not there: %v", err)
	}
	_, err := m.prefers.Add(another)
	ok(m.t, err)
	reaches(m.t, another.Netns, "10.9.0.1")
	ok(m.t, m.prefers.Del(another))
	ok(m.t, another.Close())
}

// TestPluginFailures: whatever becomes of a plugin's process, patchbayd and the ports go on,
// and ports have their queues again when it is well.
func TestPluginFailures(t *testing.T) {
	m := newMisruled(t)
	defer func() { ok(t, m.requires.Del(m.one)) }()
	m.awaitVMQ("yes")

	frozen := m.running() // before it has failed: patchbayd starts another one at once
	ok(t, syscall.Kill(frozen, syscall.SIGSTOP))
	n := m.daemon.Lines()
	begun := time.Now()
	b, _ := m.attached(m.prefers, "b")
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("an ADD that need not wait for the plugin took %s", took)
	}
	reaches(t, b.Netns, "10.9.0.1")
	ok(t, m.prefers.Del(b))
	begun = time.Now()
	c := m.container("c")
	_, err := m.requires.Add(c)
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("an ADD that the plugin holds up took %s: %v", took, err)
	}
	t.Logf("ADD that requires what a frozen plugin serves: %s, %v", time.Since(begun), err)
	m.awaitLine(n, "plugin failed", "it hangs")
	m.awaitLine(n, "plugin started")
	ok(t, m.requires.Del(c))
	m.awaitVMQ("yes")

	for failures := 2; failures <= 5; failures++ {
		pid := m.running()
		n = m.daemon.Lines()
		ok(t, syscall.Kill(pid, syscall.SIGKILL))
		m.awaitLine(n, "plugin failed", fmt.Sprintf("failures=%d", failures))
		reaches(t, m.one.Netns, "10.9.0.1")
		if failures < 5 {
			m.awaitLine(n, "plugin started")
		}
	}
	m.software()
	if out := m.patchbay("status"); !strings.Contains(out, "plugin unruly: ") {
		t.Errorf("status says\n%s", out)
	}
	self, err := os.Executable()
	ok(t, err)
	m.install(self, "unruly") // a better version, it is tried at once
	m.awaitVMQ("yes")

	for habit, says := range map[string]string{"lies": "the plugin answered nonsense", "floods": "larger than max"} {
		n = m.daemon.Lines()
		m.behave(habit)
		m.awaitLine(n, says)
		m.software()
		m.behave("")
		m.awaitVMQ("yes")
	}

	ok(t, os.MkdirAll(filepath.Dir(plugins.ChecksumFile), 0o755))
	n = m.daemon.Lines()
	ok(t, os.WriteFile(plugins.ChecksumFile, []byte("# nobody is trusted\n"), 0o644))
	m.awaitLine(n, "no checksum of it is listed")
	m.software()
	ok(t, os.Remove(plugins.ChecksumFile))
	m.awaitVMQ("yes")
	ok(t, os.RemoveAll(pluginDir))
	m.awaitVMQ("NO_PROVIDER")
	reaches(t, m.one.Netns, "10.9.0.1")
	m.install(self, "unruly")
	m.behave("")
	m.awaitVMQ("yes")

	if kB := m.resident(); kB > 300_000 {
		t.Errorf("patchbayd has grown to %d kB", kB)
	}
}

// resident is the memory of patchbayd at its most, in kB.
func (m *misruled) resident() int {
	m.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.daemon.Process.Pid))
	ok(m.t, err)
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	kB, err := strconv.Atoi(string(found[1]))
	ok(m.t, err)
	return kB
}
