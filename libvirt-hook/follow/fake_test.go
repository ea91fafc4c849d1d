package follow_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
	"github.com/patchbay-net/patchbay/libvirt-hook/follow"
	"github.com/patchbay-net/patchbay/libvirt-hook/network"
)

// fakeLibvirt is a libvirtd with one network, lan, of the switch of that name. It remembers
// domains, and what it was told.
type fakeLibvirt struct {
	mu      sync.Mutex
	refuses error // of each attempt to connect
	fails   error // of each look at all
	dials   int
	domains []*fakeDomain
	defined []string
	writes  int           // of metadata
	asked   int           // for one domain
	busy    chan struct{} // until it is closed nothing can be listed
	deaf    error
	listed  func() // once the ports of the networks were read
	stopped bool   // the network is not active

	tell func(follow.Event)
	lost func()
}

// fakeDomain is a domain with one NIC.
type fakeDomain struct {
	uuid, name, mac string
	netdev, port    string // of the running one
	bridge          string // "": the switch's
	running, gone   bool
	transient       bool // it is gone when it stops
	state           string
	stale           []string // ports that libvirt has forgotten to delete
	devices         string   // XML of others that the running one has
	leaving         follow.Leaving
}

func (f *fakeLibvirt) dial(_ string, tell func(follow.Event), lost func()) (follow.Libvirt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	if f.refuses != nil {
		return nil, f.refuses
	}
	f.tell, f.lost = tell, lost
	return f, nil
}

// dialled is how often somebody has tried to connect.
func (f *fakeLibvirt) dialled() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials
}

// change changes what there is and tells of it.
func (f *fakeLibvirt) change(e follow.Event, what func()) {
	f.mu.Lock()
	what()
	tell := f.tell
	f.mu.Unlock()
	if tell != nil {
		tell(e)
	}
}

func (f *fakeLibvirt) Networks() ([]follow.Network, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listed != nil {
		defer f.listed()
	}
	if f.stopped {
		return nil, nil
	}
	xml, err := network.Definition(vswitch.Switch{Name: "lan", PortProfiles: profiles()}, "lan")
	n := follow.Network{XML: xml}
	for _, d := range f.domains {
		for _, port := range append(d.stale, d.port) {
			if !d.running && port == d.port {
				continue
			}
			n.Ports = append(n.Ports, fmt.Sprintf("<networkport><uuid>%s</uuid><owner><name>%s</name><uuid>%s</uuid></owner><group>web</group><mac address='%s'/><plug type='bridge' bridge='pb-lan'/></networkport>", port, d.name, d.uuid, d.mac))
		}
	}
	return []follow.Network{n}, err
}

func (f *fakeLibvirt) Domains() (all []follow.Domain, err error) {
	if f.busy != nil {
		<-f.busy
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return nil, f.fails
	}
	for _, d := range f.domains {
		if !d.gone {
			all = append(all, d.export())
		}
	}
	return all, nil
}

func (f *fakeLibvirt) Domain(uuid string) (follow.Domain, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	i := slices.IndexFunc(f.domains, func(d *fakeDomain) bool { return d.uuid == uuid && !d.gone })
	if i < 0 {
		return follow.Domain{}, false, nil
	}
	return f.domains[i].export(), true, nil
}

func (d *fakeDomain) export() follow.Domain {
	xml := func(metadata, nic string) string {
		return fmt.Sprintf("<domain type='kvm'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><devices><interface type='%s<mac address='%s'/><alias name='ua-web'/></interface>%s</devices></domain>", d.name, d.uuid, metadata, nic, d.mac, d.devices)
	}
	out := follow.Domain{UUID: d.uuid, Name: d.name, Defined: xml("", "network'><source network='lan' portgroup='web'/>"), Speaks: d.running}
	if d.transient {
		out.Defined = ""
	}
	if d.running {
		out.XML = xml(d.state, fmt.Sprintf("bridge'><source network='lan' portgroup='web' portid='%s' bridge='%s'/><target dev='%s'/>", d.port, cmp.Or(d.bridge, "pb-lan"), d.netdev))
	}
	return out
}

func (f *fakeLibvirt) SetState(uuid, element string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.domains {
		if d.uuid == uuid {
			// As libvirt does, which refuses an element that says its namespace.
			if strings.Contains(element, "xmlns") {
				return errors.New("failed to create a new XML namespace")
			}
			d.state = strings.NewReplacer("<state>", "<p:state xmlns:p='"+domain.StateNamespace+"'>", "</state>", "</p:state>").Replace(element)
			f.writes++
		}
	}
	return nil
}

func (f *fakeLibvirt) Leaving(uuid string) (follow.Leaving, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.domains {
		if d.uuid == uuid && d.running {
			return d.leaving, nil
		}
	}
	return follow.Leaves, nil
}

func (f *fakeLibvirt) Define(xml string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.defined = append(f.defined, xml)
	return false, nil
}

func (f *fakeLibvirt) Deaf() error { return f.deaf }

func (f *fakeLibvirt) Version() string { return "9.0.0" }

func (f *fakeLibvirt) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tell, f.lost = nil, nil
}
