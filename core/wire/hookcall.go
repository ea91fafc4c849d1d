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

// HookMark is what the request of a HookCall begins with.
const HookMark = 'H'

func (c *HookCall) fields() []*string {
	return []*string{&c.Driver, &c.Object, &c.Operation, &c.Extra}
}

// IsHookCall tells a call of the hook from other requests.
func IsHookCall(body []byte) bool { return len(body) > 0 && body[0] == HookMark }

// ParseHookCall reads a call, with the build and the place of who makes it.
func ParseHookCall(body []byte) (c HookCall, build string, p Place, err error) {
	c.Stdin, err = parseCall(body, HookMark, envelope(&build, &p), c.fields())
	if err != nil {
		return HookCall{}, "", Place{}, err
	}
	return c, build, p, nil
}

// How long the hook waits for patchbayd, in microseconds, in all about as long as Patience:
// libvirt answers nobody else meanwhile. First for a sign of it, then, once the request is
// taken, for the end.
const (
	HookPatience = 1_000_000
	HookRest     = 1_300_000
)

// AskHook is Ask for a call of the hook. late says that patchbayd is at it still, and that
// nobody may wait any longer.
func AskHook(c HookCall) (a Answer, done, alone, late bool) {
	a, outcome := ask(HookMark, c.fields(), c.Stdin, patience{silent: syscall.NsecToTimeval(HookPatience * 1000), busy: syscall.NsecToTimeval(HookRest * 1000)})
	return a, outcome == outcomeDone, outcome == outcomeAlone, outcome == outcomeLate
}
