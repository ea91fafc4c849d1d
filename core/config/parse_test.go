package config_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/patchbay-net/patchbay/core/config"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

func sources(texts ...string) []config.Source {
	var all []config.Source
	for i, text := range texts {
		all = append(all, config.Source{Name: fmt.Sprintf("%c.yaml", 'a'+i), Text: []byte(text)})
	}
	return all
}

// words are an error's problems, one a line, as the CLI tells them.
func words(err error) string {
	var b strings.Builder
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Sprint(err)
	}
	for _, part := range many.Unwrap() {
		var e *vswitch.Error
		if !errors.As(part, &e) {
			fmt.Fprintf(&b, "no vswitch.Error: %v\n", part)
			continue
		}
		fmt.Fprintf(&b, "%s: %s\n", e.Object, e.Cause())
		if e.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", e.Hint)
		}
	}
	return b.String()
}

var comparable = cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func TestParse(t *testing.T) {
	yes := true
	lan := vswitch.Switch{
		Name: "lan", Type: vswitch.Internal, MTU: 9000, Masquerade: vswitch.Masquerade{IPv4: true},
		Gateway: []netip.Prefix{netip.MustParsePrefix("10.0.10.1/24"), netip.MustParsePrefix("fd00:10::1/64")}, Notes: "for guests",
	}
	wan := vswitch.Switch{Name: "wan", Uplink: "eth1", HostAccess: &yes}
	for name, tc := range map[string]struct {
		files []string
		want  vswitch.Config
	}{
		"every field": {
			[]string{`
version: 1
macPool: {first: "0a:50:42:10:00:00", last: 0a-50-42-10-00-FF}
switches:
  - name: lan
    type: internal
    mtu: 9000
    gateway: [10.0.10.1/24, "fd00:10::1/64"]
    masquerade: ipv4
    notes: for guests
  - {name: wan, uplink: eth1, hostAccess: yes}
`},
			vswitch.Config{Version: 1, Switches: []vswitch.Switch{lan, wan}, MACPool: &vswitch.MACRange{
				First: vswitch.MAC{0x0a, 0x50, 0x42, 0x10, 0, 0}, Last: vswitch.MAC{0x0a, 0x50, 0x42, 0x10, 0, 0xff},
			}},
		},
		"JSON": {
			[]string{`{"version": 1, "switches": [{"name": "wan", "uplink": "eth1", "hostAccess": true}]}`},
			vswitch.Config{Version: 1, Switches: []vswitch.Switch{wan}},
		},
		"documents and files": {
			[]string{"---\n# nothing\n---\nversion: 1\nswitches:\n- {name: a, type: private}\n---\nversion: 1\nswitches:\n- {name: b, type: private}\n", "version: 1\nswitches:\n- {name: c, type: private}\n"},
			vswitch.Config{Version: 1, Switches: []vswitch.Switch{{Name: "a", Type: "private"}, {Name: "b", Type: "private"}, {Name: "c", Type: "private"}}},
		},
		"no switch":        {[]string{"version: 1\n"}, vswitch.Config{Version: 1}},
		"an empty list":    {[]string{"version: 1\nswitches: []\n"}, vswitch.Config{Version: 1}},
		"an alias":         {[]string{"version: 1\nswitches:\n- {name: a, type: &t private}\n- {name: b, type: *t}\n"}, vswitch.Config{Version: 1, Switches: []vswitch.Switch{{Name: "a", Type: "private"}, {Name: "b", Type: "private"}}}},
		"a name of digits": {[]string{"version: 1\nswitches:\n- {name: \"10\", type: private}\n"}, vswitch.Config{Version: 1, Switches: []vswitch.Switch{{Name: "10", Type: "private"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Parse(sources(tc.files...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, comparable); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every problem is told at once, each where it stands, and what follows from one
// is not told as another. The golden files are what a user reads.
func TestProblems(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(inputs) < 5 {
		t.Fatalf("%d inputs: %v", len(inputs), err)
	}
	for _, path := range inputs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = config.Parse(config.Source{Name: filepath.Base(path), Text: text})
			if err == nil {
				t.Fatal("no problem is found")
			}
			golden(t, strings.TrimSuffix(filepath.Base(path), ".yaml")+".txt", words(err))
		})
	}
}

func TestProblemsAcrossFiles(t *testing.T) {
	_, err := config.Parse(sources(
		"version: 1\nmacPool: {first: 0a:50:42:10:00:00, last: 0a:50:42:10:00:ff}\nswitches:\n- {name: lan, type: private}\n",
		"version: 1\nmacPool: {first: 0a:50:42:20:00:00, last: 0a:50:42:20:00:ff}\nswitches:\n- name: lan\n  type: private\n- {name: x, uplink: eth0}\n- {name: y, uplink: eth0}\n",
		": : :\n",
	)...)
	want := `b.yaml:2:10: the MAC pool is defined twice
  hint: the first is at a.yaml:2:10
b.yaml:4:9: switch lan: is defined twice
  hint: the first is at a.yaml:4:3
b.yaml:7:21: switch y: NIC eth0 is the uplink of switch x too; one NIC carries one switch
c.yaml: not YAML: did not find expected key
  hint: indent with spaces, and put text with ':' or '#' in quotes
`
	if diff := cmp.Diff(want, words(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !errors.Is(err, vswitch.UplinkInUse) || !errors.Is(err, vswitch.AlreadyExists) {
		t.Errorf("the kinds are lost: %v", err)
	}
}

func TestBounded(t *testing.T) {
	bomb := "version: 1\nx: &a [1,1,1,1,1,1,1,1,1]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("x%d: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", i, 'b'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i, 'a'+i)
	}
	repeated := "version: 1\nswitches:\n- &s {name: a, type: private, gateway: &g [" + strings.Repeat("x,", 4000) + "]}\n" + strings.Repeat("- *s\n", 1000)
	for name, text := range map[string]string{
		"bomb":     bomb,
		"repeated": repeated,
		"deep":     "version: 1\nswitches: " + strings.Repeat("[", 9000),
		"large":    "version: 1\n#" + strings.Repeat("x", config.MaxSize),
		"many":     "version: 1\n" + strings.Repeat("x: 1\n", 1000),
		"cycle":    "version: 1\nswitches: &s\n- *s\n",
		"root":     "&a [*a]",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse(config.Source{Name: "f", Text: []byte(text)})
			if err == nil {
				t.Fatal("it is accepted")
			}
			if n := len(err.Error()); n > 32<<10 {
				t.Errorf("%d bytes of problems", n)
			}
		})
	}
	if _, err := config.Read("f", strings.NewReader(strings.Repeat("x", config.MaxSize+1))); !errors.Is(err, vswitch.Invalid) {
		t.Errorf("a source without end is read: %v", err)
	}
}
