// Package plugin is what the CNI plugin does, in whatever process: calls as the CNI
// specification 0.3.1 to 1.1.0 has them become requests to the engine, and what comes of
// these becomes results and errors of the specification.
//
// It translates and decides nothing.
package plugin
