package vswitch

// What plugins tell of NICs and what is asked of them, in the words of the nouns: whoever
// decides about offloads need not know how plugins are spoken to.

// OffloadNIC is a NIC that a plugin serves.
type OffloadNIC struct {
	Plugin string `json:"plugin"`
	ID     string `json:"id"` // what the plugin calls it, for ever
	Netdev string `json:"netdev,omitempty"`
	Link   bool   `json:"link"`
	// Capabilities are what it can do; the zero Capability is a feature that the plugin does
	// not serve.
	Capabilities Capabilities `json:"capabilities,omitzero"`
}

// OffloadInventory is what there is of NICs and plugins.
type OffloadInventory struct {
	NICs []OffloadNIC `json:"nics,omitempty"`
	// Failed says of plugins that tell nothing at present why not, by their names.
	Failed map[string]string `json:"failed,omitempty"`
	// Untold is that one of these has never told its NICs: what no other serves may be its.
	Untold bool `json:"untold,omitempty"`
}

// OffloadRef names a feature that a port has.
type OffloadRef struct {
	Port    string  `json:"port"`
	Feature Feature `json:"feature"`
}

// OffloadRequest is what a port is to have of a NIC.
type OffloadRequest struct {
	OffloadRef
	NIC string `json:"nic"` // its ID
	// Generation grows with every new owner and setting of the port.
	Generation uint64    `json:"generation"`
	MAC        MAC       `json:"mac"`
	VLAN       int       `json:"vlan,omitempty"` // 0 for untagged
	MTU        int       `json:"mtu,omitempty"`
	Owner      OwnerKind `json:"owner"`
	Netns      string    `json:"netns,omitempty"`
	Weight     int       `json:"weight,omitempty"`

	// Of SR-IOV alone.
	QueuePairs  int        `json:"queuePairs,omitempty"`
	Moderation  Moderation `json:"interruptModeration,omitempty"`
	MaxOut      Bits       `json:"maxOut,omitempty"`
	MACSpoofing bool       `json:"macSpoofing,omitempty"`

	// MaxSAs is of IPsec alone.
	MaxSAs int `json:"maxSAs,omitempty"`
}

// OffloadGrant is what a plugin has given.
type OffloadGrant struct {
	OffloadRef
	NIC        string     `json:"nic"`
	Generation uint64     `json:"generation"`
	VF         *OffloadVF `json:"vf,omitempty"`
	Queue      int        `json:"queue,omitempty"`
	Amount     int        `json:"amount,omitempty"` // queue pairs of the VF, or SAs that the NIC may hold
	// SAs is how many the owner has, and SAsHeld how many of those the NIC holds. Of IPsec.
	SAs     int `json:"sas,omitempty"`
	SAsHeld int `json:"sasHeld,omitempty"`
	// Reason is why it is not all that was asked for.
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// OffloadVF is a virtual function that a port has.
type OffloadVF struct {
	Index   int    `json:"index"`
	PCIAddr string `json:"pciAddr,omitempty"`
	Netdev  string `json:"netdev,omitempty"` // its name where the host has it
}

// Denied is why a plugin has not given what it was asked for. It is an error.
type Denied struct {
	Reason Reason
	Detail string
}

// Error is the plugin's own words, or those of the reason.
func (d *Denied) Error() string {
	if d.Detail != "" {
		return d.Detail
	}
	cause, _ := d.Reason.Words()
	return cause
}

// OffloadStatus is what a port has of a feature: what it asked for, whether it has it, and
// why not or not all of it.
type OffloadStatus struct {
	OffloadDecision
	Plugin string     `json:"plugin,omitempty"`
	NIC    string     `json:"nic,omitempty"`
	VF     *OffloadVF `json:"vf,omitempty"`
	Queue  int        `json:"queue,omitempty"`
	// SAs is how many the owner has, and SAsHeld how many of those the NIC holds. Of IPsec.
	SAs     int `json:"sas,omitempty"`
	SAsHeld int `json:"sasHeld,omitempty"`
}
