package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// CapturedFrame is a frame in a file of pcapng.
type CapturedFrame struct {
	Time   time.Time
	In     bool // or else out
	Length int  // on the wire
	Data   []byte
}

// Capture is what a file of pcapng with one section and one interface holds.
type Capture struct {
	Name, Description string
	Snaplen           int
	Frames            []CapturedFrame
	Received, Dropped int // as its end tells
	Ended             bool
}

// ReadCapture reads a file of pcapng, and refuses one that is not as it should be.
func ReadCapture(b []byte) (c Capture, err error) {
	for first := true; len(b) > 0; first = false {
		if len(b) < 12 {
			return c, errors.New("pcapng: half a block")
		}
		kind, n := binary.NativeEndian.Uint32(b), int(binary.NativeEndian.Uint32(b[4:]))
		if n < 12 || n%4 != 0 || n > len(b) || binary.NativeEndian.Uint32(b[n-4:]) != uint32(n) {
			return c, fmt.Errorf("pcapng: a block of type %#x has length %d of %d", kind, n, len(b))
		}
		if first != (kind == 0x0a0d0d0a) {
			return c, fmt.Errorf("pcapng: a block of type %#x", kind)
		}
		if err := c.block(kind, b[8:n-4]); err != nil {
			return c, err
		}
		b = b[n:]
	}
	return c, nil
}

func (c *Capture) block(kind uint32, b []byte) error {
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	at := func() time.Time { return time.Unix(0, int64(uint64(u32(4))<<32|uint64(u32(8)))) }
	switch kind {
	case 0x0a0d0d0a:
		if u32(0) != 0x1a2b3c4d || binary.NativeEndian.Uint16(b[4:]) != 1 {
			return errors.New("pcapng: no section of version 1")
		}
	case 1:
		if c.Name != "" || binary.NativeEndian.Uint16(b) != 1 {
			return errors.New("pcapng: not one interface of Ethernet")
		}
		c.Snaplen = int(u32(4))
		nanoseconds := false
		for option, value := range captureOptions(b[8:]) {
			switch option {
			case 2:
				c.Name = string(value)
			case 3:
				c.Description = string(value)
			case 9:
				nanoseconds = value[0] == 9
			}
		}
		if !nanoseconds {
			return errors.New("pcapng: no nanoseconds")
		}
	case 6:
		n := int(u32(12))
		f := CapturedFrame{Time: at(), Length: int(u32(16)), Data: b[20 : 20+n]}
		if n > f.Length || n > c.Snaplen {
			return fmt.Errorf("pcapng: %d bytes of a frame of %d", n, f.Length)
		}
		for option, value := range captureOptions(b[20+(n+3)&^3:]) {
			if option == 2 {
				f.In = binary.NativeEndian.Uint32(value)&3 == 1
			}
		}
		c.Frames = append(c.Frames, f)
	case 5:
		c.Ended = true
		for option, value := range captureOptions(b[12:]) {
			switch option {
			case 4:
				c.Received = int(binary.NativeEndian.Uint64(value))
			case 5:
				c.Dropped = int(binary.NativeEndian.Uint64(value))
			}
		}
	default:
		return fmt.Errorf("pcapng: a block of type %#x", kind)
	}
	return nil
}

func captureOptions(b []byte) func(func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			kind, n := binary.NativeEndian.Uint16(b), int(binary.NativeEndian.Uint16(b[2:]))
			if kind == 0 || !yield(kind, b[4:4+n]) {
				return
			}
			b = b[4+(n+3)&^3:]
		}
	}
}
