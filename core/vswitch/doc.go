// Package vswitch holds Patchbay's nouns and their rules: switches, ports,
// owners, MAC addresses and the MAC pool, address ranges, errors.
//
// It imports the standard library only and touches nothing: no kernel, no file,
// no clock. Everything here can be tested without root, and a vendor's plugin
// may import it without drag.
//
// The words are those of Hyper-V's virtual switch where it has one and Linux's
// and CNI's otherwise. A switch is External (on a NIC, optionally shared with
// the host), Internal (host and guests) or Private (guests only). A port is a
// slot on a switch; an owner is who the port serves: a container, a virtual
// machine, or the host itself. The bridge, a Linux netdev, is how a switch is
// made, and no word of this package.
package vswitch
