// Package host makes hosts to try Patchbay on: a network namespace of its own as
// "the host", further ones as its containers and as the outside network, and
// what is needed to drive a CNI plugin there and to look at the result.
//
// A process first calls Main, which runs it again in private network, mount and
// process namespaces: whatever happens there, nothing is left on the machine.
// Everything in this package needs root.
package host
