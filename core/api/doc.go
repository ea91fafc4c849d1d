// Package api is how a face reaches the verbs, wherever they are carried out.
//
// Verbs is the interface of them all. It has two implementations: the engine in
// the caller's own process, and a client that has patchbayd carry a verb out. What
// Open returns asks patchbayd and, where none answers, works by itself; nothing
// but the time it takes tells the one from the other.
//
// A verb travels over a unix socket in the run directory, one connection each: a
// frame with the verb and its arguments, and a frame with the answer, both the
// engine's Go structs as JSON behind their length. Errors keep their tree.
package api
