// Package follow keeps Patchbay's ports in step with what libvirt has. Hooks tell of most
// changes when they happen, but not of all, and one that was killed tells of nothing: so
// patchbayd looks for itself, when it has connected to libvirtd, at libvirtd's events, and
// once a minute. What it finds missing it makes good by the very calls that the hooks would
// have made; what is left over it releases, but only when it has been so for a while,
// since libvirt shows a domain that is being started later than it calls the hooks for it.
//
// libvirt answers nobody about an object that it calls a hook for. So nothing here is ever
// waited for by a hook, and nothing is locked while libvirt is asked.
//
// A libvirtd that is gone changes nothing: its virtual machines run on, and so do their
// ports.
package follow
