package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-net/patchbay/core/engine"
	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// hooked is a host with a switch and with libvirt's hooks, where a test says what libvirt
// says to them.
type hooked struct {
	*testHost
	hooks string // a directory as /etc/libvirt/hooks
	sw    vswitch.Switch
}

const (
	hookedVM   = "bbbbbbbb-0000-4000-8000-000000000001"
	hookedPort = "72f87c96-1cef-45d4-997f-00552898ed44"
	hookedMAC  = "52:54:00:00:00:01"
)

func newHooked(h *testHost, bin string) *hooked {
	h.t.Helper()
	hooks := filepath.Join(h.Dir, "hooks")
	out, err := exec.Command(filepath.Join(h.Root, "packaging/libvirt/hooks"), "install", filepath.Join(h.Root, bin, "patchbay-libvirt-hook"), hooks).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %s; run `make build build-faults`", err, out)
	}
	h.patchbay("switch", "add", "prod", "--type", "internal")
	h.patchbay("switch", "profile", "set", "prod", "web", "--dhcp-guard", "--default")
	var s engine.SwitchStatus
	ok(h.t, h.PatchbayJSON(&s, "switch", "show", "prod"))
	return &hooked{testHost: h, hooks: hooks, sw: s.Switch}
}

// said is what comes of a hook.
type said struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// call runs a hook as libvirt does.
func (h *hooked) call(driver, object, operation, stdin string, env ...string) said {
	h.t.Helper()
	var r said
	err := h.Do(func() error {
		var out, errs bytes.Buffer
		c := exec.Command(filepath.Join(h.hooks, driver+".d/50-patchbay"), object, operation, "begin", "-")
		c.Env, c.Stdin, c.Stdout, c.Stderr = slices.Concat(h.Env(), env), strings.NewReader(stdin), &out, &errs
		start := time.Now()
		err := c.Run()
		r = said{c.ProcessState.ExitCode(), out.String(), errs.String(), time.Since(start)}
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = nil
		}
		return err
	})
	ok(h.t, err)
	if r.stdout != "" {
		h.t.Errorf("%s %s: on standard output %q", driver, operation, r.stdout)
	}
	return r
}

// must is call for what must succeed.
func (h *hooked) must(driver, object, operation, stdin string) {
	h.t.Helper()
	if r := h.call(driver, object, operation, stdin); r.code != 0 || r.stderr != "" {
		h.t.Fatalf("%s %s %s: exit status %d, %s", driver, object, operation, r.code, r.stderr)
	}
}

func (h *hooked) networkXML() string {
	h.t.Helper()
	text, err := network.Definition(h.sw, "prod")
	ok(h.t, err)
	return "<hookData>\n" + text + "</hookData>"
}

func (h *hooked) portXML(more string) string {
	return strings.Replace(h.networkXML(), "</hookData>", "<networkport><uuid>"+hookedPort+"</uuid><owner><name>web01</name><uuid>"+hookedVM+
		"</uuid></owner><mac address='"+hookedMAC+"'/>"+more+"<plug type='bridge' bridge='pb-prod'/></networkport></hookData>", 1)
}

// domainXML is the VM as it runs, or as it is defined.
func domainXML(runs bool, metadata string) string {
	nic := "<interface type='network'><mac address='" + hookedMAC + "'/><source network='prod'/><alias name='ua-web'/></interface>"
	if runs {
		nic = "<interface type='bridge'><mac address='" + hookedMAC + "'/><source network='prod' portid='" + hookedPort +
			"' bridge='pb-prod'/><target dev='vnet0'/><alias name='ua-web'/></interface>"
	}
	return "<domain type='qemu'><name>web01</name><uuid>" + hookedVM + "</uuid><metadata>" + metadata + "</metadata><devices>" + nic + "</devices></domain>"
}

// tap is what libvirt makes of the interface; plug puts it into the switch.
func (h *hooked) plug() {
	h.t.Helper()
	for _, argv := range [][]string{
		{"ip", "tuntap", "add", "dev", "vnet0", "mode", "tap"},
		{"ip", "link", "set", "vnet0", "address", "fe:54:00:00:00:01", "master", "pb-prod", "up"},
	} {
		h.run(h.Netns, argv...)
	}
}

