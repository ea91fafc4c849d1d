// Package conformance tries whether a plugin does all that package sdk promises of it: every
// verb twice, what there is not, what is late, capacity to its end, callers that go away,
// restarts between verbs, and what is left behind.
//
// A vendor's test is a few lines:
//
//	func TestConformance(t *testing.T) {
//		conformance.Test(t, conformance.InMemory(func() sdk.Provider { return acme.New() }), conformance.Options{})
//	}
//
// and `patchbay plugin check PATH` is the same for the program, whatever it is written in.
// What is tried uses ports of its own and NICs that are there: with hardware it is a test of
// the hardware, and a simulated NIC does as well.
package conformance
