package integration_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/patchbay-net/patchbay/integration/guest"
)

// block is the first block of a language below a heading of the README.
func (h *testHost) block(heading, language string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.Root, "README.md"))
	ok(h.t, err)
	_, section, has := strings.Cut(string(text), "\n"+heading+"\n")
	_, block, begins := strings.Cut(section, "```"+language+"\n")
	block, _, ends := strings.Cut(block, "```")
	if !has || !begins || !ends {
		h.t.Fatalf("README.md has no block of %s below %q", language, heading)
	}
	return block
}

// TestReadme does what the README says, in its order, on a host with a NIC eth1.
func TestReadme(t *testing.T) {
	h := newHost(t)
	h.outside("eth1")
	env := append(h.Env(), "PATH="+filepath.Join(h.Root, "bin")+":"+os.Getenv("PATH"))
	commands := 0
	for line := range strings.Lines(h.block("## A switch", "sh")) {
		commands++
		if _, err := h.RunEnv(env, "sh", "-ec", line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if commands < 5 {
		t.Errorf("%d commands: the README teaches less than it did", commands)
	}
	list := h.network(h.block("## Containers", "json"))
	one, _ := h.attached(list, "one")
	reaches(t, one.Netns, "10.88.0.1")
	ok(t, list.Del(one))

	var definition struct{ Spec struct{ Config string } }
	ok(t, yaml.Unmarshal([]byte(h.block("## Containers", "yaml")), &definition))
	pod := h.container("pod")
	for _, v := range []string{"ADD", "DEL"} {
		if r := h.exec(definition.Spec.Config, verb(pod, v)...); r.code != 0 {
			t.Errorf("Multus' configuration, %s: %s", v, r.stdout)
		}
	}
}

// TestReadmeTeams does what the README says of teams and VLANs, on NICs without hardware.
func TestReadmeTeams(t *testing.T) {
	guest.Needs(t, guest.Bonding, guest.VLANs, guest.Netdev)
	h := newHost(t)
	for _, nic := range []string{"eth1", "eth2", "eth3"} {
		h.outside(nic)
	}
	h.patchbay("switch", "add", "lan", "--uplink", "eth1")
	n := h.network(inplace)
	web, _ := h.attached(n, "web-1")
	env := append(h.Env(), "PATH="+filepath.Join(h.Root, "bin")+":"+os.Getenv("PATH"))
	for line := range strings.Lines(h.block("### Teams and VLANs", "sh")) {
		line = strings.Replace(line, "eth2,eth3", "eth2,eth3 --lab", 1)
		if _, err := h.RunEnv(env, "sh", "-ec", line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	h.wantUndrifted()
	if s := h.team("team0"); s.Switch != "lan" || s.State.Active != "eth2" {
		t.Errorf("the team is %+v", s)
	}
	if shown := h.patchbay("port", "list"); !strings.Contains(shown, "trunk 10-19 native 1") {
		t.Errorf("no trunk in\n%s", shown)
	}
	ok(t, n.Del(web))
}

// TestExamples attaches a container to the network of every example.
func TestExamples(t *testing.T) {
	root := newHost(t).Root
	examples, err := filepath.Glob(filepath.Join(root, "examples/cni/*.conflist"))
	ok(t, err)
	if len(examples) < 3 {
		t.Fatalf("examples %v, want one for each type of switch", examples)
	}
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			h := newHost(t)
			h.outside("eth1")
			text, err := os.ReadFile(example)
			ok(t, err)
			n := h.network(string(text))
			c, r := h.attached(n, "one")
			if len(r.IPs) == 0 {
				text, err := json.Marshal(r)
				t.Errorf("no address: %s (%v)", text, err)
			}
			ok(t, n.Check(c))
			ok(t, n.Del(c))
		})
	}
}
