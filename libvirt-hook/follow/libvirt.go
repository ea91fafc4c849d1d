package follow

import "errors"

// Libvirt is a connection to a libvirtd, for one of its drivers. Its methods may take as
// long as a hook takes that libvirtd waits for.
type Libvirt interface {
	// Networks reads the active networks and their ports.
	Networks() ([]Network, error)
	// Domains reads all domains of the driver, Domain one of them.
	Domains() ([]Domain, error)
	Domain(uuid string) (d Domain, found bool, err error)
	// SetState puts an element into the metadata of a running domain, for as long as it runs
	// and on every host that it goes to.
	SetState(uuid, element string) error
	// Leaving tells how far a domain is on its way to another host.
	Leaving(uuid string) (Leaving, error)
	// Define defines a network, starts it, and has it started with libvirtd from then on.
	// stale says that one with this name is active as it was before.
	Define(xml string) (stale bool, err error)
	// Version is that of libvirtd.
	Version() string
	// Deaf says why what QEMU tells is not told on; nil where it is, or there is no QEMU.
	Deaf() error
	Close()
}

// Network is an active network as libvirt writes it.
type Network struct {
	XML   string
	Ports []string // XML, each
}

// Domain is a domain as libvirt writes it.
type Domain struct {
	UUID, Name string
	// XML is of the running one; "" where it does not run. One that is paused, or has crashed and
	// was kept, has its hypervisor and its taps, and runs.
	XML     string
	Defined string // what it is started as; "" for one that is gone when it stops
	// Speaks says that the guest runs, so that it may send: it is no longer, or not yet,
	// another host's.
	Speaks bool
}

// Leaving is how far a domain is on its way to another host.
type Leaving int

// The ways.
const (
	Stays Leaving = iota
	// Leaves is a domain whose guest may still have all its devices, or one that has left.
	Leaves
	// Moves is one whose memory moves. Its guest has let go of what QEMU has asked it to.
	Moves
)

// Event is something that libvirtd tells, or QEMU by it.
type Event struct {
	Domain string // which domain has changed; "" for anything else
	Speaks bool   // it runs, from now on

	// What QEMU tells. A domain on its way has not changed by that.
	Unplugs   string // the alias of a device that the guest is asked to let go of, to migrate
	Migration string // the new state of a migration, from here or to here
}

// Dial connects to a driver of libvirtd. Events are told until the connection is closed;
// lost is called at most once, when it is closed by the other side. Neither may block.
type Dial func(uri string, tell func(Event), lost func()) (Libvirt, error)

// What Dial may find missing for good, or for long.
var (
	// ErrWithout is of a patchbayd that was built without libvirt.
	ErrWithout = errors.New("patchbayd was built without libvirt")
	// ErrNoLibrary is of a host that has no libvirt.
	ErrNoLibrary = errors.New("libvirt is not installed")
	// ErrNotFollowed is of a moment without a connection.
	ErrNotFollowed = errors.New("libvirtd is not connected")
	// ErrNoDriver is of a libvirtd that does not have the driver.
	ErrNoDriver = errors.New("libvirtd does not have this driver")
	// ErrNoDaemon is of a driver whose daemon nobody has started: it has no socket. Where each
	// driver has a daemon of its own, most hosts lack some of them for good.
	ErrNoDaemon = errors.New("the driver's daemon has not been started")
)
