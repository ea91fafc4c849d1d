//go:build cgo && libvirt_dlopen

package follow

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/patchbay-net/patchbay/libvirt-hook/domain"
)

// A libvirtd that hangs is one that is gone after three of these.
const (
	keepAliveSeconds = 20
	keepAliveMissed  = 3
)

// eventLoop runs libvirt's one event loop of a process, and returns why it does not.
var eventLoop = sync.OnceValue(func() *atomic.Pointer[error] { //nolint:gochecknoglobals // libvirt has one for each process
	var failed atomic.Pointer[error]
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		failed.Store(&err)
		return &failed
	}
	go func() {
		for {
			if err := libvirt.EventRunDefaultImpl(); err != nil {
				failed.Store(&err)
				return
			}
		}
	}()
	return &failed
})

// connection is a Libvirt by way of libvirt's library.
type connection struct {
	*libvirt.Connect
	version string
	events  []func() error // which end what was asked to be told
}

// Connect is a Dial. The library is loaded when it is first called.
func Connect(uri string, tell func(Event), lost func()) (Libvirt, error) {
	if err := eventLoop().Load(); err != nil {
		return nil, dialed(*err)
	}
	c, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, dialed(err)
	}
	l := &connection{Connect: c}
	if err := l.listen(tell, lost); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// dialed tells what is missing for long from what may be there in a moment.
func dialed(err error) error {
	var e libvirt.Error
	switch {
	case strings.Contains(err.Error(), "Failed to open libvirt.so"):
		return fmt.Errorf("%w: %w", ErrNoLibrary, err)
	case errors.As(err, &e) && (e.Code == libvirt.ERR_NO_CONNECT || e.Code == libvirt.ERR_CONFIG_UNSUPPORTED):
		return fmt.Errorf("%w: %w", ErrNoDriver, err)
	}
	return err
}

func (c *connection) listen(tell func(Event), lost func()) error {
	number, err := c.GetLibVersion()
	if err != nil {
		return err
	}
	c.version = fmt.Sprintf("%d.%d.%d", number/1_000_000, number/1000%1000, number%1000)
	about := func(d *libvirt.Domain, speaks bool) {
		if uuid, err := d.GetUUIDString(); err == nil {
			tell(Event{Domain: uuid, Speaks: speaks})
		}
	}
	ask := func(id int, err error, end func(int) error) error {
		if err == nil {
			c.events = append(c.events, func() error { return end(id) })
		}
		return err
	}
	life, lifeErr := c.DomainEventLifecycleRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventLifecycle) {
		about(d, e.Event == libvirt.DOMAIN_EVENT_RESUMED)
	})
	added, addedErr := c.DomainEventDeviceAddedRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventDeviceAdded) { about(d, false) })
	removed, removedErr := c.DomainEventDeviceRemovedRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, _ *libvirt.DomainEventDeviceRemoved) { about(d, false) })
	networks, networksErr := c.NetworkEventLifecycleRegister(nil, func(*libvirt.Connect, *libvirt.Network, *libvirt.NetworkEventLifecycle) { tell(Event{}) })
	return errors.Join(
		ask(life, lifeErr, c.DomainEventDeregister), ask(added, addedErr, c.DomainEventDeregister), ask(removed, removedErr, c.DomainEventDeregister),
		ask(networks, networksErr, c.NetworkEventDeregister),
		c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) { lost() }),
		c.SetKeepAlive(keepAliveSeconds, keepAliveMissed))
}

func (c *connection) Version() string { return c.version }

func (c *connection) Close() {
	for _, end := range c.events { // they refer to the connection, which would not be closed
		_ = end()
	}
	_ = c.UnregisterCloseCallback() // as they do
	_, _ = c.Connect.Close()        // the other side may be gone
}

func (c *connection) Networks() (found []Network, err error) {
	all, err := c.ListAllNetworks(libvirt.CONNECT_LIST_NETWORKS_ACTIVE)
	for i := range all {
		n, readErr := readNetwork(&all[i])
		_ = all[i].Free() // of this process alone
		switch {
		case readErr == nil:
			found = append(found, n)
		case !vanished(readErr):
			err = errors.Join(err, readErr)
		}
	}
	return found, err
}

