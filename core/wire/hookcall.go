package wire

import "syscall"

// HookCall is one start of the libvirt hook: its arguments, and what libvirt writes to its
// standard input. It travels as a Call does. Its answer's Out is for standard error, and
// Failed makes libvirt give up what it was about.
type HookCall struct {
	Driver    string // whose hook: "network", "qemu", "lxc"
	Object    string // the network's or domain's name
	Operation string
	Extra     string // the third argument after that: why a domain is gone
	Stdin     []byte
}

const hookMark = 'H'

func (c *HookCall) fields() []*string {
	return []*string{&c.Driver, &c.Object, &c.Operation, &c.Extra}
}

// IsHookCall tells a call of the hook from other requests.
func IsHookCall(body []byte) bool { return len(body) > 0 && body[0] == hookMark }

// ParseHookCall reads a call, with the build and the place of who makes it.
func ParseHookCall(body []byte) (c HookCall, build string, p Place, err error) {
	c.Stdin, err = parseCall(body, hookMark, envelope(&build, &p), c.fields())
	if err != nil {
		return HookCall{}, "", Place{}, err
	}
	return c, build, p, nil
}

// How long the hook waits for patchbayd, in all about as long as Patience: libvirt answers
// nobody else meanwhile. First for a sign of it, then, once the request is taken, for the
// end.
var (
	hookPatience = syscall.Timeval{Sec: 1}
	hookRest     = syscall.Timeval{Sec: 1, Usec: 300_000}
)

// AskHook is Ask for a call of the hook. late says that patchbayd is at it still, and that
// nobody may wait any longer.
func AskHook(c HookCall) (a Answer, done, alone, late bool) {
	a, outcome := ask(hookMark, c.fields(), c.Stdin, patience{silent: hookPatience, busy: hookRest})
	return a, outcome == outcomeDone, outcome == outcomeAlone, outcome == outcomeLate
}
