// Package plan decides what has to change in the kernel, and touches nothing.
//
// State is what netdevs, addresses, routes and rules are, or should be. Diff
// compares two of them and returns the steps from one to the other; the kernel
// package carries steps out. A dry run is printing the steps, CNI's CHECK is
// "there are none", repair is applying them, undo is the diff the other way.
//
// Neither state is the whole host's. A caller names the objects it answers for
// (a switch, a port); the kernel package observes just those.
package plan
