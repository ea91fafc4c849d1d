package api

import (
	"encoding/json"

	"github.com/patchbay-net/patchbay/core/wire"
)

// request is what a client sends.
type request struct {
	Protocol int               `json:"protocol"`
	Build    string            `json:"build"`
	Place    wire.Place        `json:"place"`
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
	out := make([]byte, 0, 1+wire.FrameHeader+len(body))
	if kind != 0 {
		out = append(out, kind)
	}
	return wire.AppendFrame(out, body, limit)
}
