//go:build !patchbay_faults

// Package mortal lets a process die where a test wants it to. Built without the tag
// patchbay_faults, as every release is, it does nothing.
package mortal

// Point is a place where the process may be killed: see the build with faults.
func Point() {}