func (h *hooked) unplug() { h.t.Helper(); h.run(h.Netns, "ip", "link", "del", "vnet0") }

func (h *hooked) vmPorts() []vswitch.Port {
	h.t.Helper()
	var all []vswitch.Port
	ok(h.t, h.PatchbayJSON(&all, "port", "list"))
	return slices.DeleteFunc(all, func(p vswitch.Port) bool { return p.Owner.Kind != vswitch.OwnerVM })
}

// TestHookLife: a VM comes and goes, with patchbayd and without.
func TestHookLife(t *testing.T) {
	for _, daemon := range []bool{false, true} {
		t.Run(fmt.Sprintf("patchbayd=%t", daemon), func(t *testing.T) {
			th := newHost(t)
			th.stopDaemon()
			if daemon {
				th.startDaemon()
			}
			h := newHooked(th, "bin")
			storm := 100
			wish := domain.WriteWish("ua-web", domain.Wish{Narrowing: vswitch.Narrowing{Policy: vswitch.PolicyChange{StormLimit: &storm}}})
			h.must("network", "prod", "start", h.networkXML())
			h.must("network", "prod", "started", h.networkXML())
			for range 2 {
				h.must("qemu", "web01", "prepare", domainXML(false, wish))
				h.must("network", "prod", "port-created", h.portXML(""))
				if all := h.vmPorts(); len(all) != 1 || all[0].VM.Stage != vswitch.VMReserved {
					t.Fatalf("reserved: %+v", all)
				}
				h.plug()
				h.must("qemu", "web01", "start", domainXML(true, wish))
				h.must("qemu", "web01", "started", domainXML(true, wish))
				h.must("qemu", "web01", "reconnect", domainXML(true, wish))
				p := h.vmPorts()[0]
				if p.Netdev != "vnet0" || p.VM.Alias != "ua-web" || !p.Policy.DHCPGuard || p.Policy.StormLimit != 100 || p.Owner.Name != "web01" {
					t.Errorf("bound: %+v", p)
				}
				h.unplug()
				h.must("qemu", "web01", "stopped", domainXML(false, wish))
				h.must("network", "prod", "port-deleted", h.portXML(""))
				h.must("qemu", "web01", "release", domainXML(false, wish))
				if all := h.vmPorts(); len(all) > 0 {
					t.Errorf("left: %+v", all)
				}
			}
		})
	}
}

// TestHookRefuses: what virsh shows says what, why and what to do, in one line; and what
// libvirt would kill a guest over, or cannot undo, is never refused.
func TestHookRefuses(t *testing.T) {
	h := newHooked(newHost(t), "bin")
	const garbage = "xmlns:p='" + network.Namespace + "' <"
	for _, x := range []struct {
		name, driver, operation, stdin string
		says                           []string
	}{
		{"native bandwidth", "network", "port-created", h.portXML("<bandwidth><inbound average='1000'/></bandwidth>"), []string{"patchbay: network prod, port-created: ", "libvirt's own <bandwidth>", "--max-in 100M"}},
		{"unknown portgroup", "network", "port-created", h.portXML("<group>db</group>"), []string{`portgroup "db" has no port profile`, "patchbay switch profile set prod db"}},
		{"switch that is not there", "network", "start", strings.ReplaceAll(h.networkXML(), "prod", "gone"), []string{"switch gone", "patchbay switch list"}},
		{"broken network", "network", "port-created", garbage, []string{"XML: XML syntax error"}},
		{"misspelled wish", "qemu", "prepare", domainXML(false, "<p:ports xmlns:p='"+domain.Namespace+"'><p:port alias='ua-web'><p:policy dhcpGard='yes'/></p:port></p:ports>"), []string{`"dhcpGard" is unknown`, `did you mean "dhcpGuard"?`}},
		{"wish of nobody", "qemu", "prepare", domainXML(false, "<p:ports xmlns:p='"+domain.Namespace+"'><p:port alias='ua-db' isolated='yes'/></p:ports>"), []string{"port ua-db: the domain has no such interface", "it has ua-web"}},
		{"port that nobody reserved", "qemu", "start", domainXML(true, ""), []string{"interface ua-web", "not reserved"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := h.call(x.driver, "prod", x.operation, x.stdin)
			if r.code != 1 || strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("exit status %d, %q", r.code, r.stderr)
			}
			for _, says := range x.says {
				if !strings.Contains(r.stderr, says) {
					t.Errorf("%q does not say %q", r.stderr, says)
				}
			}
		})
	}
	for driver, operations := range map[string][]string{"network": {"port-deleted", "started", "updated", "stopped"}, "qemu": {"reconnect", "stopped", "release", "started"}, "lxc": {"reconnect", "release"}} {
		for _, operation := range operations {
			for _, stdin := range []string{garbage, domainXML(true, ""), ""} {
				if r := h.call(driver, "web01", operation, stdin); r.code != 0 || r.stderr != "" {
					t.Errorf("%s %s of %.20q: exit status %d, %s", driver, operation, stdin, r.code, r.stderr)
				}
			}
		}
	}
	if all := h.vmPorts(); len(all) > 0 {
		t.Errorf("left: %+v", all)
	}
}

