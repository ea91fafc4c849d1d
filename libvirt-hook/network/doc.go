// Package network reads and writes the libvirt network of a switch: a bridge that is there
// already (forward mode "bridge"), a portgroup for each port profile of the switch, and in
// the <metadata> what the profiles say, since that is the one place of a network that
// libvirt hands to its hooks and does not act on by itself.
//
// Types of libvirtxml are used where they hold all that there is; of a portgroup that one
// lacks the bandwidth. Only what is needed is read: what else stands in a definition is
// libvirt's affair.
package network
