// Package whiteboard draws a host's switches as a person would on a whiteboard:
// NICs, the host and the outside world on the left, each switch as a wide box,
// its guests as boxes hanging below.
package whiteboard
