package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// visit calls f for every command of the tree.
func visit(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		visit(sub, f)
	}
}

func TestEveryCommandTeaches(t *testing.T) {
	var out strings.Builder
	c := cli{stdout: &out, stderr: &out}
	visit(c.rootCommand(), func(cmd *cobra.Command) {
		t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "/"), func(t *testing.T) {
			topic := cmd.Name() == "exit-codes"
			if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" && !topic {
				t.Errorf("Short %q, Long %q, Example %q: one is missing", cmd.Short, cmd.Long, cmd.Example)
			}
			if strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 70 {
				t.Errorf("Short is not one phrase: %q", cmd.Short)
			}
			ours := !strings.HasPrefix(cmd.CommandPath(), "patchbay completion")
			for _, l := range strings.Split(cmd.Long+"\n"+cmd.Example, "\n") {
				if n := utf8.RuneCountInString(l); n > 100 && ours {
					t.Errorf("%d columns: %s", n, l)
				}
			}
			if cmd.HasSubCommands() && cmd.Args == nil {
				t.Error("a group accepts any word")
			}
		})
	})
}

// What a program reads is the engine's structs, whole.
func TestFormatsRoundTrip(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	ctx := context.Background()
	check := func(line string, want any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for name, decode := range map[string]func([]byte, any) error{"json": strictJSON, "yaml": strictYAML} {
			got := reflect.New(reflect.TypeOf(want))
			if err := decode([]byte(h.must(line+" -o "+name)), got.Interface()); err != nil {
				t.Errorf("%s -o %s: %v", line, name, err)
			}
			diff := cmp.Diff(want, got.Elem().Interface(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
			if diff != "" {
				t.Errorf("%s -o %s (-want +got):\n%s", line, name, diff)
			}
		}
	}
	switches, err := h.client.Switches(ctx)
	check("switch list", switches, err)
	one, err := h.client.Switch(ctx, "lan")
	check("switch show lan", one, err)
	check("switch add lan --type internal", one, err)
	check("switch set lan --notes guests", one, err)
	ports, err := h.client.Ports(ctx, "")
	check("port list", ports, err)
	port, err := h.client.Port(ctx, "web-1")
	check("port show web-1", port, err)
	h.countSome()
	stats, err := h.client.PortStats(ctx, engine.PortStatsRequest{})
	check("port stats", stats, err)
	ofOne, err := h.client.PortStats(ctx, engine.PortStatsRequest{Port: "db"})
	check("port stats db", ofOne[0], err)
	pool, err := h.client.MACPool(ctx)
	check("mac pool show", pool, err)
	leases, err := h.client.MACs(ctx)
	check("mac list", leases, err)
	status, err := h.client.Status(ctx)
	check("status", status, err)
	topology, err := h.client.Topology(ctx)
	check("topology", topology, err)
	check("gc", engine.GCReport{Removed: []vswitch.Port{}}, nil)
	check("version", buildVersion(), nil)
	explained, err := h.client.Explain(ctx, engine.ExplainRequest{Name: "web-1"})
	check("explain web-1", explained, err)
	h.kernel.SetHost(kernel.Host{Release: "6.1.0", Sysctls: map[string]string{"net/ipv6/conf/all/disable_ipv6": "0"}})
	diagnosis, err := h.client.Doctor(ctx, engine.DoctorRequest{})
	check("doctor", diagnosis, err)
	restored, err := h.client.Restore(ctx, engine.RestoreRequest{})
	check("restore", restored, err)
}

func strictJSON(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func strictYAML(data []byte, v any) error { return yaml.UnmarshalStrict(data, v) }

func TestCompletion(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"switch names", []string{"switch", "show", ""}, []string{"lab\tprivate", "lan\tinternal", "wan\texternal"}},
		{"one switch only", []string{"switch", "delete", "lan", ""}, nil},
		{"switch of ports", []string{"port", "list", "--switch", ""}, []string{"lab\tprivate", "lan\tinternal", "wan\texternal"}},
		{"types", []string{"switch", "add", "x", "--type", ""}, []string{"external", "internal", "private"}},
		{"free NICs", []string{"switch", "add", "x", "--uplink", ""}, nil},
		{"masquerade", []string{"switch", "add", "x", "--masquerade="}, []string{"on", "off", "ipv4", "ipv6"}},
		{"formats", []string{"status", "-o", ""}, []string{"table", "json", "yaml"}},
		{"topics", []string{"help", "mac", ""}, []string{"list\tList the MAC addresses that are held", "pool\tThe range of dynamic MAC addresses"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, _, _ := h.run(append([]string{cobra.ShellCompRequestCmd}, tc.args...)...)
			got := slices.DeleteFunc(strings.Split(stdout, "\n"), func(l string) bool { return l == "" || strings.HasPrefix(l, ":") })
			if !slices.Equal(tc.want, got) {
				t.Errorf("offers %q, want %q", got, tc.want)
			}
		})
	}
	stdout, _, _ := h.run(cobra.ShellCompRequestCmd, "port", "show", "")
	if !strings.Contains(stdout, "\tcontainer web-1 on lan\n") {
		t.Errorf("ports are not offered with their owners:\n%s", stdout)
	}
}

func TestDocs(t *testing.T) {
	h := newFakeHost(t)
	dir := filepath.Join(t.TempDir(), "new")
	if _, stderr, code := h.run("docs", "man", dir); code != exitOK {
		t.Fatal(stderr)
	}
	page, err := os.ReadFile(filepath.Join(dir, "patchbay-switch-add.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"New-VMSwitch", ".SH EXAMPLE", "host-access"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the man page lacks %q", want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "patchbay-exit-codes.1")); err != nil {
		t.Error(err)
	}
	stale := filepath.Join(dir, "patchbay_gone.md")
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := h.run("docs", "markdown", dir); code != exitOK {
		t.Fatal(stderr)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("the page of a command that is gone is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "patchbay_exit-codes.md")); err != nil {
		t.Error(err)
	}
}
