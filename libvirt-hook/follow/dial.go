//go:build cgo && libvirt_dlopen

package follow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

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

// Built says whether this program was built with libvirt.
const Built = true

// connection is a Libvirt by way of libvirt's library.
type connection struct {
	*libvirt.Connect
	version string
	events  []func() error // which end what was asked to be told
	deaf    error          // why QEMU's are not told
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
	if strings.HasPrefix(uri, "qemu:") {
		l.deaf = l.listenToQEMU(tell)
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
	case errors.As(err, &e) && e.Code == libvirt.ERR_SYSTEM_ERROR && strings.Contains(strings.ToLower(e.Message), syscall.ENOENT.Error()):
		return fmt.Errorf("%w: %w", ErrNoDaemon, err)
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
	said, saidErr := c.DomainEventMetadataChangeRegister(nil, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainEventMetadataChange) {
		if e.NSURI == domain.Namespace { // not what SetState has written
			about(d, false)
		}
	})
	networks, networksErr := c.NetworkEventLifecycleRegister(nil, func(*libvirt.Connect, *libvirt.Network, *libvirt.NetworkEventLifecycle) { tell(Event{}) })
	return errors.Join(
		ask(life, lifeErr, c.DomainEventDeregister), ask(added, addedErr, c.DomainEventDeregister), ask(removed, removedErr, c.DomainEventDeregister),
		ask(said, saidErr, c.DomainEventDeregister),
		ask(networks, networksErr, c.NetworkEventDeregister),
		c.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) { lost() }),
		c.SetKeepAlive(keepAliveSeconds, keepAliveMissed))
}

// qemuEvents are those that matter of what QEMU tells, as a regular expression. libvirt has it
// tell of the states of a migration, and passes on what it has no use for itself.
const qemuEvents = "^(UNPLUG_PRIMARY|MIGRATION)$"

// listenToQEMU asks libvirt's second library. A host that has only the first does without.
func (c *connection) listenToQEMU(tell func(Event)) error {
	id, err := c.DomainQemuMonitorEventRegister(nil, qemuEvents, func(_ *libvirt.Connect, d *libvirt.Domain, e *libvirt.DomainQemuMonitorEvent) {
		var said struct {
			Device string `json:"device-id"`
			Status string `json:"status"`
		}
		uuid, err := d.GetUUIDString()
		if err == nil && json.Unmarshal([]byte(e.Details), &said) == nil && said.Device+said.Status != "" {
			tell(Event{Domain: uuid, Unplugs: said.Device, Migration: said.Status})
		}
	}, libvirt.CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX)
	if err == nil {
		c.events = append(c.events, func() error { return c.DomainQemuEventDeregister(id) })
	}
	return err
}

func (c *connection) Version() string { return c.version }

func (c *connection) Deaf() error { return c.deaf }

func (c *connection) Leaving(uuid string) (Leaving, error) {
	d, err := c.LookupDomainByUUIDString(uuid)
	if err == nil {
		defer func() { _ = d.Free() }() // of this process alone
		var job *libvirt.DomainJobInfo
		if job, err = d.GetJobStats(0); err == nil {
			return leaving(job), nil
		}
	}
	var e libvirt.Error
	switch {
	case errors.As(err, &e) && e.Code == libvirt.ERR_NO_SUPPORT: // a container cannot leave
		return Stays, nil
	case vanished(err), errors.As(err, &e) && e.Code == libvirt.ERR_OPERATION_INVALID: // it does not run any more
		err = nil
	}
	return Leaves, err
}

func leaving(job *libvirt.DomainJobInfo) Leaving {
	switch {
	case job.Type == libvirt.DOMAIN_JOB_NONE, job.Operation != libvirt.DOMAIN_JOB_OPERATION_MIGRATION_OUT:
		return Stays
	case job.MemProcessed > 0:
		return Moves
	}
	return Leaves
}

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
	active, err := d.IsActive() // one that has crashed may have been kept, with its QEMU and its taps
	if err != nil {
		return out, err
	}
	if active {
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
