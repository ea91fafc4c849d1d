package nic

import "bytes"

// The thousand veths of a host are of no interest.

// ofFunction reports whether a uevent is of a PCI function or of a netdev that one has. It is
// the kernel's own, or one that udev passes on, which begins with a header.
func ofFunction(event []byte) bool {
	return bytes.Contains(event, []byte("SUBSYSTEM=pci\x00")) ||
		bytes.Contains(event, []byte("SUBSYSTEM=net\x00")) && bytes.Contains(event, []byte("DEVPATH=/devices/pci"))
}

// ofPCI reports whether news of a netdev are of one that a PCI function has: the kernel
// names its bus (IFLA_PARENT_DEV_BUS_NAME).
func ofPCI(news []byte) bool { return bytes.Contains(news, []byte("pci\x00")) }
