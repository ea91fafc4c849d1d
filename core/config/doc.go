// Package config reads and writes a host's configuration as YAML: the nouns of
// vswitch under the same words as in a CNI configuration and in JSON. Reading is
// strict and bounded, and finds all that is wrong at once, each problem with its
// file, line and column. It knows nothing of this host; what is valid is for
// vswitch to say, what can be had is for the engine.
package config