// TestHookWithoutDaemon: what is nobody's of ours waits for nobody, and what is ours fails
// within two seconds or works, whatever patchbayd does.
func TestHookWithStoppedDaemon(t *testing.T) {
	th := newHost(t)
	th.stopDaemon()
	d := th.startDaemon()
	h := newHooked(th, "bin")
	h.must("network", "prod", "start", h.networkXML())
	ok(t, d.Process.Signal(syscall.SIGSTOP))
	defer func() { ok(t, d.Process.Signal(syscall.SIGCONT)) }()
	const foreignVM = "<domain><name>x</name><uuid>" + hookedVM + "</uuid><devices><interface type='network'><source network='default' bridge='virbr0'/></interface></devices></domain>"
	for _, x := range []struct{ driver, operation, stdin string }{
		{"qemu", "start", foreignVM},
		{"qemu", "migrate", foreignVM},
		{"qemu", "release", foreignVM},
		{"network", "port-created", "<hookData><network><name>default</name><bridge name='virbr0'/></network></hookData>"},
	} {
		if r := h.call(x.driver, "default", x.operation, x.stdin); r.code != 0 || r.stderr != "" || r.took > time.Second {
			t.Errorf("%s %s took %v: exit status %d, %s", x.driver, x.operation, r.took, r.code, r.stderr)
		}
	}
	const most = 3 * time.Second // the machine may be busy
	if r := h.call("network", "prod", "port-created", h.portXML("")); r.took > most || r.code != 0 && !strings.Contains(r.stderr, "within 2 s") {
		t.Errorf("took %v: exit status %d, %s", r.took, r.code, r.stderr)
	}
	if r := h.call("qemu", "web01", "release", domainXML(false, "")); r.took > most || r.code != 0 {
		t.Errorf("took %v: exit status %d, %s", r.took, r.code, r.stderr)
	}
}

// TestHookTouchesNothing: on a host without Patchbay's switches the hook leaves no trace.
func TestHookTouchesNothing(t *testing.T) {
	h := newHost(t)
	h.stopDaemon()
	x := &hooked{testHost: h, hooks: filepath.Join(h.Dir, "hooks")}
	out, err := exec.Command(filepath.Join(h.Root, "packaging/libvirt/hooks"), "install", filepath.Join(h.Root, "bin/patchbay-libvirt-hook"), x.hooks).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ok(t, os.RemoveAll(h.RunDir()))
	ok(t, os.RemoveAll(h.StateDir()))
	x.must("network", "default", "start", "<hookData><network><name>default</name></network></hookData>")
	x.must("qemu", "web01", "start", "<domain/>")
	x.must("qemu", "web01", "release", "no XML")
	for _, dir := range []string{h.RunDir(), h.StateDir()} {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
