package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Provider makes NICs do work for ports. Its methods may be called at any time before and
// after each other, and several at once, with two exceptions that Serve sees to: no call
// about grants runs beside Configure, and no two of Ensure, Release and the optional
// SwitchPath run for one port.
//
// Each method returns soon after its context ends, and what it had begun is then finished
// or undone. Errors are best made with Deny or as *vswitch.Error: kind, cause and hint
// reach the user.
type Provider interface {
	// Describe says who the plugin is. It touches no hardware and works before Configure.
	Describe(ctx context.Context) (Description, error)
	// Configure hands over the configuration, held against the schema and with its defaults
	// filled in. It is called before all methods below, and again for every change.
	Configure(ctx context.Context, config Config) error
	// WatchInventory tells all NICs that the plugin serves at once, and all again whenever
	// something about them changes. It returns when ctx ends, or with tell's error.
	WatchInventory(ctx context.Context, tell func(Inventory) error) error
	// Ensure gives a port a feature on a NIC, or brings what it has up to date. Twice the
	// same is the same grant, and nothing is spent twice. A request that is older than the
	// grant (Generation) fails with Conflict, one for a NIC that there is not with NotFound,
	// and one that cannot be met with the error of Deny. A request that failed leaves what
	// there was before, or nothing.
	Ensure(ctx context.Context, r Request) (Grant, error)
	// Release takes a feature from a port and leaves no trace of it on the hardware. What is
	// not there is released already; what has a greater generation is somebody else's and
	// stays. Neither is an error.
	Release(ctx context.Context, ref Ref, generation uint64) error
	// Grants says what all ports hold. After a restart of the plugin it is what the hardware
	// still knows of, which may be nothing: then the ports are ensured anew.
	Grants(ctx context.Context) ([]Grant, error)
}

// Description is who a plugin is.
type Description struct {
	// Name is NAME of the executable patchbay-plugin-NAME.
	Name    string `json:"name"`
	Vendor  string `json:"vendor"`
	Version string `json:"version"`
	// Features are what the plugin serves on some NIC.
	Features []vswitch.Feature `json:"features"`
	// Schema says what the configuration may hold.
	Schema Schema `json:"schema,omitempty"`
	// Extensions are the optional interfaces that the provider has. Serve fills them in.
	Extensions []Extension `json:"extensions,omitempty"`
}

// Inventory is all NICs that a plugin serves.
type Inventory struct {
	NICs []NIC `json:"nics"`
}

// NIC is a network adapter.
type NIC struct {
	// ID is what the NIC is called for ever: its PCI address, for example.
	ID     string `json:"id"`
	Netdev string `json:"netdev,omitempty"` // its name at this moment
	Driver string `json:"driver,omitempty"`
	Model  string `json:"model,omitempty"`
	Link   bool   `json:"link"`
	// Capabilities are what it can do; the zero Capability is a feature that it does not
	// serve.
	Capabilities vswitch.Capabilities `json:"capabilities,omitzero"`
}

// Ref names a grant: a port has each feature once.
type Ref struct {
	Port    string          `json:"port"`
	Feature vswitch.Feature `json:"feature"`
}

// String is how logs and errors name the grant.
func (r Ref) String() string { return fmt.Sprintf("%s of port %s", r.Feature, r.Port) }

// Request is what a port is to have.
type Request struct {
	Ref
	NIC string `json:"nic"` // its ID
	// Generation grows with every new owner and setting of the port.
	Generation uint64            `json:"generation"`
	MAC        vswitch.MAC       `json:"mac"`
	VLAN       int               `json:"vlan,omitempty"` // 0 for untagged
	MTU        int               `json:"mtu,omitempty"`
	Owner      vswitch.OwnerKind `json:"owner"`
	Netns      string            `json:"netns,omitempty"` // path of the owner's; "" for the host's
	Weight     int               `json:"weight,omitempty"`

	// Of SR-IOV alone: the shape of the VF and the port's policy on it.
	QueuePairs  int                `json:"queuePairs,omitempty"`
	Moderation  vswitch.Moderation `json:"interruptModeration,omitempty"`
	MaxOut      vswitch.Bits       `json:"maxOut,omitempty"` // bits a second; 0 for any number
	MACSpoofing bool               `json:"macSpoofing,omitempty"`

	// MaxSAs is how many SAs the NIC may hold. Of IPsec alone.
	MaxSAs int `json:"maxSAs,omitempty"`
}

