package wire

import (
	"errors"
	"io"
)

// What travels: the length of the rest in four bytes, big endian, and that many bytes.
const (
	FrameHeader = 4
	// MaxRequest bounds what patchbayd reads before it knows what it is for. A
	// request that is larger is carried out by the client itself.
	MaxRequest = 1 << 20
	// MaxAnswer bounds what a client believes: 5000 ports are 3 MB.
	MaxAnswer = 64 << 20
)

// A frame of patchbayd's is preceded by what it is.
const (
	Taken    byte = 1 // no frame: the request is worked on, and that may last
	Refused  byte = 2 // a refusal: nobody has done anything
	Answered byte = 3 // an answer
)

// ErrFrame says that a frame is longer than its kind may be.
var ErrFrame = errors.New("a frame longer than the limit")

// AppendFrame puts body behind its length. It fails where it would be longer than limit.
func AppendFrame(out, body []byte, limit int) ([]byte, error) {
	if len(body) > limit {
		return nil, ErrFrame
	}
	n := len(body)
	out = append(out, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(out, body...), nil
}

// FrameSize is the length that a frame's first bytes tell.
func FrameSize(header [FrameHeader]byte) int {
	return int(header[0])<<24 | int(header[1])<<16 | int(header[2])<<8 | int(header[3])
}

// ReadFrame reads one frame. Memory is taken as bytes come, not as they are promised.
func ReadFrame(r io.Reader, limit int) ([]byte, error) {
	var header [FrameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := FrameSize(header)
	if size > limit {
		return nil, ErrFrame
	}
	const chunk = 64 << 10
	if size <= chunk {
		body := make([]byte, size)
		_, err := io.ReadFull(r, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(size)))
	if err == nil && len(body) < size {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}
