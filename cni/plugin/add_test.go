package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

// The network's own DNS comes first, then another IPAM's, then what the chain
// before us said.
func TestDNS(t *testing.T) {
	const (
		ours  = `,"dns":{"nameservers":["10.0.0.1"],"domain":"example"}`
		prev  = `,"prevResult":{"cniVersion":"1.1.0","dns":{"nameservers":["10.0.0.3"]}}`
		lease = `{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.7/24"}],"dns":{"nameservers":["10.0.0.2"]}}`
	)
	for name, c := range map[string]struct {
		conf string
		want []string
	}{
		"ours":                 {own + ours + prev, []string{"10.0.0.1"}},
		"another IPAM's":       {other + prev, []string{"10.0.0.2"}},
		"ours and another's":   {other + ours + prev, []string{"10.0.0.1"}},
		"the chain's":          {own + prev, []string{"10.0.0.3"}},
		"the chain's, no ipam": {prev, []string{"10.0.0.3"}},
		"none":                 {own, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.answers("ADD", lease, 0)
			r := l.attached(on(c.conf))
			if diff := cmp.Diff(c.want, r.DNS.Nameservers); diff != "" {
				t.Errorf("nameservers (-want +got):\n%s", diff)
			}
			if strings.Contains(c.conf, ours) && r.DNS.Domain != "example" {
				t.Errorf("domain %q", r.DNS.Domain)
			}
		})
	}
}

// dad leaves detection on for IPv6 addresses of ours, which are without it else.
func TestDAD(t *testing.T) {
	for name, dad := range map[string]bool{"on": true, "off": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.attached(on(strings.Replace(own, `"type"`, fmt.Sprintf(`"dad":%v,"type"`, dad), 1)))
			p, _ := l.port()
			for _, a := range p.Addresses {
				if a.DAD != dad {
					t.Errorf("address %s has DAD %v", a.Prefix, a.DAD)
				}
			}
			log := strings.Join(l.kernel.Log(), "\n")
			if !strings.Contains(log, "fd00::2/64 dev eth0") || strings.Contains(log, "fd00::2/64 dev eth0 nodad") == dad {
				t.Errorf("what the kernel was told:\n%s", log)
			}
		})
	}
}

// args.cni asks for addresses where no capability does, and wins over CNI_ARGS.
func TestArgs(t *testing.T) {
	const asks = own + `,"args":{"cni":{"mac":"02:00:00:00:00:42","ips":["10.0.0.42","fd00::42/64"]}}`
	for name, c := range map[string]struct {
		conf, env, mac, ip string
	}{
		"alone":             {asks, "", "02:00:00:00:00:42", "10.0.0.42/24"},
		"over CNI_ARGS":     {asks, "MAC=02:00:00:00:00:01;IP=10.0.0.99", "02:00:00:00:00:42", "10.0.0.42/24"},
		"under capability":  {asks + `,"runtimeConfig":{"mac":"02:00:00:00:00:43","ips":["10.0.0.43"]}`, "", "02:00:00:00:00:43", "10.0.0.43/24"},
		"CNI_ARGS, no args": {own, "MAC=02:00:00:00:00:01;IP=10.0.0.99", "02:00:00:00:00:01", "10.0.0.99/24"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a := args(on(c.conf))
			a.Args = c.env
			_, err := l.tryAttach(a)
			l.must(err)
			p, _ := l.port()
			if p.MAC.String() != c.mac || p.Addresses[0].Prefix.String() != c.ip {
				t.Errorf("MAC %s, addresses %v, want %s and %s", p.MAC, p.Addresses, c.mac, c.ip)
			}
		})
	}
}