func readNetwork(n *libvirt.Network) (out Network, err error) {
	if out.XML, err = n.GetXMLDesc(0); err != nil {
		return out, err
	}
	ports, err := n.ListAllPorts(0)
	for i := range ports {
		xml, readErr := ports[i].GetXMLDesc(0)
		_ = ports[i].Free() // as above
		switch {
		case readErr == nil:
			out.Ports = append(out.Ports, xml)
		case !vanished(readErr):
			err = errors.Join(err, readErr)
		}
	}
	return out, err
}

func (c *connection) Domains() (found []Domain, err error) {
	all, err := c.ListAllDomains(0)
	for i := range all {
		d, readErr := readDomain(&all[i])
		_ = all[i].Free() // as above
		switch {
		case readErr == nil:
			found = append(found, d)
		case !vanished(readErr):
			err = errors.Join(err, readErr)
		}
	}
	return found, err
}

func (c *connection) Domain(uuid string) (d Domain, found bool, err error) {
	dom, err := c.LookupDomainByUUIDString(uuid)
	if err != nil {
		if vanished(err) {
			err = nil
		}
		return d, false, err
	}
	defer func() { _ = dom.Free() }() // as above
	d, err = readDomain(dom)
	if vanished(err) {
		return d, false, nil
	}
	return d, err == nil, err
}

func readDomain(d *libvirt.Domain) (out Domain, err error) {
	if out.UUID, err = d.GetUUIDString(); err != nil {
		return out, err
	}
	if out.Name, err = d.GetName(); err != nil {
		return out, err
	}
	state, _, err := d.GetState()
	if err != nil {
		return out, err
	}
	out.Speaks = state == libvirt.DOMAIN_RUNNING
	if state != libvirt.DOMAIN_SHUTOFF && state != libvirt.DOMAIN_CRASHED {
		if out.XML, err = d.GetXMLDesc(0); err != nil {
			return out, err
		}
	}
	persistent, err := d.IsPersistent()
	if err == nil && persistent {
		out.Defined, err = d.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	}
	return out, err
}

// vanished reports whether an object is gone that was there a moment ago.
func vanished(err error) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Code == libvirt.ERR_NO_DOMAIN || e.Code == libvirt.ERR_NO_NETWORK || e.Code == libvirt.ERR_NO_NETWORK_PORT
}

func (c *connection) SetState(uuid, element string) error {
	d, err := c.LookupDomainByUUIDString(uuid)
	if err != nil {
		return err
	}
	defer func() { _ = d.Free() }() // as above
	return d.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, element, "patchbay", domain.StateNamespace, libvirt.DOMAIN_AFFECT_LIVE)
}

func (c *connection) Define(xml string) (stale bool, err error) {
	var want libvirtxml.Network
	if err := want.Unmarshal(xml); err != nil {
		return false, err
	}
	before := ""
	if old, err := c.LookupNetworkByName(want.Name); err == nil {
		before, _ = old.GetXMLDesc(0) // one that cannot be read is taken for changed
		_ = old.Free()                // as above
	}
	n, err := c.NetworkDefineXML(xml)
	if err != nil {
		return false, err
	}
	defer func() { _ = n.Free() }() // as above
	if err := n.SetAutostart(true); err != nil {
		return false, err
	}
	active, err := n.IsActive()
	if err != nil || !active {
		return false, errors.Join(err, n.Create())
	}
	after, err := n.GetXMLDesc(libvirt.NETWORK_XML_INACTIVE)
	return !sameNetwork(before, after), err
}

// sameNetwork compares definitions but for what libvirt adds to an active one.
func sameNetwork(a, b string) bool {
	var x, y libvirtxml.Network
	if x.Unmarshal(a) != nil || y.Unmarshal(b) != nil {
		return false
	}
	left, errLeft := x.Marshal()
	right, errRight := y.Marshal()
	return errLeft == nil && errRight == nil && left == right
}
