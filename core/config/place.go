package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// place is where a value stands, with those of its parts.
type place struct {
	source       string
	line, column int // from 1; 0: the source as a whole
	fields       map[string]*place
	items        []*place
	bad          bool // a problem with it is told already
}

// String is "file:line:column", as compilers tell it.
func (at *place) String() string {
	switch {
	case at.line == 0:
		return at.source
	case at.column == 0:
		return fmt.Sprintf("%s:%d", at.source, at.line)
	}
	return fmt.Sprintf("%s:%d:%d", at.source, at.line, at.column)
}

func (at *place) set(key string, value *place) {
	if at.fields == nil {
		at.fields = make(map[string]*place)
	}
	at.fields[key] = value
}

// find follows a path like "switches[1].gateway[0]" as far as it goes. part is the
// whole that the value belongs to, a switch, a team or the MAC pool; exact tells that the
// value itself was found.
func (at *place) find(path string) (found, part *place, exact bool) {
	found, part = at, at
	for depth, step := range steps(path) {
		next := found.fields[step]
		if i, err := strconv.Atoi(step); err == nil && i < len(found.items) {
			next = found.items[i]
		}
		if next == nil {
			return found, part, false
		}
		if found = next; depth == 0 || depth == 1 && slices.Contains([]string{"switches", "teams"}, steps(path)[0]) {
			part = found
		}
	}
	return found, part, true
}

func steps(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// spoilt reports that a part of it, or itself, could not be read.
func (at *place) spoilt() bool {
	if at.bad {
		return true
	}
	for _, f := range at.fields {
		if f.spoilt() {
			return true
		}
	}
	for _, i := range at.items {
		if i.spoilt() {
			return true
		}
	}
	return false
}
