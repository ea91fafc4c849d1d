// Package store keeps what Patchbay knows, crash-safe and shared by processes.
//
// There are two files, each a bbolt database. The configuration (switches, the
// MAC pool's range) lives in the state directory, /var/lib/patchbay, and is
// synced to disk with every change. Ports and leases live in the run directory,
// /run/patchbay, in a file named after the boot: after a reboot the next one
// begins anew, so that nothing leaks across it, and a run file torn by a power
// failure is never read. No write to it is synced, so that a container pays for
// no disk; a killed process loses nothing by it.
//
// A transaction opens the files, works and closes them again, since a CNI plugin
// is a process per container and there is nothing to keep open. Transactions of
// all processes exclude each other by one lock, which readers share. A file comes
// into being under another name and is renamed into place when its first
// transaction commits: no process sees half a file.
//
// What is read is checked: the page tree before bbolt follows it, each value by a
// checksum over key and value. What fails is reported as vswitch.StoreCorrupt
// and left as it is.
package store
