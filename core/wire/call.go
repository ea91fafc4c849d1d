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

// CallMark is what the request of a Call begins with, and no JSON does. Fields that end with a
// zero byte follow, and the standard input is the rest.
const CallMark = 'C'

func (c *Call) fields() []*string {
	return []*string{&c.Command, &c.ContainerID, &c.Netns, &c.IfName, &c.Args}
}

// envelope are the fields of any call: who makes it, and where.
func envelope(build *string, p *Place) []*string {
	return []*string{build, &p.Net, &p.Mount, &p.State, &p.Run}
}

// IsCall tells a call from other requests.
func IsCall(body []byte) bool { return len(body) > 0 && body[0] == CallMark }

// encodeCall is a call as it travels.
func encodeCall(mark byte, envelope, fields []*string, rest []byte) ([]byte, error) {
	body := []byte{mark}
	for _, all := range [][]*string{envelope, fields} {
		for _, f := range all {
			body = append(append(body, *f...), 0)
		}
	}
	return AppendFrame(nil, append(body, rest...), MaxRequest)
}

// ParseCall reads a call, with the build and the place of who makes it.
func ParseCall(body []byte) (c Call, build string, p Place, err error) {
	c.Stdin, err = parseCall(body, CallMark, envelope(&build, &p), c.fields())
	if err != nil {
		return Call{}, "", Place{}, err
	}
	return c, build, p, nil
}

func parseCall(body []byte, mark byte, envelope, fields []*string) (rest []byte, err error) {
	if len(body) == 0 || body[0] != mark {
		return nil, errors.New("not a call")
	}
	rest = body[1:]
	for _, all := range [][]*string{envelope, fields} {
		for _, f := range all {
			end := 0
			for end < len(rest) && rest[end] != 0 {
				end++
			}
			if end == len(rest) {
				return nil, errors.New("a call that is cut off")
			}
			*f, rest = string(rest[:end]), rest[end+1:]
		}
	}
	return rest, nil
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
	a, outcome := ask(CallMark, c.fields(), c.Stdin, patience{silent: syscall.Timeval{Sec: Patience}})
	return a, outcome == outcomeDone, outcome == outcomeAlone
}

// What comes of asking patchbayd.
type outcome int

const (
	outcomeLeft  outcome = iota // it leaves the call to the caller
	outcomeDone                 // it has answered
	outcomeAlone                // it did not answer, or would not
	outcomeLate                 // it has not ended in time
)

// patience is how long to wait for a sign of patchbayd, and then for the end; zero is no
// limit.
type patience struct{ silent, busy syscall.Timeval }

func ask(mark byte, fields []*string, rest []byte, p patience) (a Answer, o outcome) {
	state, run := Dirs()
	path := SocketPath(run)
	if syscall.Access(path, 0) != nil { // cheaper to know than to dial
		return a, outcomeAlone
	}
	here, err := Here(state, run)
	if err != nil {
		return a, outcomeAlone
	}
	out, err := encodeCall(mark, envelope(&Build, &here), fields, rest)
	if err != nil {
		return a, outcomeLeft
	}
	// The call follows at once, so that it is there when patchbayd has woken up.
	conn, err := dial(path, p.silent)
	if err != nil {
		return a, outcomeAlone
	}
	defer conn.Close()
	if _, err := conn.Write(out); err != nil {
		return a, outcomeAlone
	}
	kind, body, err := conn.await(p.busy)
	switch {
	case errors.Is(err, errLate):
		return a, outcomeLate
	case err != nil:
		return a, outcomeAlone
	case kind == Refused || len(body) == 0:
		return a, outcomeLeft
	}
	return Answer{Out: body[1:], Failed: body[0] != 0}, outcomeDone
}
