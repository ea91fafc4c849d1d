package vswitch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Number is a whole number that can be left out, so that 0 can be meant. The zero value is
// one left out; in JSON it is a number.
type Number struct {
	value int
	given bool
}

// NumberOf is n, given.
func NumberOf(n int) Number { return Number{value: n, given: true} }

// Given reports whether the number was not left out.
func (n Number) Given() bool { return n.given }

// IsZero reports whether the number was left out; 0 was not.
func (n Number) IsZero() bool { return !n.given }

// Or is the number, or other where it was left out.
func (n Number) Or(other int) int {
	if n.given {
		return n.value
	}
	return other
}

// MarshalJSON writes the number, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.given {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(n.value), 10), nil
}

// UnmarshalJSON reads a whole number; null is one left out.
func (n *Number) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		*n = Number{}
		return nil
	}
	var value int
	if err := json.Unmarshal(data, &value); err != nil {
		return &Error{Kind: Invalid, Err: fmt.Errorf("%.32s is not a whole number", data)}
	}
	*n = NumberOf(value)
	return nil
}
