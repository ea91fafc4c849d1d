package plugin

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// refused are configurations that ADD refuses and that DEL and GC may meet all
// the same: files are edited while containers run.
func refused() map[string]string {
	return map[string]string{
		"unknown key":              on(`,"macSpofing":true` + own),
		"vlan":                     on(`,"vlan":7000` + own),
		"typo in ipam":             on(`,"ipam":{"type":"patchbay","subnett":"10.0.0.0/24"}`),
		"typo in switch":           conf(`"switch":{"name":"prod","typ":"internal"}` + own),
		"no switch":                conf(`"mtu":1500` + own),
		"invalid definition":       conf(`"switch":{"name":"prod","type":"private","uplink":"nic0"}` + own),
		"bad runtimeConfig":        on(`,"runtimeConfig":{"mac":"xx","portMappings":[]}` + own),
		"undecodable prevResult":   on(`,"prevResult":{"cniVersion":"7","ips":5}` + own),
		"prevResult is a list":     on(`,"prevResult":[]` + own),
		"null in prevResult":       on(`,"prevResult":{"cniVersion":"1.1.0","interfaces":[null]}` + own),
		"wrong types":              conf(`"switch":5,"mtu":"big","dns":[],"macSpoofing":"yes","ipam":"patchbay","args":1`),
		"ipam type is a number":    on(`,"ipam":{"type":5}`),
		"ipam without a type":      on(`,"ipam":{"subnet":"10.0.0.0/24"}`),
		"range without a subnet":   on(`,"ipam":{"type":"patchbay","rangeStart":"10.0.0.5"}`),
		"a switch that is no more": conf(`"switch":"gone"` + own),
	}
}

func TestDelOfWhatAddRefuses(t *testing.T) {
	for name, conf := range refused() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if _, err := l.tryAttach(args(conf)); err == nil {
				t.Fatal("ADD takes it")
			}
			l.attached(on(own))
			l.must(l.del(t.Context(), args(conf)))
			if p, found := l.port(); found {
				t.Errorf("port after DEL: %+v", p)
			}
		})
	}
}

func TestGCOfWhatAddRefuses(t *testing.T) {
	for name, conf := range refused() {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.attached(on(own))
			keep := strings.TrimSuffix(conf, "}") + `,"cni.dev/valid-attachments":[{"containerID":"c","ifname":"eth0"}]}`
			l.must(l.gc(t.Context(), args(keep)))
			if _, found := l.port(); !found {
				t.Error("GC removed what is valid")
			}
			l.must(l.gc(t.Context(), args(strings.TrimSuffix(conf, "}")+`,"cni.dev/valid-attachments":[]}`)))
			if p, found := l.port(); found {
				t.Errorf("port after GC: %+v", p)
			}
		})
	}
}

// What never can have been attached is not there.
func TestDelOfTheImpossible(t *testing.T) {
	for name, c := range map[string]struct{ network, id, ifname string }{
		"long id":      {"net", strings.Repeat("a", 300), "eth0"},
		"percent":      {"net", "c", "eth%d"},
		"not ASCII":    {"net", "c", "ethé"},
		"long network": {strings.Repeat("n", 300), "c", "eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a := args(strings.Replace(on(other), `"net"`, `"`+c.network+`"`, 1))
			a.ContainerID, a.IfName = c.id, c.ifname
			if _, err := l.tryAttach(a); err == nil {
				t.Fatal("ADD takes it")
			}
			if calls := l.calls(); calls != "" {
				t.Errorf("the other plugin was called for %s", calls)
			}
			l.must(l.del(t.Context(), a))
		})
	}
}

// Leases of ours are freed whatever the network's IPAM is by now, and the other
// plugin is told even though it may know nothing.
func TestDelWithAnotherIPAM(t *testing.T) {
	for _, c := range []struct{ name, add, del, calls string }{
		{"ours, then another", own, other, "DEL"},
		{"another, then ours", other, own, "ADD"},
		{"another, then none", other, "", "ADD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			first := l.attached(on(c.add))
			l.must(l.del(t.Context(), args(on(c.del))))
			if calls := l.calls(); calls != c.calls {
				t.Errorf("the other plugin was called for %q, want %q", calls, c.calls)
			}
			if p, found := l.port(); found {
				t.Errorf("port after DEL: %+v", p)
			}
			if c.add == own {
				want := strings.Replace(own, `"subnet":"10.0.0.0/24"`, `"subnet":"10.0.0.0/24","rangeEnd":"10.0.0.2"`, 1)
				if again := l.attached(on(want)); again.IPs[0].Address.String() != first.IPs[0].Address.String() {
					t.Errorf("address %s was not freed", &first.IPs[0].Address)
				}
			}
		})
	}
}

func TestGCList(t *testing.T) {
	for name, c := range map[string]struct {
		list    string // with its key, or nothing
		code    uint   // 0: success
		removes bool
	}{
		"none":           {``, 0, false},
		"empty":          {`,"cni.dev/valid-attachments":[]`, 0, true},
		"others":         {`,"cni.dev/valid-attachments":[{"containerID":"x","ifname":"eth0"}]`, 0, true},
		"without id":     {`,"cni.dev/valid-attachments":[{"containerID":"x","ifname":"eth0"},{"ifname":"eth0"}]`, 7, false},
		"without ifname": {`,"cni.dev/valid-attachments":[{"containerID":"c"}]`, 7, false},
		"misspelt":       {`,"cni.dev/valid-attachments":[{"containerID":"c","ifName2":"eth0"}]`, 7, false},
		"null":           {`,"cni.dev/valid-attachments":[null]`, 7, false},
		"no list":        {`,"cni.dev/valid-attachments":"c"`, 6, false},
		"no objects":     {`,"cni.dev/valid-attachments":["c"]`, 6, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.attached(on(own))
			err := l.gc(t.Context(), args(on(own+c.list)))
			if c.code == 0 {
				l.must(err)
			} else {
				wantCode(t, err, c.code, validAttachments)
			}
			if _, found := l.port(); found == c.removes {
				t.Errorf("the port is there: %v", found)
			}
		})
	}
	l := newLab(t)
	nameless := `{"cniVersion":"1.1.0","Name":"net","cni.dev/valid-attachments":[]}`
	wantCode(t, l.gc(t.Context(), args(nameless)), types.ErrInvalidNetworkConfig, "name")
}
