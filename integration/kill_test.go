package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/patchbay-net/patchbay/integration/host"
)

// sweep is a verb that is killed, as by kill -9, at every point in turn: before each
// step in the kernel, before and after each commit of the store.
type sweep struct {
	name    string
	stage   []op // what there is before it
	verb    op
	then    []op // each is tried after each kill; none: the verb again
	guest   bool // the staged container stays attached and reachable
	atLeast int  // points
	// prunes says that switches go, whose records stay until they are gone: in between
	// the configuration is both as before and as after.
	prunes bool
}

// op is something done on a host by the programs below a directory of the tree.
type op struct {
	name string
	gone string // what it says where it was done before
	do   func(s *scene, bin string, env []string) (string, error)
}

// scene is a host with what the sweeps speak of: a NIC or two and two containers,
// which are used again for each point.
type scene struct {
	*testHost
	one, two *host.Container
	clean    host.Snapshot
}

func newScene(t *testing.T) *scene {
	t.Helper()
	h := newHost(t)
	h.stopDaemon()
	for _, bin := range []string{"patchbay", "patchbayd", "cni/patchbay"} {
		if _, err := os.Stat(filepath.Join(h.Root, "bin/faults", bin)); err != nil {
			t.Fatalf("%v; run `make build-faults`", err)
		}
	}
	h.outside("eth1")
	h.outside("eth2")
	s := &scene{testHost: h, one: h.container("one"), two: h.container("two")}
	var err error
	s.clean, err = h.Snapshot()
	ok(t, err)
	return s
}

// cli is a command of patchbay.
func cli(args ...string) op {
	return op{name: strings.Join(args, " "), do: func(s *scene, bin string, env []string) (string, error) {
		return s.RunEnv(slices.Concat(s.Env(), env), append([]string{filepath.Join(s.Root, bin, "patchbay")}, args...)...)
	}}
}

// deletes is the deletion of a switch, which has an answer of its own the second time.
func deletes(args ...string) op {
	o := cli(append([]string{"switch", "delete"}, args...)...)
	o.gone = "no such switch"
	return o
}

const sweptNet = `{"cniVersion":"1.1.0","name":"net1","type":"patchbay","switch":%s,
	"ipam":{"type":"patchbay","ranges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.2","rangeEnd":"10.0.0.3"}]]}}`

const definesSwitch = `{"name":"prod","type":"internal","gateway":["10.0.0.1/24"],"masquerade":true}`

// cni is a verb of the plugin: for a container, or with none GC of all of them.
func cni(command, definition string, of func(*scene) *host.Container) op {
	return op{name: command, do: func(s *scene, bin string, env []string) (out string, err error) {
		stdin := fmt.Sprintf(sweptNet, definition)
		env = append(env, "CNI_COMMAND="+command, "CNI_PATH="+strings.Join(s.PluginPath(), ":"))
		if of != nil {
			env = append(env, verb(of(s), command)...)
		} else {
			stdin = strings.Replace(stdin, `{`, `{"cni.dev/valid-attachments":[],`, 1)
		}
		err = s.Do(func() error {
			c := exec.Command(filepath.Join(s.Root, bin, "cni/patchbay"))
			c.Env, c.Stdin = slices.Concat(s.Env(), env), strings.NewReader(stdin)
			text, err := c.CombinedOutput()
			out = string(text)
			return err
		})
		return out, err
	}}
}

// apply applies a file of switches.
func apply(lines ...string) op {
	return op{name: "apply", do: func(s *scene, bin string, env []string) (string, error) {
		path := filepath.Join(s.Dir, "switches.yaml")
		if err := os.WriteFile(path, []byte("version: 1\nswitches:\n"+strings.Join(lines, "\n")), 0o600); err != nil {
			return "", err
		}
		return cli("apply", "--prune", "-f", path).do(s, bin, env)
	}}
}

// reboot takes from the kernel and the run directory what a reboot does.
var reboot = op{name: "reboot", do: func(s *scene, _ string, _ []string) (string, error) {
	for _, argv := range [][]string{
		{"ip", "link", "del", "pb-lan"},
		{"ip", "link", "del", "pbh-lan"},
		{"ip", "link", "del", "pb-wan"},
		{"ip", "link", "del", "pbh-wan"},
		{"ip", "link", "set", "eth1", "group", "0"},
		{"nft", "flush", "ruleset"},
	} {
		if out, err := s.Run(argv...); err != nil {
			return out, err
		}
	}
	return "", errors.Join(os.RemoveAll(s.RunDir()), os.Mkdir(s.RunDir(), 0o700))
}}

var portDelete = op{name: "port delete", do: func(s *scene, bin string, env []string) (string, error) {
	for _, p := range s.ports() {
		if p.Owner.ID == "one" {
			return cli("port", "delete", p.ID).do(s, bin, env)
		}
	}
	return "", nil // it is gone
}}

