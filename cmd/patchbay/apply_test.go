package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/engine"
)

// wanted differs from what furnish makes in every way that there is.
const wanted = `version: 1
macPool:
  first: 0a:50:42:77:00:00
  last: 0a:50:42:77:00:ff
switches:
  - name: wan
    uplink: eth1
    mtu: 9000
    hostAccess: false
  - name: lan
    type: internal
    gateway: [10.0.10.1/24, "fd00:10::1/64"]
    masquerade: true
  - name: new
    type: private
    notes: made by apply
`

func (h *fakeHost) file(text string) string {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "switches.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// exits runs a command line that must end with the code and returns what it prints.
func (h *fakeHost) exits(code int, line string) (stdout, stderr string) {
	h.t.Helper()
	stdout, stderr, got := h.run(strings.Fields(line)...)
	if got != code {
		h.t.Fatalf("patchbay %s: exit code %d, want %d\n%s%s", line, got, code, stdout, stderr)
	}
	return stdout, stderr
}

func TestApply(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	file := h.file(wanted)
	random := regexp.MustCompile(`0[ae](:[0-9a-f]{2}){5}`)
	stdout, _ := h.exits(exitDiffers, "diff -f "+file+" --explain")
	golden(t, "diff-explain", random.ReplaceAllString(stdout, "xx:xx:xx:xx:xx:xx"))
	stdout, _ = h.exits(exitDiffers, "diff --prune --force -f "+file)
	golden(t, "diff", stdout)
	_, stderr := h.exits(exitFailure, "apply --prune -f "+file)
	golden(t, "apply-refused", stderr)
	golden(t, "apply", h.must("apply -f "+file))
	golden(t, "apply-again", h.must("apply -f "+file))
	golden(t, "export", h.must("export"))
	if got := h.must("diff -f " + file); !strings.HasSuffix(got, "nothing to change\n") {
		t.Errorf("after apply, diff says %q", got)
	}
	golden(t, "restore", h.must("restore"))
}

// What is exported, as YAML or JSON, changes nothing when it is applied, and is
// exported as the same bytes again.
func TestExportApplied(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	h.must("apply -f " + h.file(wanted))
	for _, format := range []string{"table", "yaml", "json"} {
		exported := h.must("export -o " + format)
		h.stdin = exported
		if got := h.must("diff --prune -f -"); got != "nothing to change\n" {
			t.Errorf("%s: diff says %q", format, got)
		}
		steps := h.kernel.Steps()
		if got := h.must("apply --prune -f -"); !strings.HasPrefix(got, "nothing to change") || h.kernel.Steps() != steps {
			t.Errorf("%s: apply says %q after %d steps", format, got, h.kernel.Steps()-steps)
		}
		if diff := cmp.Diff(exported, h.must("export -o "+format)); diff != "" {
			t.Errorf("%s: other bytes:\n%s", format, diff)
		}
	}
}

func TestConfigProblems(t *testing.T) {
	h := newFakeHost(t)
	h.stdin = "version: 1\nswitches:\n- name: lan\n  tipe: internal\n  mtu: 20\n- {name: lan, type: private}\n"
	stdout, stderr := h.exits(exitUsage, "apply -f -")
	if stdout != "" {
		t.Errorf("on stdout: %q", stdout)
	}
	golden(t, "apply-problems", stderr)
	_, stderr = h.exits(exitUsage, "diff -f - -o json")
	var report failureReport
	if err := json.Unmarshal([]byte(stderr), &report); err != nil || len(report.Problems) != 3 || !strings.HasPrefix(report.Message, "<stdin>:4:3: ") {
		t.Errorf("%v: %+v", err, report)
	}
	for line, want := range map[string]string{
		"apply":                  "patchbay: apply: -f FILE is missing\n",
		"apply -f /nowhere":      "patchbay: apply: /nowhere: no such file or directory\n",
		"diff -f /":              "patchbay: diff: /: is a directory\n",
		"apply -f " + h.file(""): "",
	} {
		if _, stderr := h.exits(exitUsage, line); !strings.HasPrefix(stderr, want) {
			t.Errorf("%s: %q", line, stderr)
		}
	}
}

func TestDiffForPrograms(t *testing.T) {
	h := newFakeHost(t)
	stdout, _ := h.exits(exitDiffers, "diff -o json -f "+h.file("version: 1\nswitches: [{name: a, type: private}]\n"))
	var d engine.ConfigDiff
	if err := strictJSON([]byte(stdout), &d); err != nil || len(d.Changes) != 1 || d.Changes[0].Action != engine.ActionAdd || len(d.Commands) == 0 {
		t.Errorf("%v: %s", err, stdout)
	}
}

func TestRestoreReports(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	h.kernel.RemoveNetdev("eth1")
	stdout, stderr := h.exits(exitFailure, "restore")
	if stderr != "" {
		t.Errorf("on stderr: %q", stderr)
	}
	golden(t, "restore-failed", stdout)
}