// Validate reports what no provider has to cope with. Serve refuses it.
func (r Request) Validate() error {
	found := []error{r.Ref.Validate()}
	bad := func(kind vswitch.Kind, field, format string, args ...any) {
		found = append(found, &vswitch.Error{Kind: kind, Object: field, Field: field, Err: fmt.Errorf(format, args...)})
	}
	if err := checkText("nic", r.NIC, maxID); err != nil || r.NIC == "" {
		bad(vswitch.Invalid, "nic", "%.80q names no NIC", r.NIC)
	}
	if err := r.MAC.ValidateStatic(); err != nil {
		found = append(found, err)
	}
	if r.VLAN < 0 || r.VLAN > 4094 {
		bad(vswitch.VLANRange, "vlan", "%d is outside 0-4094", r.VLAN)
	}
	if r.MTU < 0 || r.MTU > vswitch.MaxMTU {
		bad(vswitch.Range, "mtu", "%d is outside 0-%d", r.MTU, vswitch.MaxMTU)
	}
	if !slices.Contains([]vswitch.OwnerKind{vswitch.OwnerContainer, vswitch.OwnerVM, vswitch.OwnerHost}, r.Owner) {
		bad(vswitch.Invalid, "owner", "%.32q is neither container, vm nor host", r.Owner)
	}
	if r.Weight < 0 || r.Weight > vswitch.MaxWeight {
		bad(vswitch.Range, "weight", "%d is outside 0-%d", r.Weight, vswitch.MaxWeight)
	}
	if r.Moderation != "" && !slices.Contains(vswitch.Moderations(), r.Moderation) {
		bad(vswitch.Invalid, "interruptModeration", "%.32q is unknown", r.Moderation)
	}
	if r.QueuePairs < 0 || r.MaxOut < 0 || r.MaxSAs < 0 {
		bad(vswitch.Range, "", "a number is below 0")
	}
	return errors.Join(found...)
}

// Validate refuses what names no grant.
func (r Ref) Validate() error {
	if err := checkText("port", r.Port, maxID); err != nil || r.Port == "" {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "port", Field: "port", Err: fmt.Errorf("%.80q names no port", r.Port)}
	}
	if !slices.Contains(vswitch.Features(), r.Feature) {
		return &vswitch.Error{Kind: vswitch.Invalid, Object: "feature", Field: "feature", Err: fmt.Errorf("%.32q is unknown", r.Feature)}
	}
	return nil
}

// Grant is a feature that a port has.
type Grant struct {
	Ref
	NIC        string `json:"nic"`
	Generation uint64 `json:"generation"`
	VF         *VF    `json:"vf,omitempty"`     // of SR-IOV
	Queue      int    `json:"queue,omitempty"`  // of VMQ; of one that is not told 0
	Amount     int    `json:"amount,omitempty"` // queue pairs of the VF, or SAs that the NIC may hold
	// SAs is how many the owner has at this moment, and SAsHeld how many of those the NIC
	// holds: more than Amount after that was lowered. Of IPsec; an EventSource tells when they
	// change.
	SAs     int `json:"sas,omitempty"`
	SAsHeld int `json:"sasHeld,omitempty"`
	// Reason is why it is not all that was asked for.
	Reason vswitch.Reason `json:"reason,omitempty"`
	Detail string         `json:"detail,omitempty"` // what the reason is about
}

// VF is a virtual function.
type VF struct {
	Index   int    `json:"index"`
	PCIAddr string `json:"pciAddr,omitempty"`
	Netdev  string `json:"netdev,omitempty"` // its name where the host has it
}
