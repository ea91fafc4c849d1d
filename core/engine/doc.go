// Package engine holds Patchbay's verbs. Every face, be it the CNI plugin, the
// CLI or the daemon, ends in one of them.
//
// A verb records its intent in the store, observes the kernel, asks package plan
// for the steps and has package kernel carry them out. Each verb may be repeated,
// and one that died half way is finished or undone by repeating it, by Detach or
// by GC. Verbs on one port exclude each other, verbs on different ports do not;
// a verb on a switch excludes attaching to it. The locks are the store's, hold
// between processes and are taken in one order: all switches, a switch, a port; or, by
// who removes many, several ports in one call, which the store takes in its own order.
package engine
