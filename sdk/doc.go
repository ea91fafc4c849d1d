// Package sdk is all that a vendor imports to make its NICs do work for Patchbay's ports.
//
// A vendor writes a Provider, and perhaps some of the optional interfaces beside it, and
// serves it from a program's main function:
//
//	func main() { sdk.Serve(acme.New()) }
//
// Patchbay starts the program, asks what its NICs can do, decides which port gets what
// (core/vswitch.Decide), and has the provider carry that out. A provider decides nothing: it
// says what there is and does what it is told, or says why not (Deny).
//
// The program is built as patchbay-plugin-NAME, and `patchbay plugin check PATH` tries all
// that the interfaces here promise. docs/writing-a-plugin.md begins at the beginning.
package sdk
