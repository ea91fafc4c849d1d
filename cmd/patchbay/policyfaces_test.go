package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// TestEverySettingHasItsFaces: whatever a port's policy can be is set by a verb, for a guest and
// for the host's own port, shown by port show, told by explain, and written and read as YAML.
func TestEverySettingHasItsFaces(t *testing.T) {
	verbs := map[string][]string{
		"dhcpGuard":       {"port set PORT --dhcp-guard"},
		"routerGuard":     {"port set PORT --router-guard"},
		"addressGuard":    {"port set PORT --address-guard"},
		"stormLimit":      {"port set PORT --storm-limit 7"},
		"ieeePriorityTag": {"port set PORT --ieee-priority-tag"},
		"acl":             {"port acl add PORT meter both any"},
		"bandwidth":       {"port set PORT --max-in 10M --max-out 20M --burst 1M", "port set PORT --min-weight 5"},
		"mirror":          {"port set PORT --mirror source", "port set PORT --mirror destination"},
		"offload":         {"port set PORT --vmq off"},
	}
	of := reflect.TypeFor[vswitch.Policy]()
	for i := range of.NumField() {
		key, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if len(verbs[key]) == 0 {
			t.Errorf("the test has no verb for %s", key)
		}
		for _, verb := range verbs[key] {
			for _, port := range []string{"mail", "pbp-wan"} {
				t.Run(strings.Fields(verb)[len(strings.Fields(verb))-1]+" of "+port, func(t *testing.T) {
					h := newFakeHost(t)
					h.furnish()
					h.kernel.SetSpeed("eth1", 1000)
					h.attach("wan", "mail", "10.0.20.0/24")
					explained, shown, written := h.must("explain "+port), h.must("port show "+port), h.must("export")
					verb := strings.ReplaceAll(verb, "PORT", port)
					if key == "addressGuard" && port == "pbp-wan" { // the host's addresses are its own affair
						if _, stderr, code := h.run(strings.Fields(verb)...); code == exitOK || !strings.Contains(stderr, "its own affair") {
							t.Errorf("exit code %d: %s", code, stderr)
						}
						return
					}
					h.must(verb)
					if h.must("explain "+port) == explained {
						t.Error("explain does not tell of it")
					}
					if h.must("port show "+port) == shown {
						t.Error("port show does not tell of it")
					}
					if got := h.must("port show " + port + " -o json"); !strings.Contains(got, `"`+key+`"`) {
						t.Errorf("%s is not in\n%s", key, got)
					}
					if port != "pbp-wan" {
						return
					}
					now := h.must("export")
					if now == written || !strings.Contains(now, key) {
						t.Errorf("%s is not in\n%s", key, now)
					}
					file := filepath.Join(t.TempDir(), "host.yaml")
					if err := os.WriteFile(file, []byte(now), 0o600); err != nil {
						t.Fatal(err)
					}
					if got := h.must("diff -f " + file); !strings.Contains(got, "othing") {
						t.Errorf("what was written is another thing when it is read:\n%s", got)
					}
				})
			}
		}
	}
}
