package engine

import "time"

// DaemonStatus is what a resident engine tells of itself.
type DaemonStatus struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	// Repairs are the last ones, the newest first.
	Repairs []Repair `json:"repairs,omitempty"`
	// Unrepaired is drift that is tried again.
	Unrepaired []Unrepaired `json:"unrepaired,omitempty"`
	// Libvirt is how it is connected to the drivers of libvirt that it follows.
	Libvirt []LibvirtStatus `json:"libvirt,omitempty"`
}

// LibvirtStatus is a connection to a driver of libvirt.
type LibvirtStatus struct {
	URI       string `json:"uri"`
	Connected bool   `json:"connected"`
	Version   string `json:"version,omitempty"`
	Reason    string `json:"reason,omitempty"` // why there is no connection
	// Deaf says why what QEMU tells is not heard: VFs of VMs that migrate keep their addresses.
	Deaf string `json:"deaf,omitempty"`
}

// Repair is drift that was put right.
type Repair struct {
	Time   time.Time `json:"time"`
	Object string    `json:"object"` // "switch prod", "port pb4k2... (container web)"
	What   []string  `json:"what"`   // what had changed, in words
}

// Unrepaired is drift that could not be put right, or does not stay so.
type Unrepaired struct {
	Object string    `json:"object"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Hint   string    `json:"hint,omitempty"`
	Next   time.Time `json:"next"` // when it is tried again, if nothing happens before
}
