// Package call tells what a start of the hook is about from its arguments and, without
// reading all of it, its XML: whose hook it is, whether libvirt may hear of a failure, and
// whether the object is one of ours at all.
//
// It needs nothing but the language, since it comes before anything else is initialised:
// see package handover.
package call

import "github.com/patchbay-net/patchbay/core/wire"

// The drivers whose hooks there are.
const (
	Network = "network"
	QEMU    = "qemu"
	LXC     = "lxc"
)

// Operations that are about a network or a port of one. Libvirt before 5.5 called the last
// two plugged and unplugged.
const (
	Start       = "start"
	PortCreated = "port-created"
	PortDeleted = "port-deleted"
	plugged     = "plugged"
	unplugged   = "unplugged"
)

// Operations that are about a domain, besides Start.
const (
	Prepare   = "prepare"
	Migrate   = "migrate"
	Restore   = "restore"
	Attach    = "attach"
	Reconnect = "reconnect"
	Stopped   = "stopped"
	Release   = "release"
)

// Parse reads the arguments of a start. Libvirt runs DIRECTORY/DRIVER.d/FILE, or
// DIRECTORY/hooks/DRIVER, with the object's name, the operation, a part of it and why;
// people may write the driver before these instead. ok is false for anything else.
func Parse(args []string) (c wire.HookCall, ok bool) {
	if len(args) == 0 {
		return c, false
	}
	rest := args[1:]
	c.Driver = driverOf(args[0])
	if c.Driver == "" && len(rest) > 0 && isDriver(rest[0]) {
		c.Driver, rest = rest[0], rest[1:]
	}
	if c.Driver == "" || len(rest) < 2 {
		return wire.HookCall{}, false
	}
	c.Object, c.Operation = rest[0], rest[1]
	if len(rest) > 3 {
		c.Extra = rest[3]
	}
	switch c.Operation {
	case plugged:
		c.Operation = PortCreated
	case unplugged:
		c.Operation = PortDeleted
	}
	return c, true
}

func isDriver(s string) bool { return s == Network || s == QEMU || s == LXC }

// driverOf is the driver that a path to the hook says.
func driverOf(path string) string {
	parent, name := lastTwo(path)
	for _, driver := range []string{Network, QEMU, LXC} {
		if parent == driver+".d" || parent == "hooks" && name == driver {
			return driver
		}
	}
	return ""
}

func lastTwo(path string) (parent, name string) {
	cut := func(s string) (before, after string) {
		for i := len(s) - 1; i >= 0; i-- {
			if s[i] == '/' {
				return s[:i], s[i+1:]
			}
		}
		return "", s
	}
	path, name = cut(path)
	_, parent = cut(path)
	return parent, name
}

// Does reports whether there is anything to do in this call: what a domain is prepared for
// stands in our metadata alone.
func Does(c wire.HookCall) bool {
	if c.Driver != Network && (c.Operation == Prepare || c.Operation == Restore) {
		return index(c.Stdin, namespaces) >= 0
	}
	return Begins(c)
}

// Begins reports whether there may be anything to do in this operation, whatever the document
// says. What a network is started, updated or stopped for has been looked at before, or its
// ports tell.
func Begins(c wire.HookCall) bool {
	if c.Driver == Network {
		return c.Operation == Start || c.Operation == PortCreated || c.Operation == PortDeleted
	}
	switch c.Operation {
	case Prepare, Migrate, Restore, Start, Attach, Reconnect, Stopped, Release:
		return true
	}
	return false
}

// MayFail reports whether libvirt gives up what it is about when the hook fails, and that is
// right. It ends a running guest over a reconnect that fails, and leaves a bridge behind over
// a network that fails to be started; and what is deleted, stopped or released is gone.
func MayFail(c wire.HookCall) bool {
	switch c.Operation {
	case PortDeleted, Reconnect, Stopped, Release:
		return false
	}
	return Begins(c)
}

// Marks of what is ours in a document.
const (
	namespaces = "https://patchbay.net/xmlns/libvirt/"
	bridge     = "bridge="
	bridges    = "pb"
	networks   = "network="
)

// Marked reports whether the document of a call bears a mark of ours: an element of one of
// our namespaces, or a bridge of ours by its name.
func Marked(c wire.HookCall) bool {
	if index(c.Stdin, namespaces) >= 0 {
		return true
	}
	found := false
	attributes(c.Stdin, bridge, func(value string) {
		found = found || len(value) > len(bridges) && value[:len(bridges)] == bridges
	})
	return found || c.Driver == Network && bridgeElement(c.Stdin)
}

// bridgeElement looks for <bridge name='pb...'/>.
func bridgeElement(document []byte) bool {
	at := index(document, "<bridge ")
	if at < 0 {
		return false
	}
	found := false
	attributes(head(document[at:]), "name=", func(value string) {
		found = found || len(value) > len(bridges) && value[:len(bridges)] == bridges
	})
	return found
}

// head is what precedes the end of the first tag.
func head(document []byte) []byte {
	for i, b := range document {
		if b == '>' {
			return document[:i]
		}
	}
	return document
}

// Networks calls f with the name of each network that an interface of a domain is of. A
// name with a character that XML writes otherwise comes as it is written.
func Networks(c wire.HookCall, f func(name string)) { attributes(c.Stdin, networks, f) }

// attributes calls f with the value of each attribute of that name.
func attributes(document []byte, name string, f func(value string)) {
	for {
		at := index(document, name)
		if at < 0 {
			return
		}
		preceded := at > 0 && isSpace(document[at-1])
		document = document[at+len(name):]
		if !preceded || len(document) == 0 || document[0] != '\'' && document[0] != '"' {
			continue
		}
		for i := 1; i < len(document); i++ {
			if document[i] == document[0] {
				f(string(document[1:i]))
				break
			}
		}
	}
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

// index is where s begins in b, or -1. It stands here because package bytes comes after most
// of the standard library.
func index(b []byte, s string) int {
	for i := 0; i+len(s) <= len(b); i++ {
		if b[i] == s[0] && string(b[i:i+len(s)]) == s {
			return i
		}
	}
	return -1
}
