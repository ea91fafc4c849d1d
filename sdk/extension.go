package sdk

import (
	"context"
	"time"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Extension is an optional interface of a Provider, by name. Serve finds out which of them
// the provider has and says so in its Description; the host calls no other.
type Extension string

// The extensions.
const (
	ExtProbe    Extension = "probe"    // Prober
	ExtEvents   Extension = "events"   // EventSource
	ExtPaths    Extension = "paths"    // PathSwitcher
	ExtCounters Extension = "counters" // CounterReader
)

// Extensions lists them all.
func Extensions() []Extension { return []Extension{ExtProbe, ExtEvents, ExtPaths, ExtCounters} }

// Prober can tell whether the hardware is there at all: its firmware answers, its service
// runs. Who tries a plugin asks it; patchbayd does not, and goes by the inventory.
type Prober interface {
	// Probe returns nil if grants can be made, and else why not.
	Probe(ctx context.Context) error
}

// EventSource hears what happens to grants and NICs by itself. After each event, and after
// each inventory, a provider is asked for its grants: one without events tells its inventory
// again when it has lost some.
type EventSource interface {
	// WatchEvents tells each event once, from the call on. It returns when ctx ends, or with
	// tell's error.
	WatchEvents(ctx context.Context, tell func(Event) error) error
}

// PathSwitcher can move a port's frames from its VF to the switch and back while the grant
// stays: for a migration, and before a reset.
type PathSwitcher interface {
	// SwitchPath moves them. To where they are already is no error; a grant that there is not
	// is NotFound.
	SwitchPath(ctx context.Context, ref Ref, to Path) error
}

// CounterReader can read what the hardware counted for a grant, which proves that the
// hardware does the work.
type CounterReader interface {
	// Counters reads them, by the hardware's own names. A grant that there is not is NotFound.
	Counters(ctx context.Context, ref Ref) (map[string]uint64, error)
}

// A Provider that is an io.Closer too is closed before its process ends, for which it has
// a second.

// Path is where a port's frames go.
type Path string

// The paths.
const (
	PathHardware Path = "hardware"
	PathSoftware Path = "software"
)

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	GrantLost    EventKind = "grant-lost"    // the grant is no more
	GrantChanged EventKind = "grant-changed" // it is another than it was
	NICReset     EventKind = "nic-reset"     // what the NIC held may be gone
)

// Event is something that happened by itself.
type Event struct {
	Kind   EventKind      `json:"kind"`
	Time   time.Time      `json:"time"`
	NIC    string         `json:"nic,omitempty"`
	Ref    Ref            `json:"ref,omitzero"` // of a grant
	Reason vswitch.Reason `json:"reason,omitempty"`
	Detail string         `json:"detail,omitempty"`
}

// extensionsOf are those that p has.
func extensionsOf(p Provider) []Extension {
	var has []Extension
	for _, ext := range Extensions() {
		var ok bool
		switch ext {
		case ExtProbe:
			_, ok = p.(Prober)
		case ExtEvents:
			_, ok = p.(EventSource)
		case ExtPaths:
			_, ok = p.(PathSwitcher)
		case ExtCounters:
			_, ok = p.(CounterReader)
		}
		if ok {
			has = append(has, ext)
		}
	}
	return has
}
