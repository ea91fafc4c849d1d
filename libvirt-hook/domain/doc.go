// Package domain reads of a libvirt domain, a VM or a container, what matters to its ports:
// who it is, its network interfaces, and in its <metadata> what each of them wants to be
// stricter than its port profile. An interface is named there by its alias, which users
// choose and libvirt keeps if it begins with "ua-", or by its MAC address.
//
// libvirtxml would drop what names a port: once libvirt has plugged an interface of a network
// into a bridge, it writes it with type "bridge" and the port's id in its source, where
// libvirtxml knows of the bridge alone. And it would refuse a domain for anything that it
// cannot read in some disk.
package domain
