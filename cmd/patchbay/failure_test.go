package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/patchbay-net/patchbay/core/plan"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		code       int
		want       string
	}{
		{"unknown command", "swich list", exitUsage, "patchbay: there is no command \"swich\"\n  hint: did you mean `patchbay switch`?\n"},
		{"unknown verb", "switch lst", exitUsage, "patchbay: switch: there is no command \"lst\"\n  hint: did you mean `patchbay switch list`?\n"},
		{"a word from elsewhere", "switch create lan", exitUsage, "patchbay: switch: there is no command \"create\"\n  hint: did you mean `patchbay switch add`?\n"},
		{"nothing near", "frobnicate", exitUsage, "patchbay: there is no command \"frobnicate\"\n  hint: run `patchbay --help`\n"},
		{"unknown help topic", "help exit-code", exitUsage, "patchbay: there is no command \"exit-code\"\n  hint: did you mean `patchbay exit-codes`?\n"},
		{"unknown flag", "switch add x --upink eth1", exitUsage, "patchbay: switch add: there is no flag --upink\n  hint: did you mean --uplink?\n"},
		{"unknown letter", "status -x", exitUsage, "patchbay: status: there is no flag -x\n  hint: run `patchbay status --help`\n"},
		{"no name", "switch add", exitUsage, "patchbay: switch add: NAME is missing\n  hint: write `patchbay switch add NAME`; `patchbay switch add --help` explains it\n"},
		{"one word too many", "status now", exitUsage, "patchbay: status: \"now\" is one word too many\n  hint: write `patchbay status`; `patchbay status --help` explains it\n"},
		{"no value", "port list --switch", exitUsage, "patchbay: port list: --switch needs a value\n  hint: write `patchbay port list`; `patchbay port list --help` explains it\n"},
		{"no number", "switch add x --mtu big", exitUsage, "patchbay: switch add: --mtu: \"big\" is not a whole number\n  hint: give --mtu: largest packet in bytes; 0: the uplink's, or 1500\n"},
		{"no format", "status -o xml", exitUsage, "patchbay: status: --output: \"xml\" is none of table, json, yaml\n  hint: give --output: how to print: table, json or yaml\n"},
		{"no prefix length", "switch add x --type internal --gateway 10.0.0.1", exitUsage, "patchbay: switch add: --gateway: \"10.0.0.1\" is not an address with its prefix length\n  hint: write it like 10.0.10.1/24 or fd00:10::1/64\n"},
		{"masquerade without equals sign", "switch add x --type internal --masquerade ipv4", exitUsage, "patchbay: switch add: \"ipv4\" is one word too many\n  hint: write --masquerade=ipv4, with an equals sign\n"},
		{"no MAC address", "mac pool set --first zz", exitUsage, "patchbay: mac pool set: --first: \"zz\" is not a MAC address\n  hint: write it like 02:00:5e:10:00:01\n"},
		{
			"several problems", "switch add x --type foo --mtu 3", exitUsage,
			"patchbay: switch add x: type \"foo\" is unknown; use external, internal or private\npatchbay: switch add x: MTU 3 is outside 68-65535\n",
		},
		{"no such switch", "switch show nope", exitFailure, "patchbay: switch show nope: no such switch\n  hint: `patchbay switch list` shows those that exist\n"},
		{"nothing to set on", "switch set nope --notes x", exitFailure, "patchbay: switch set nope: no such switch\n  hint: `patchbay switch list` shows those that exist\n"},
		{"no such port", "port show nope", exitFailure, "patchbay: port show nope: there is no such port\n  hint: run `patchbay port list`\n"},
		{
			"the host's port", "port delete pbp-lan", exitFailure,
			"patchbay: port delete pbp-lan: this is the host's own port\n  hint: run `patchbay switch set lan --host-access=false`, or delete the switch\n",
		},
		{
			"held", "switch delete lab", exitFailure,
			"patchbay: switch delete lab: 1 port(s) are attached: pbuydivrmtxv3j7 (container db)\n  hint: end their owners, or run `patchbay switch delete lab --force`\n",
		},
		{
			"another definition", "switch add lab --type internal", exitFailure,
			"patchbay: switch add lab: exists with another definition: type is private, not internal\n" +
				"  hint: compare with `patchbay switch show lab`; change it with `patchbay switch set lab`\n",
		},
		{"no such NIC", "switch add x --uplink eth7", exitFailure, "patchbay: switch add x: there is no NIC eth7\n  hint: run `patchbay topology` to see the NICs of this host\n"},
		{
			"nothing to change on a port", "port set web-1", exitUsage,
			"patchbay: port set web-1: nothing to change is given\n" +
				"  hint: name what to change, as in `patchbay port set web-1 --vlan 10`; `patchbay port set --help` lists the flags\n",
		},
		{
			"what the new type cannot have", "switch set lan --type private", exitUsage,
			"patchbay: switch set lan: gateway addresses belong to an internal switch; on an external one the gateway is the network's own router, a private one has none\n" +
				"  hint: run `patchbay switch set lan --type private --gateway= --masquerade=off`\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newFakeHost(t)
			h.furnish()
			stdout, stderr, code := h.run(strings.Fields(tc.line)...)
			if diff := cmp.Diff(tc.want, stderr); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
			if code != tc.code || stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q", code, tc.code, stdout)
			}
		})
	}
}

