package api

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// What travels: the length of the rest in four bytes, big endian, and that many
// bytes of JSON.
const (
	frameHeader = 4
	// maxRequest bounds what patchbayd reads before it knows what it is for. A
	// request that is larger is carried out by the client itself.
	maxRequest = 1 << 20
	// maxAnswer bounds what a client believes: 5000 ports are 3 MB.
	maxAnswer = 64 << 20
)

// A frame of patchbayd's is preceded by what it is.
const (
	taken    byte = 1 // no frame: the request is worked on, and that may last
	refused  byte = 2 // a refusal: nobody has done anything
	answered byte = 3 // an answer
)

// request is what a client sends.
type request struct {
	Protocol int               `json:"protocol"`
	Build    string            `json:"build"`
	Place    place             `json:"place"`
	Verb     string            `json:"verb"`
	Args     []json.RawMessage `json:"args"`
}

// protocol is the version of frames, requests and errors.
const protocol = 1

// answer is what a verb returned; an error does not exclude a result.
type answer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

// refusal says why patchbayd does not carry a request out, and who it is.
type refusal struct {
	Reason string `json:"reason"`
	// Skewed says that only the builds differ, which a restart mends.
	Skewed bool   `json:"skewed,omitempty"`
	Build  string `json:"build"`
	PID    int    `json:"pid"`
}

// frame is v as it travels, behind the byte that says what it is, if any. It fails
// where it would be longer than limit.
func frame(kind byte, v any, limit int) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > limit {
		return nil, fmt.Errorf("%d bytes are more than the %d of a frame", len(body), limit)
	}
	out := make([]byte, 0, 1+frameHeader+len(body))
	if kind != 0 {
		out = append(out, kind)
	}
	return append(binary.BigEndian.AppendUint32(out, uint32(len(body))), body...), nil
}

// readFrame reads one frame. Memory is taken as bytes come, not as they are
// promised.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(header[:]))
	if size > limit {
		return nil, fmt.Errorf("a frame of %d bytes, the limit is %d", size, limit)
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
