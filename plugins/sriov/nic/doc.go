// Package nic is what the kernel knows of NICs with SR-IOV, and the only part of the plugin
// that speaks to it: sysfs for functions and drivers, rtnetlink and ethtool's netlink for what
// they are set to, uevents for what becomes of them. It decides nothing and remembers nothing.
//
// Functions are known by their PCI address, which they keep: netdevs are renamed, moved into
// other namespaces, and come and go with drivers.
package nic
