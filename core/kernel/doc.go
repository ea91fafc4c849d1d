// Package kernel is Patchbay's only door to the host's network stack: netlink,
// nftables, sysfs, procfs and network namespaces. Nothing else in the module
// opens a netlink socket, enters a namespace or reads /proc.
//
// There are two kernels: Linux, and Fake, which keeps its state in memory,
// refuses what Linux refuses, prints itself in the words of `ip` and `bridge`
// and can be told to fail or die at the n-th step. Above this package nobody can
// tell them apart.
package kernel
