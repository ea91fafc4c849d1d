package wire

import (
	"errors"
	"syscall"
)

// Call is one start of the CNI plugin: what a runtime puts into its environment, and
// writes to its standard input. It travels as it came: patchbayd reads it, in a process
// that has all that is needed for it.
type Call struct {
	Command     string // CNI_COMMAND
	ContainerID string // CNI_CONTAINERID
	Netns       string // CNI_NETNS
	IfName      string // CNI_IFNAME
	Args        string // CNI_ARGS
	Stdin       []byte
}

// Answer is what the runtime gets: standard output, and whether the call failed. A
// failed one has the specification's error there.
type Answer struct {
	Out    []byte
	Failed bool
}

// A call's frame begins with callMark, which no JSON does. Fields that end with a zero
// byte follow, and the standard input is the rest.
const callMark = 'C'

// fields are all that precedes the standard input.
func (c *Call) fields(build *string, p *Place) []*string {
	return []*string{build, &p.Net, &p.Mount, &p.State, &p.Run, &c.Command, &c.ContainerID, &c.Netns, &c.IfName, &c.Args}
}

// IsCall tells a call from other requests.
func IsCall(body []byte) bool { return len(body) > 0 && body[0] == callMark }

// encode is the call as it travels.
func (c Call) encode(build string, p Place) ([]byte, error) {
	body := []byte{callMark}
	for _, f := range c.fields(&build, &p) {
		body = append(append(body, *f...), 0)
	}
	return AppendFrame(nil, append(body, c.Stdin...), MaxRequest)
}

// ParseCall reads a call, with the build and the place of who makes it.
func ParseCall(body []byte) (c Call, build string, p Place, err error) {
	if !IsCall(body) {
		return c, build, p, errors.New("not a call")
	}
	rest := body[1:]
	for _, f := range c.fields(&build, &p) {
		end := 0
		for end < len(rest) && rest[end] != 0 {
			end++
		}
		if end == len(rest) {
			return Call{}, "", Place{}, errors.New("a call that is cut off")
		}
		*f, rest = string(rest[:end]), rest[end+1:]
	}
	c.Stdin = rest
	return c, build, p, nil
}

// AppendAnswer appends a call's answer as patchbayd sends it.
func AppendAnswer(out []byte, a Answer) ([]byte, error) {
	status := byte(0)
	if a.Failed {
		status = 1
	}
	return AppendFrame(append(out, Answered), append([]byte{status}, a.Out...), MaxAnswer)
}

// Ask has patchbayd carry out a call. Where done is false the caller has to do it: every
// call may be repeated. alone says that it has to do it without patchbayd then, which
// did not answer, or would not.
func Ask(c Call) (a Answer, done, alone bool) {
	state, run := Dirs()
	path := SocketPath(run)
	if syscall.Access(path, 0) != nil { // cheaper to know than to dial
		return a, false, true
	}
	p, err := Here(state, run)
	if err != nil {
		return a, false, true
	}
	out, err := c.encode(Build, p)
	if err != nil {
		return a, false, false
	}
	// The call follows at once, so that it is there when patchbayd has woken up.
	conn, err := Dial(path)
	if err != nil {
		return a, false, true
	}
	defer conn.Close()
	if _, err := conn.Write(out); err != nil {
		return a, false, true
	}
	kind, body, err := conn.Await()
	switch {
	case err != nil:
		return a, false, true
	case kind == Refused || len(body) == 0:
		return a, false, false
	}
	return Answer{Out: body[1:], Failed: body[0] != 0}, true, false
}