func TestRequestedAddressesAreBounded(t *testing.T) {
	ask := func(n int) string {
		ips := strings.TrimSuffix(strings.Repeat(`"10.0.0.5",`, n), ",")
		return conf(`"switch":"s","runtimeConfig":{"ips":[` + ips + `]}` + own)
	}
	for n, fits := range map[int]bool{64: true, 65: false} {
		c, err := parse([]byte(ask(n)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.wishes(""); (err == nil) != fits {
			t.Errorf("%d addresses: %v", n, err)
		}
	}
}

// What is excluded is never given, by itself or on request.
func TestExclude(t *testing.T) {
	const few = `,"ipam":{"type":"patchbay","subnet":"10.0.0.0/29","exclude":["10.0.0.2","10.0.0.4-10.0.0.5"]}`
	l := newLab(t)
	var got []string
	for i := range 3 {
		a := args(on(few))
		a.ContainerID = fmt.Sprintf("c%d", i)
		r, err := l.tryAttach(a)
		if err != nil {
			wantCode(t, err, types.ErrTryAgainLater, "10.0.0.6")
			break
		}
		got = append(got, r.IPs[0].Address.String())
		l.kernel.AddNetns(netns + a.ContainerID)
		l.kernel.RemoveNetns(netns) // eth0 is free again
		l.kernel.AddNetns(netns)
	}
	if diff := cmp.Diff([]string{"10.0.0.3/29", "10.0.0.6/29"}, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	a := args(on(few + `,"runtimeConfig":{"ips":["10.0.0.4"]}`))
	_, err := l.tryAttach(a)
	wantCode(t, err, types.ErrInvalidNetworkConfig, "10.0.0.4", "excluded")
}

// Names that the environment may carry and no netdev can have.
func TestUnusableOwners(t *testing.T) {
	for name, c := range map[string]struct {
		network, id, ifname string
		code                uint
		says                string
	}{
		"all":          {"net", "c", "all", types.ErrInvalidEnvironmentVariables, `"all"`},
		"default":      {"net", "c", "default", types.ErrInvalidEnvironmentVariables, `"default"`},
		"percent":      {"net", "c", "eth%d", types.ErrInvalidEnvironmentVariables, "eth%d"},
		"long id":      {"net", strings.Repeat("a", 300), "eth0", types.ErrInvalidEnvironmentVariables, "aaa"},
		"long network": {strings.Repeat("n", 300), "c", "eth0", types.ErrInvalidNetworkConfig, "nnn"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a := args(strings.Replace(on(own), `"net"`, `"`+c.network+`"`, 1))
			a.ContainerID, a.IfName = c.id, c.ifname
			_, err := l.tryAttach(a)
			wantCode(t, err, c.code, c.says)
		})
	}
}

func TestOwnNetns(t *testing.T) {
	l := newLab(t)
	a := args(on(own))
	a.Netns = "/proc/thread-self/ns/net"
	wantCode(t, l.add(t.Context(), a, &bytes.Buffer{}), types.ErrInvalidNetNS, "CNI_NETNS")
	if _, found := l.port(); found {
		t.Error("a port was made")
	}
}

// What the chain before us made stays in the result, in order, before ours.
func TestPreviousIsKept(t *testing.T) {
	l := newLab(t)
	r := l.attached(on(own + `,"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"wg0","sandbox":"` + netns + `"}],
		"ips":[{"address":"10.7.0.1/24","interface":0}],"routes":[{"dst":"10.7.7.0/24","gw":"10.7.0.9","priority":3}]}`))
	if r.Interfaces[0].Name != "wg0" || r.IPs[0].Address.String() != "10.7.0.1/24" || *r.IPs[0].Interface != 0 {
		t.Errorf("%+v", r)
	}
	if len(r.Routes) != 1 || r.Routes[0].Dst.String() != "10.7.7.0/24" || r.Routes[0].Priority != 3 || r.Routes[0].GW.String() != "10.7.0.9" {
		t.Errorf("routes %v", r.Routes)
	}
	if len(r.IPs) != 3 || *r.IPs[1].Interface != 3 || r.Interfaces[3].Name != "eth0" {
		t.Errorf("ours come behind, on eth0: %+v", r.IPs)
	}
}

// In a process of many threads each may be in a namespace of its own.
func TestOwnNetnsIsTheThreads(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = before.Close() }()
	elsewhere := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			elsewhere <- err
			return
		}
		if !ownNetns("/proc/thread-self/ns/net") || ownNetns(fmt.Sprintf("/proc/self/fd/%d", before.Fd())) {
			elsewhere <- errors.New("another thread's namespace was taken for this one's")
			return
		}
		elsewhere <- nil
	}()
	if err := <-elsewhere; err != nil {
		t.Error(err)
	}
}
