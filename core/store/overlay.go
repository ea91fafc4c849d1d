package store

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// overlay holds what a transaction that is only tried has written to one file: by table
// and key, nil for a key that was removed. The file beneath may be missing.
type overlay struct {
	rows      map[string]map[string][]byte
	sequences map[string]uint64
}

func newOverlay() *overlay {
	return &overlay{rows: make(map[string]map[string][]byte), sequences: make(map[string]uint64)}
}

func (o *overlay) put(table, key string, body []byte) {
	if o.rows[table] == nil {
		o.rows[table] = make(map[string][]byte)
	}
	if body == nil {
		body = []byte{} // an empty value is one
	}
	o.rows[table][key] = bytes.Clone(body)
}

func (o *overlay) remove(table, key string) {
	o.put(table, key, nil)
	o.rows[table][key] = nil
}

// from returns the keys of a table that begin with prefix and are not before from.
func (o *overlay) from(table, prefix, from string) []string {
	keys := slices.Sorted(maps.Keys(o.rows[table]))
	return slices.DeleteFunc(keys, func(k string) bool { return k < from || !strings.HasPrefix(k, prefix) })
}

// merged hands visit the rows of the table as the overlay has them, in order; beneath
// walks the file's own.
func (o *overlay) merged(table string, keys []string, beneath func(visit func(row) error) error, visit func(row) error) error {
	own := func(until []byte) error { // what the overlay has before a key of the file
		for ; len(keys) > 0 && (until == nil || keys[0] < string(until)); keys = keys[1:] {
			if body := o.rows[table][keys[0]]; body != nil {
				if err := visit(row{[]byte(keys[0]), body}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err := beneath(func(r row) error {
		err := own(r.key)
		if _, covered := o.rows[table][string(r.key)]; err == nil && !covered {
			err = visit(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	return own(nil)
}
