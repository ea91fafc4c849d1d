package store

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// The configuration and facts are JSON. The small records of the run file are not,
// nor are ports: see pack.go.

// value is a record with an encoding of its own.
type value interface {
	encode() []byte
	decode(body []byte) error
}

var errEncoding = errors.New("unknown encoding")

// encode writes NUL-separated text, which every later version can read as far as
// it concerns it: the schema and who wrote it come first.
func (m *fileMeta) encode() []byte {
	return []byte(strings.Join([]string{strconv.Itoa(m.Schema), m.By, m.Boot, strconv.Itoa(m.Config)}, "\x00"))
}

func (m *fileMeta) decode(body []byte) error {
	fields := strings.Split(string(body), "\x00")
	if len(fields) < 4 {
		return errEncoding
	}
	var err1, err2 error
	m.Schema, err1 = strconv.Atoi(fields[0])
	m.By, m.Boot = fields[1], fields[2]
	m.Config, err2 = strconv.Atoi(fields[3])
	return errors.Join(err1, err2)
}

// encode writes flags, three numbers and the port.
func (r *record) encode() []byte {
	b := make([]byte, 0, 1+8*3+len(r.Port))
	b = append(b, flag(r.Static))
	b = binary.BigEndian.AppendUint64(b, r.Pool)
	b = binary.BigEndian.AppendUint64(b, r.Place)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Since))
	return append(b, r.Port...)
}

func (r *record) decode(b []byte) error {
	if len(b) < 1+8*3 {
		return errEncoding
	}
	r.Static = b[0] != 0
	r.Pool = binary.BigEndian.Uint64(b[1:])
	r.Place = binary.BigEndian.Uint64(b[9:])
	r.Since = int64(binary.BigEndian.Uint64(b[17:]))
	r.Port = string(b[25:])
	return nil
}

// encode writes flags, two numbers and the cursor.
func (s *poolState) encode() []byte {
	b := make([]byte, 0, 1+8*2+len(s.Next))
	b = append(b, flag(s.Forgot))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Span))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Resting))
	return append(b, s.Next...)
}

func (s *poolState) decode(b []byte) error {
	if len(b) < 1+8*2 {
		return errEncoding
	}
	s.Forgot = b[0] != 0
	s.Span = int(binary.BigEndian.Uint64(b[1:]))
	s.Resting = int(binary.BigEndian.Uint64(b[9:]))
	if s.Span < 0 {
		return errEncoding
	}
	s.Next = append([]byte(nil), b[17:]...)
	return nil
}

// count is a number of ports.
type count int

func (c *count) encode() []byte { return binary.BigEndian.AppendUint64(nil, uint64(*c)) }

func (c *count) decode(b []byte) error {
	if len(b) != 8 {
		return errEncoding
	}
	*c = count(binary.BigEndian.Uint64(b))
	return nil
}

// macRange is the MAC pool's range, as its twelve bytes.
type macRange vswitch.MACRange

func (r *macRange) encode() []byte { return append(r.First[:], r.Last[:]...) }

func (r *macRange) decode(b []byte) error {
	if len(b) != len(r.First)+len(r.Last) {
		return errEncoding
	}
	copy(r.First[:], b)
	copy(r.Last[:], b[len(r.First):])
	return nil
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}
