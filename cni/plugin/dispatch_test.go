package plugin

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/patchbay-net/patchbay/core/wire"
)

// Everything that the specification has a plugin look at before it does anything.
func TestRefused(t *testing.T) {
	const whole = `{"cniVersion":"1.1.0","name":"net","switch":"s"}`
	for name, x := range map[string]struct {
		change func(*wire.Call)
		code   uint
		says   string
	}{
		"unknown command":        {func(c *wire.Call) { c.Command = "FROB" }, types.ErrInvalidEnvironmentVariables, "FROB"},
		"lower case":             {func(c *wire.Call) { c.Command = "add" }, types.ErrInvalidEnvironmentVariables, "CNI_COMMAND"},
		"no container":           {func(c *wire.Call) { c.ContainerID = "" }, types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID"},
		"nothing at all":         {func(c *wire.Call) { *c = wire.Call{Command: "ADD"} }, types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"},
		"DEL without interface":  {func(c *wire.Call) { c.Command, c.IfName = "DEL", "" }, types.ErrInvalidEnvironmentVariables, "CNI_IFNAME"},
		"CHECK without netns":    {func(c *wire.Call) { c.Command, c.Netns = "CHECK", "" }, types.ErrInvalidEnvironmentVariables, "CNI_NETNS"},
		"path as container":      {func(c *wire.Call) { c.ContainerID = "../c" }, types.ErrInvalidEnvironmentVariables, "../c"},
		"letter of elsewhere":    {func(c *wire.Call) { c.ContainerID = "cé" }, types.ErrInvalidEnvironmentVariables, "cé"},
		"hidden container":       {func(c *wire.Call) { c.ContainerID = ".c" }, types.ErrInvalidEnvironmentVariables, ".c"},
		"long interface":         {func(c *wire.Call) { c.IfName = strings.Repeat("e", 16) }, types.ErrInvalidEnvironmentVariables, "15"},
		"interface with slash":   {func(c *wire.Call) { c.IfName = "a/b" }, types.ErrInvalidEnvironmentVariables, "slash"},
		"interface with space":   {func(c *wire.Call) { c.IfName = "a\u00a0b" }, types.ErrInvalidEnvironmentVariables, "space"},
		"interface ..":           {func(c *wire.Call) { c.IfName = ".." }, types.ErrInvalidEnvironmentVariables, `".."`},
		"no configuration":       {func(c *wire.Call) { c.Stdin = nil }, types.ErrDecodingFailure, ""},
		"a list":                 {func(c *wire.Call) { c.Stdin = []byte(`[]`) }, types.ErrDecodingFailure, "an array"},
		"no name":                {func(c *wire.Call) { c.Stdin = []byte(`{"cniVersion":"1.1.0"}`) }, types.ErrInvalidNetworkConfig, "name"},
		"name null":              {func(c *wire.Call) { c.Stdin = []byte(`{"cniVersion":"1.1.0","name":null}`) }, types.ErrInvalidNetworkConfig, "name"},
		"name is a path":         {func(c *wire.Call) { c.Stdin = []byte(`{"cniVersion":"1.1.0","name":"a/b"}`) }, types.ErrInvalidNetworkConfig, "a/b"},
		"name is a number":       {func(c *wire.Call) { c.Stdin = []byte(`{"cniVersion":"1.1.0","name":7}`) }, types.ErrDecodingFailure, "name: here is a number"},
		"no version":             {func(c *wire.Call) { c.Stdin = []byte(`{"name":"net"}`) }, types.ErrIncompatibleCNIVersion, "1.1.0"},
		"version to come":        {func(c *wire.Call) { c.Stdin = []byte(`{"name":"net","cniVersion":"2.0.0"}`) }, types.ErrIncompatibleCNIVersion, "2.0.0"},
		"CHECK before there was": {func(c *wire.Call) { c.Command, c.Stdin = "CHECK", []byte(`{"name":"net","cniVersion":"0.3.1"}`) }, types.ErrIncompatibleCNIVersion, "CHECK"},
		"GC before there was":    {func(c *wire.Call) { c.Command, c.Stdin = "GC", []byte(`{"name":"net","cniVersion":"1.0.0"}`) }, types.ErrIncompatibleCNIVersion, "GC"},
		"DEL of a broken config": {func(c *wire.Call) { c.Command, c.Stdin = "DEL", []byte(`{`) }, types.ErrDecodingFailure, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c := wire.Call{Command: "ADD", ContainerID: "c", Netns: netns, IfName: "eth0", Stdin: []byte(whole)}
			x.change(&c)
			a := Serve(t.Context(), l.client, c)
			var e types.Error
			if err := json.Unmarshal(a.Out, &e); err != nil || !a.Failed {
				t.Fatalf("failed %v: %q: %v", a.Failed, a.Out, err)
			}
			if e.Code != x.code || !strings.Contains(e.Msg+e.Details, x.says) {
				t.Errorf("code %d: %s; %s; want %d and %q", e.Code, e.Msg, e.Details, x.code, x.says)
			}
			if log := l.kernel.Log(); len(log) > 0 {
				t.Errorf("the kernel was told: %v", log)
			}
		})
	}
}

// A container's life as its runtime sees it: what is printed, in the version asked for.
func TestServe(t *testing.T) {
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			l := newLab(t)
			call := func(command, more string) []byte {
				t.Helper()
				conf := strings.Replace(on(own+more), `"1.1.0"`, `"`+version+`"`, 1)
				a := Serve(t.Context(), l.client, wire.Call{Command: command, ContainerID: "c", Netns: netns, IfName: "eth0", Stdin: []byte(conf)})
				if a.Failed {
					t.Fatalf("%s: %s", command, a.Out)
				}
				return a.Out
			}
			added := call("ADD", "")
			var told struct{ CNIVersion string }
			if err := json.Unmarshal(added, &told); err != nil || told.CNIVersion != version {
				t.Errorf("version %q, want %q: %v", told.CNIVersion, version, err)
			}
			if again := call("ADD", ""); string(again) != string(added) {
				t.Errorf("repeated: %s, want %s", again, added)
			}
			if out := call("VERSION", ""); !strings.Contains(string(out), `"supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]`) {
				t.Errorf("VERSION: %s", out)
			}
			if version != "0.3.1" {
				call("CHECK", `,"prevResult":`+string(added))
			}
			if version == types100.ImplementedSpecVersion {
				call("STATUS", "")
				call("GC", `,"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]`)
			}
			for range 2 {
				if out := call("DEL", ""); len(out) > 0 {
					t.Errorf("DEL prints %s", out)
				}
			}
			if _, found := l.port(); found {
				t.Error("the port is left")
			}
		})
	}
}