func one(s *scene) *host.Container { return s.one }
func two(s *scene) *host.Container { return s.two }

func sweeps() []sweep {
	addOne, addTwo := cni("ADD", `"prod"`, one), cni("ADD", `"prod"`, two)
	delOne, gc := cni("DEL", `"prod"`, one), cni("GC", `"prod"`, nil)
	prod := cli("switch", "add", "prod", "--type", "internal", "--gateway", "10.0.0.1/24", "--masquerade")
	peopled := []op{prod, addOne, addTwo}
	lan := "- {name: lan, type: internal, gateway: [10.3.0.1/24], masquerade: true}"
	return []sweep{
		{name: "ADD that makes the switch", verb: cni("ADD", definesSwitch, one), then: []op{{}, delOne, gc}, atLeast: 15},
		{name: "ADD", stage: []op{prod, addTwo}, verb: addOne, then: []op{{}, delOne, gc}, atLeast: 8},
		{name: "DEL", stage: peopled, verb: delOne, then: []op{{}, gc}, atLeast: 3},
		{name: "GC", stage: peopled, verb: gc, then: []op{{}, delOne}, atLeast: 3},
		{name: "switch add internal", verb: prod, atLeast: 12},
		{name: "switch add external", verb: cli("switch", "add", "wan", "--uplink", "eth1"), atLeast: 12},
		{name: "switch set type", stage: peopled, verb: cli("switch", "set", "prod", "--type", "private", "--gateway=", "--masquerade=false"), guest: true, atLeast: 8},
		{
			name: "switch set uplink", stage: []op{cli("switch", "add", "prod", "--uplink", "eth1"), addOne, addTwo},
			verb: cli("switch", "set", "prod", "--uplink", "eth2"), guest: true, atLeast: 8,
		},
		{name: "switch set mtu", stage: peopled, verb: cli("switch", "set", "prod", "--mtu", "1400"), guest: true, atLeast: 6},
		{name: "switch delete", stage: []op{prod}, verb: deletes("prod"), atLeast: 6},
		{name: "switch delete of external", stage: []op{cli("switch", "add", "prod", "--uplink", "eth1")}, verb: deletes("prod"), atLeast: 6},
		{name: "switch delete by force", stage: peopled, verb: deletes("prod", "--force"), atLeast: 6},
		{
			name: "mac pool set", stage: []op{cli("mac", "pool", "set", "--first", "0a:50:42:10:00:00", "--last", "0a:50:42:10:0f:ff"), prod, addOne, addTwo},
			verb: cli("mac", "pool", "set", "--first", "0a:50:42:20:00:00", "--last", "0a:50:42:20:0f:ff"), guest: true, atLeast: 4,
		},
		{name: "port delete", stage: peopled, verb: portDelete, then: []op{{}, delOne, gc}, atLeast: 3},
		{name: "apply", verb: apply(lan, "- {name: wan, uplink: eth1}"), atLeast: 20},
		{
			name: "apply that swaps", stage: []op{apply("- {name: prod, uplink: eth1}", "- {name: lan, uplink: eth2}", "- {name: gone, type: private}"), addOne, addTwo},
			verb: apply("- {name: prod, uplink: eth2}", "- {name: lan, uplink: eth1, mtu: 1400}", "- {name: new, type: private}"), guest: true, atLeast: 20, prunes: true,
		},
		{name: "restore", stage: []op{apply(lan, "- {name: wan, uplink: eth1}"), reboot}, verb: cli("restore"), atLeast: 15},
	}
}

// TestKilled: whatever a killed verb leaves, it is wholly recorded or not at all, a
// container stays reachable, the verb when it is said again finishes it, and so do DEL
// and GC; and when everything is deleted, nothing is left. The verb again is tried at
// every point, what else may follow at every second one, to save time.
func TestKilled(t *testing.T) {
	for _, x := range sweeps() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			if x.then == nil {
				x.then = []op{{}, {name: "nothing"}}
			}
			for _, then := range x.then {
				stride := 2
				if then.name == "" {
					then, stride = x.verb, 1
				}
				s.sweep(x, then, stride, s.dies(x.verb))
			}
		})
	}
}

// dies does a verb that kills itself at a point, or finishes before it.
func (s *scene) dies(verb op) func(point int) (finished bool) {
	return func(point int) bool {
		s.t.Helper()
		out, err := verb.do(s, "bin/faults", []string{fmt.Sprintf("PATCHBAY_DIE_AT=%d", point)})
		if err != nil && !strings.Contains(err.Error(), "killed") {
			s.t.Fatalf("point %d: %v: %s", point, err, out)
		}
		return err == nil
	}
}

