package api

// build names the build that a program is of; the linker sets it for all programs
// alike. Two programs of one build agree on every struct that travels.
var build = "dev"
