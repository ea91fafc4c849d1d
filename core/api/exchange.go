package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/patchbay-net/patchbay/core/wire"
)

// refusedError says that patchbayd does not carry the request out.
type refusedError struct{ refusal }

func (e *refusedError) Error() string { return "patchbayd: " + e.Reason }

// lateness is when a client is told that its request is taken: well before its
// patience (wire.Patience) ends.
const lateness = 500 * time.Millisecond

// exchange sends a verb to patchbayd and waits for the answer. Any error but
// wire.ErrDied means that nothing was done.
func (c *remote) exchange(ctx context.Context, name string, a args) (answer, error) {
	var reply answer
	if err := ctx.Err(); err != nil {
		return reply, err
	}
	s, err := wire.Dial(c.socket)
	if err != nil {
		return reply, err
	}
	defer s.Close()
	out, err := c.request(name, a)
	if err != nil {
		return reply, err
	}
	stop := context.AfterFunc(ctx, s.HangUp)
	defer stop()
	if _, err := s.Write(out); err != nil {
		return reply, err
	}
	kind, body, err := s.Await()
	if err != nil {
		return reply, err
	}
	var no refusal
	if kind == wire.Refused {
		if err = json.Unmarshal(body, &no); err == nil {
			return reply, &refusedError{no}
		}
	} else {
		err = json.Unmarshal(body, &reply)
	}
	if err != nil {
		err = errors.Join(wire.ErrDied, err)
	}
	return reply, err
}

func (c *remote) request(name string, a args) ([]byte, error) {
	r := request{Protocol: protocol, Build: c.build, Verb: name, Args: make([]json.RawMessage, len(a))}
	var err error
	for i, v := range a {
		if r.Args[i], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	if r.Place, err = wire.Here(c.dirs.State, c.dirs.Run); err != nil {
		return nil, err
	}
	return frame(0, r, wire.MaxRequest)
}

// skewed asks a patchbayd of another build who it is; nil if there is none.
func (c *remote) skewed(ctx context.Context) *refusal {
	var r *refusedError
	if _, err := c.exchange(ctx, nameMACPool, args{}); errors.As(err, &r) && r.Skewed {
		return &r.refusal
	}
	return nil
}
