// Package xfrm reads the kernel's security associations (SAs), hears of their changes, and
// moves them between the host's processors and a NIC without losing any.
//
// It keeps an SA as the bytes in which the kernel told of it, and gives those back with
// little changed: what it does not know of an SA is kept as well as what it knows. The
// library that the rest of the project uses drops attributes.
package xfrm