// sweep kills the verb at each point, or at each so many, until one is behind its end,
// and does then after each kill.
func (s *scene) sweep(x sweep, then op, stride int, die func(n int) (finished bool)) {
	s.t.Helper()
	var before, after records
	var between []records
	kills, point := 0, 1
	for finished := false; !finished && !s.t.Failed(); point += stride {
		for _, o := range x.stage {
			s.must(o)
		}
		before = s.records()
		if finished = die(point); finished {
			after = s.records()
		} else {
			kills++
			between = append(between, s.records())
		}
		what := fmt.Sprintf("%s killed at point %d, then %s", x.name, point, then.name)
		s.talks(x, what)
		if then.do != nil {
			s.must(then)
		}
		if then.name == x.verb.name {
			between = append(between, s.records())
			s.talks(x, what)
			s.wantWhole()
		}
		s.leavesNothing(what)
	}
	for _, r := range between {
		if !x.prunes && r.config != before.config && r.config != after.config || r.ports != before.ports && r.ports != after.ports {
			s.t.Errorf("%s: neither as before nor as after:\n%v\nbefore\n%v\nafter\n%v", x.name, r, before, after)
		}
	}
	if kills < x.atLeast/stride {
		s.t.Errorf("%s: killed %d times, want %d: the build has no faults", x.name, kills, x.atLeast/stride)
	}
	s.t.Logf("%s killed %d times, at one point of %d, then %s", x.name, kills, stride, then.name)
}

func (s *scene) must(o op) {
	s.t.Helper()
	out, err := o.do(s, "bin", nil)
	if err != nil && (o.gone == "" || !strings.Contains(out+err.Error(), o.gone)) {
		s.t.Fatalf("%s: %v: %s", o.name, err, out)
	}
}

// records are the configuration, and who has a port and in which VLANs.
type records struct{ config, ports string }

func (s *scene) records() records {
	s.t.Helper()
	r := records{config: s.patchbay("export")}
	for _, p := range s.ports() {
		r.ports += fmt.Sprintf("%s on %s %s\n", p.Owner.ID, p.Switch, p.VLAN)
	}
	return r
}

// talks demands that the two containers hear each other.
func (s *scene) talks(x sweep, what string) {
	s.t.Helper()
	if !x.guest {
		return
	}
	if ports := s.ports(); len(ports) != 2 {
		s.t.Fatalf("%s: ports %v", what, ports)
	}
	for _, p := range s.ports() {
		if p.Owner.ID == "two" {
			reaches(s.t, s.one.Netns, p.Addresses[0].Prefix.Addr().String())
		}
	}
	if s.t.Failed() {
		s.t.Fatal(what)
	}
}

// leavesNothing deletes everything and looks for what is left: netdevs, rules,
// records and leases.
func (s *scene) leavesNothing(what string) {
	s.t.Helper()
	for _, p := range s.ports() {
		s.must(cni("DEL", `"prod"`, map[string]func(*scene) *host.Container{"one": one, "two": two}[p.Owner.ID]))
	}
	var switches []struct{ Name string }
	ok(s.t, s.PatchbayJSON(&switches, "switch", "list"))
	for _, w := range switches {
		s.must(cli("switch", "delete", w.Name))
	}
	var teams []struct{ Name string }
	ok(s.t, s.PatchbayJSON(&teams, "team", "list"))
	for _, x := range teams {
		s.must(cli("team", "delete", x.Name))
	}
	s.must(cli("gc"))
	var leases []struct{ MAC string }
	ok(s.t, s.PatchbayJSON(&leases, "mac", "list"))
	now, err := s.Snapshot()
	ok(s.t, err)
	left := slices.DeleteFunc(now.Since(s.clean), s.others)
	if len(left) > 0 || len(leases) > 0 || len(s.ports()) > 0 {
		s.t.Fatalf("%s: left %v, leases %v, ports %v", what, left, leases, s.ports())
	}
	for _, c := range []*host.Container{s.one, s.two} {
		if out, err := c.Run("ip", "link", "show", "eth0"); err == nil {
			s.t.Fatalf("%s: the container has %s", what, out)
		}
	}
}

// TestDaemonKilled does the same to patchbayd while somebody asks it for the verb: the
// client, be it the plugin or the command, finishes what patchbayd began. It is a sample: every third point.
func TestDaemonKilled(t *testing.T) {
	for _, x := range sweeps() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.sweep(x, x.verb, 3, func(n int) bool {
				d, err := s.Patchbayd("faults/patchbayd", fmt.Sprintf("PATCHBAY_DIE_AT=%d", n))
				s.must(x.verb) // where it has died at its start, without it
				return err == nil && !killed(d.Stop())
			})
		})
	}
}

// killed reports whether a process died of kill -9.
func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

func verb(c *host.Container, command string) []string {
	return []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + c.ContainerID, "CNI_NETNS=" + c.NetNS, "CNI_IFNAME=eth0"}
}
