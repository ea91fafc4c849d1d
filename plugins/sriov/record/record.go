// Package record is what the plugin writes down before it changes anything about a VF: what
// was found, who is to have it, and how far that has come. After a crash it says what has to
// be finished or undone. It knows nothing of the kernel.
package record

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/patchbay-net/patchbay/core/vswitch"
	"github.com/patchbay-net/patchbay/plugins/sriov/nic"
	"github.com/patchbay-net/patchbay/sdk"
)

// Phase is how far a VF has come.
type Phase string

// The phases.
const (
	Taking  Phase = "taking"  // it is being brought to a port: not the port's yet
	Held    Phase = "held"    // the port has it
	Leaving Phase = "leaving" // it is being brought back to how it was found
	Seized  Phase = "seized"  // a VM has it that was not given it: it is brought back when it is free
)

// VF is a VF that is not as it was found.
type VF struct {
	PF    string `json:"pf"` // PCI address of its NIC
	Index int    `json:"index"`
	Phase Phase  `json:"phase"`
	Found Found  `json:"found"`
	// Request is the port's, of whose generation Grant is the answer.
	Request sdk.Request `json:"request"`
	Grant   sdk.Grant   `json:"grant"`
	// Path is where the port's frames go; "" for the VF.
	Path sdk.Path `json:"path,omitempty"`
}

// Is reports whether a VF is the one that was found, and not another that was made in its place.
func (vf VF) Is(now nic.VF) bool { return vf.Found.Inode == 0 || vf.Found.Inode == now.Inode }

// Found is what a VF was before it was touched.
type Found struct {
	Settings nic.Settings `json:"settings"`
	Driver   string       `json:"driver,omitempty"`
	Override string       `json:"override,omitempty"`
	Netdev   string       `json:"netdev,omitempty"`
	MTU      int          `json:"mtu,omitempty"`
	Up       bool         `json:"up,omitempty"`
	Inode    uint64       `json:"inode,omitempty"` // see VF.Is
}

// State is all that is written down, by PCI addresses. It is of one boot: what it says of
// another is no more.
type State struct {
	Version int    `json:"version"`
	Boot    string `json:"boot"`
	// Made are the NICs on which the plugin made the VFs, with how many.
	Made map[string]int `json:"made,omitempty"`
	// First are the inodes of the first VFs of those, which VFs that somebody else made in
	// their place do not have.
	First map[string]uint64 `json:"first,omitempty"`
	VFs   map[string]VF     `json:"vfs,omitempty"`
}

// Of is the VF that a port has, or else one on its way to the port or from it. One that a VM
// has seized is not the port's any more. When the VM has ended it is brought back in the port's
// name, while the port may long have another.
func (s State) Of(port string) (addr string, found VF, has bool) {
	order := []Phase{Leaving, Taking, Held}
	for at, vf := range s.VFs {
		rank := slices.Index(order, vf.Phase)
		if vf.Request.Port == port && rank >= 0 && (!has || rank > slices.Index(order, found.Phase)) {
			addr, found, has = at, vf, true
		}
	}
	return addr, found, has
}

// version is of the form of the file.
const version = 1

// The most that a state may hold: no machine has more.
const (
	maxPFs  = 1 << 10
	maxVFs  = 1 << 14
	maxName = 255
)

// Validate refuses what cannot have been written by this package.
func (s State) Validate() error {
	switch {
	case s.Version != version:
		return fmt.Errorf("version %d of the form; this plugin knows %d", s.Version, version)
	case !plain(s.Boot) || len(s.Made) > maxPFs || len(s.VFs) > maxVFs:
		return errors.New("it holds more than can be")
	}
	for addr, n := range s.Made {
		if !nic.IsAddr(addr) || n < 1 || n > 1<<16 {
			return fmt.Errorf("%d VFs were made on %.40q", n, addr)
		}
	}
	for addr := range s.First {
		if s.Made[addr] == 0 {
			return fmt.Errorf("a first VF of %.40q, on which none were made", addr)
		}
	}
	ports := map[string]string{}
	for addr, vf := range s.VFs {
		if !nic.IsAddr(addr) {
			return fmt.Errorf("%.40q is no PCI address", addr)
		}
		if err := vf.validate(); err != nil {
			return fmt.Errorf("VF %s: %w", addr, err)
		}
		if other, twice := ports[vf.Request.Port]; twice && vf.Phase == Held && s.VFs[other].Phase == Held {
			return fmt.Errorf("port %s has both %s and %s", vf.Request.Port, other, addr)
		}
		if vf.Phase == Held {
			ports[vf.Request.Port] = addr
		}
	}
	return nil
}

func (vf VF) validate() error {
	switch {
	case !nic.IsAddr(vf.PF) || vf.Index < 0 || vf.Index >= 1<<16:
		return fmt.Errorf("VF %d of %.40q", vf.Index, vf.PF)
	case vf.Phase != Taking && vf.Phase != Held && vf.Phase != Leaving && vf.Phase != Seized:
		return fmt.Errorf("phase %.20q", vf.Phase)
	case vf.Path != "" && vf.Path != sdk.PathHardware && vf.Path != sdk.PathSoftware:
		return fmt.Errorf("path %.20q", vf.Path)
	case vf.Request.Feature != vswitch.SRIOV || vf.Request.NIC != vf.PF:
		return fmt.Errorf("it is of %.20q on %.40q", vf.Request.Feature, vf.Request.NIC)
	case vf.Grant.VF != nil && vf.Grant.Ref != vf.Request.Ref:
		return fmt.Errorf("%s was asked for, and %s given", vf.Request.Ref, vf.Grant.Ref)
	}
	if err := vf.Request.Validate(); err != nil {
		return err
	}
	return vf.Found.validate()
}

func (f Found) validate() error {
	s := f.Settings
	switch {
	case !fileName(f.Driver) || !fileName(f.Override):
		return fmt.Errorf("driver %.40q, override %.40q", f.Driver, f.Override)
	case f.MTU < 0 || f.MTU > vswitch.MaxMTU:
		return fmt.Errorf("MTU %d", f.MTU)
	case s.VLAN < 0 || s.VLAN > 4095 || s.QoS < 0 || s.QoS > 7 || s.VLANProto < 0 || s.VLANProto > 1<<16-1 || s.MinRate < 0 || s.MaxRate < 0:
		return fmt.Errorf("settings %+v", s)
	}
	if f.Netdev == "" {
		return nil
	}
	return vswitch.ValidateNetdevName(f.Netdev)
}

func plain(text string) bool { return len(text) <= maxName && utf8.ValidString(text) }

// fileName reports whether a text is the name of a file, which drivers' names become part of.
func fileName(text string) bool {
	if !plain(text) || text == "." || text == ".." {
		return false
	}
	for _, r := range text {
		if r <= ' ' || r == '/' || r > '~' {
			return false
		}
	}
	return true
}
