// Package api is how a face reaches the engine. Open returns a client with the
// engine in its own process; where patchbayd runs, a later version of the same
// call will dial it instead. Requests and answers are the engine's Go structs.
package api