func TestErrorsForPrograms(t *testing.T) {
	two := failureReport{
		failure: failure{Kind: vswitch.Invalid, Message: `switch add x: type "foo" is unknown; use external, internal or private`},
		Problems: []failure{
			{Kind: vswitch.Invalid, Message: `switch add x: type "foo" is unknown; use external, internal or private`},
			{Kind: vswitch.VLANRange, Message: "switch add x: VLAN 5000 is outside 1-4094"},
		},
	}
	flag := failureReport{failure: failure{Kind: vswitch.Invalid, Message: "status: there is no flag --frob", Hint: "run `patchbay status --help`"}}
	for _, tc := range []struct {
		name, line string
		decode     func([]byte, *failureReport) error
		want       failureReport
	}{
		{"json", "switch add x --type foo --vlan 5000 -o json", unmarshalJSON, two},
		{"yaml", "switch add x --type foo --vlan 5000 -o yaml", unmarshalYAML, two},
		{"before -o is read", "status --frob -o json", unmarshalJSON, flag},
		{"joined -o", "status --frob -ojson", unmarshalJSON, flag},
		{"long -o", "status --frob --output=yaml", unmarshalYAML, flag},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, stderr, code := newFakeHost(t).run(strings.Fields(tc.line)...)
			var got failureReport
			if err := tc.decode([]byte(stderr), &got); err != nil {
				t.Fatalf("%v in %q", err, stderr)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(failureReport{})); diff != "" || code != exitUsage {
				t.Errorf("exit code %d, report (-want +got):\n%s", code, diff)
			}
		})
	}
}

func unmarshalJSON(data []byte, r *failureReport) error { return json.Unmarshal(data, r) }
func unmarshalYAML(data []byte, r *failureReport) error { return yaml.UnmarshalStrict(data, r) }

// What engine and store build is taken apart, whatever the layers.
func TestFailuresOf(t *testing.T) {
	inner := &vswitch.Error{Kind: vswitch.InUse, Object: "switch lan", Err: errors.New("somebody holds it"), Hint: "ask them"}
	for _, tc := range []struct {
		name string
		err  error
		want []failure
	}{
		{"plain", errors.New("broken"), []failure{{vswitch.KernelFailed, "broken", ""}}},
		{"kind alone", &vswitch.Error{Kind: vswitch.SwitchFull, Op: "attach"}, []failure{{vswitch.SwitchFull, "attach: switch full", ""}}},
		{
			"object of another noun", &vswitch.Error{Kind: vswitch.StoreCorrupt, Op: "gc", Object: "store /run/x", Err: errors.New("bad page")},
			[]failure{{vswitch.StoreCorrupt, "gc: store /run/x: bad page", ""}},
		},
		{
			"wrapped hint", &vswitch.Error{Kind: vswitch.InUse, Op: "switch delete", Object: "switch lan", Err: fmt.Errorf("undo: %w", inner)},
			[]failure{{vswitch.InUse, "switch delete lan: undo: switch lan: somebody holds it", "ask them"}},
		},
		{
			"same object below", &vswitch.Error{Kind: vswitch.InUse, Op: "switch delete", Object: "switch lan", Err: inner},
			[]failure{{vswitch.InUse, "switch delete lan: somebody holds it", "ask them"}},
		},
		{
			"joined", &vswitch.Error{Kind: vswitch.Invalid, Op: "gc", Hint: "try again", Err: errors.Join(inner, errors.New("broken"))},
			[]failure{{vswitch.InUse, "gc: switch lan: somebody holds it", "ask them"}, {vswitch.KernelFailed, "gc: broken", "try again"}},
		},
		{"joined outside", errors.Join(inner, nil), []failure{{vswitch.InUse, "switch lan: somebody holds it", "ask them"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, failuresOf(tc.err, "")); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNotRoot(t *testing.T) {
	denied := &vswitch.Error{
		Kind: vswitch.StoreUnavailable, Op: "switch add", Object: "switch it", Hint: "run as root",
		Err: &fs.PathError{Op: "open", Path: "/run/patchbay", Err: syscall.EACCES},
	}
	for name, tc := range map[string]struct {
		root bool
		want string
	}{
		"user":      {false, "  hint: run `sudo patchbay switch add it --notes 'mine & yours'`\n"},
		"superuser": {true, "  hint: run as root\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			c := cli{stderr: &stderr, root: tc.root}
			code := c.report(denied, []string{"switch", "add", "it", "--notes", "mine & yours"})
			want := "patchbay: switch add it: open /run/patchbay: permission denied\n" + tc.want
			if diff := cmp.Diff(want, stderr.String()); diff != "" || code != exitFailure {
				t.Errorf("exit code %d, stderr (-want +got):\n%s", code, diff)
			}
		})
	}
}

func TestStatusOfUser(t *testing.T) {
	h := newFakeHost(t)
	h.root = false
	h.kernel.DieAt(1)
	if err := h.kernel.Apply(context.Background(), []plan.Step{plan.DeleteNetdev{Name: "eth9"}}); err == nil {
		t.Fatal("the kernel still answers")
	}
	stdout, _, code := h.run("status")
	want := "Patchbay is not ready on this host.\n\nProblems\n  KERNEL: the process was killed here\n    hint: run `sudo patchbay status`\n"
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitFailure {
		t.Errorf("exit code %d, stdout (-want +got):\n%s", code, diff)
	}
}

// The table of exit codes has every kind that there is.
func TestExitCodesKnowEveryKind(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../core/vswitch/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, kind)
		}
		return true
	})
	have := make(map[string]bool)
	for _, k := range kindMeanings() {
		have[string(k.kind)] = true
	}
	for _, kind := range want {
		if !have[kind] {
			t.Errorf("kind %s is not in the table", kind)
		}
	}
	if len(want) == 0 || len(have) != len(want) {
		t.Errorf("the table has %d kinds, vswitch %d", len(have), len(want))
	}
}
