// Package wire is how programs and patchbayd find each other and what travels between
// them, but for the verbs themselves, which are core/api's.
//
// It needs nothing but system calls: the CNI plugin asks patchbayd before anything else
// of it is initialised (see cni/handover), so what this package imports is paid for by
// every container. That goes for bytes and strings too: they import unicode, which comes
// after most of the standard library.
package wire
