package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/plugins/example/card"
	"github.com/patchbay-net/patchbay/sdk"
	"github.com/patchbay-net/patchbay/sdk/conformance"
	"github.com/patchbay-net/patchbay/sdk/host"
	"github.com/patchbay-net/patchbay/sdk/plugintest"
)

// This test's own program is the example plugin too.
func TestMain(m *testing.M) {
	plugintest.Main(m, func() { sdk.Serve(card.New()) })
}

// pluginDir is a directory that only we can write to, with the example in it.
func pluginDir(t *testing.T) string {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(home, "patchbay-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close() //nolint:errcheck // it was only read
	f, err := os.OpenFile(filepath.Join(dir, "patchbay-plugin-example"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(host.DirsEnv, filepath.Join(dir, "none")+":"+dir)
	return dir
}

func TestPluginList(t *testing.T) {
	h := newFakeHost(t)
	t.Setenv(host.DirsEnv, t.TempDir())
	if out := h.must("plugin list"); !strings.HasPrefix(out, "No plugin is installed in /") {
		t.Errorf("%s", out)
	}
	dir := pluginDir(t)
	if err := os.WriteFile(filepath.Join(dir, "patchbay-plugin-broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := h.must("plugin list")
	for _, want := range []string{"example  1.0.0    Patchbay  sriov,vmq", "broken   -        -         -", "broken: " + dir + "/patchbay-plugin-broken: not executable", "hint: run `chmod"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	var list []installed
	if err := json.Unmarshal([]byte(h.must("plugin list -o json")), &list); err != nil || len(list) != 2 || list[0].Problem.Kind != "PLUGIN_UNTRUSTED" || list[1].Description.Name != "example" {
		t.Errorf("%v, %+v", err, list)
	}
}

func TestPluginCheck(t *testing.T) {
	dir := pluginDir(t)
	h := newFakeHost(t)
	junit := filepath.Join(t.TempDir(), "report.xml")
	out := h.must("plugin check example --junit " + junit)
	if !strings.Contains(out, "ok       sriov/capacity (") || !strings.Contains(out, "0 failed, 0 skipped: it conforms to version 1 of the protocol") {
		t.Errorf("%s", out)
	}
	if text, err := os.ReadFile(junit); err != nil || !strings.Contains(string(text), `<testcase classname="patchbay-plugin-example" name="vmq/leaks"`) {
		t.Errorf("%s (%v)", text, err)
	}
	out, _, code := h.run("plugin", "check", dir+"/patchbay-plugin-example", "--config", `{"vfs": 1, "queues": 0}`, "-o", "json")
	var report conformance.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitFailure || report.Conforms() || !strings.Contains(report.Results[0].Detail, "0 is outside 1-255") {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	if _, stderr, code := h.run("plugin", "check", "acme"); code != exitFailure || !strings.Contains(stderr, "plugin acme: it is not installed") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := h.run("plugin", "check", "example"); code != exitFailure || !strings.Contains(stderr, "others than its owner may write to it") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, stderr, code := h.run("plugin", "check", "/bin/true"); code != exitUsage || !strings.Contains(stderr, "name the program patchbay-plugin-NAME") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestPluginRun(t *testing.T) {
	pluginDir(t)
	h := newFakeHost(t)
	h.stdin = `
inventory
ensure sriov pb1 example-0 vlan=7 queuePairs=4 generation=3
grants
release sriov pb1 2
counters sriov pb1
release sriov pb1 3
health
help
`
	out, stderr, code := h.run("plugin", "run", "example", "--config", `{"vfs": 1}`)
	for _, want := range []string{`"model": "Made Up 2000"`, `"generation": 3`, `"reason": "LIMIT_REACHED"`, `"rx_packets": 0`, "ok\nok\n", "release FEATURE PORT [GENERATION]"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Fatalf("exit code %d: %q is not in\n%s%s", code, want, out, stderr)
		}
	}
	for line, want := range map[string]string{
		"ensure vmq pb1 eth9":             "NIC eth9: there is none",
		"ensure vmq pb1":                  "write `ensure FEATURE PORT NIC",
		"ensure vmq pb1 example-0 vlna=7": `did you mean "vlan"?`,
		"ensure vmq pb1 example-0 vlan=x": "vlan=x: json: cannot unmarshal",
		"ensure vmq pb1 example-0 vlan":   "vlan: not KEY=VALUE",
		"grant":                           "did you mean `grants`?",
		"probe":                           "does not serve probe",
		"counters sriov pb7\nquit":        "it was not granted",
	} {
		h.stdin = line
		if _, stderr, code = h.run("plugin", "run", "example"); code != exitFailure || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %q is not in\n%s", line, code, want, stderr)
		}
	}
}

func TestPluginInit(t *testing.T) {
	h := newFakeHost(t)
	dir := filepath.Join(t.TempDir(), "acme")
	if _, stderr, code := h.run("plugin", "init", "acme", "--dir", dir); code != exitUsage || !strings.Contains(stderr, "give --sdk DIR") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	out := h.must("plugin init acme --module example.com/acme --sdk /usr/src/patchbay --dir " + dir)
	if !strings.Contains(out, "nic/nic.go") || !strings.Contains(out, "Next: cd "+dir+" && make check") {
		t.Error(out)
	}
	if text, err := os.ReadFile(dir + "/go.mod"); err != nil || !strings.HasPrefix(string(text), "module example.com/acme\n") {
		t.Errorf("%s (%v)", text, err)
	}
	if _, stderr, code := h.run("plugin", "init", "acme", "--sdk", "/usr/src/patchbay", "--dir", dir); code != exitFailure || !strings.Contains(stderr, "not empty") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
