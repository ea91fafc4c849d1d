// Package metadata is how Patchbay's nouns are written into the <metadata> of libvirt's
// networks and domains: an element for a struct, an attribute for each of its fields that
// is one word, a child for one that holds others, and a child with text for each element of
// a list. Names are the JSON keys, so that a setting is called the same everywhere, and what
// a noun learns to say can be said here at once.
//
// Reading is strict and bounded. An unknown name is refused and not ignored: nobody shall
// believe in a guard that is misspelled.
package metadata
