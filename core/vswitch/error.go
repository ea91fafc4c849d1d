package vswitch

import "strings"

// Kind says what went wrong, from a closed list, so that callers can decide
// (errors.Is) and so that each kind maps once to a CNI code and an exit code.
// A Kind is an error itself: errors.Is(err, vswitch.NotFound).
type Kind string

// The kinds of failure. They are the validation catalogue's names and part of
// the interface: scripts match them in `-o json` output.
const (
	Invalid            Kind = "INVALID"                 // a value is out of its range or contradicts another
	NotFound           Kind = "NOT_FOUND"               // no such switch or port
	AlreadyExists      Kind = "ALREADY_EXISTS"          // the name is taken
	Conflict           Kind = "CONFLICT"                // what exists disagrees with what is asked
	Ambiguous          Kind = "AMBIGUOUS"               // two rules that no order decides between
	Immutable          Kind = "IMMUTABLE"               // the field cannot change in place
	InUse              Kind = "IN_USE"                  // somebody holds the object; the message lists the holders
	Range              Kind = "RANGE"                   // a number outside its range
	VLANRange          Kind = "VLAN_RANGE"              // a VLAN id outside 1-4094
	VLANModeIncomplete Kind = "VLAN_MODE_INCOMPLETE"    // a mode of a port without what belongs to it
	VLANNotApplicable  Kind = "VLAN_NOT_APPLICABLE"     // a VLAN on a switch that the host has no port on
	MACInvalid         Kind = "MAC_INVALID"             // not a unicast address
	MACDuplicate       Kind = "MAC_DUPLICATE"           // held by a port, a host NIC or a VF
	MACStaticInPool    Kind = "MAC_STATIC_IN_POOL"      // a static address inside the dynamic range
	MACPoolRange       Kind = "MAC_POOL_RANGE"          // the range is invalid or holds a static address in use
	MACPoolExhausted   Kind = "MAC_POOL_EXHAUSTED"      // every dynamic address is leased
	IPRangeInvalid     Kind = "IP_RANGE"                // a range that IPAM cannot serve
	IPInUse            Kind = "IP_IN_USE"               // the requested address is leased
	IPPoolExhausted    Kind = "IP_POOL_EXHAUSTED"       // every address of the ranges is leased
	UplinkNotFound     Kind = "UPLINK_NOT_FOUND"        // no such NIC
	UplinkInUse        Kind = "UPLINK_IN_USE"           // the NIC serves somebody else
	UplinkUnsupported  Kind = "UPLINK_UNSUPPORTED"      // a netdev that cannot be an uplink
	TeamMembers        Kind = "TEAM_MEMBERS"            // too few, too many, or named twice
	TeamStandby        Kind = "TEAM_STANDBY"            // a standby where there can be none
	TeamOption         Kind = "TEAM_OPTION"             // an option that the team's mode does not have
	TeamMember         Kind = "TEAM_MEMBER_UNSUPPORTED" // a netdev that cannot be a team's member
	TeamDegraded       Kind = "TEAM_DEGRADED"           // a team works, with less than it is defined with
	NetnsNotFound      Kind = "NETNS_NOT_FOUND"         // the owner's network namespace is gone or no namespace
	EndpointExists     Kind = "ENDPOINT_EXISTS"         // the owner already has a netdev of that name
	CapabilityMissing  Kind = "CAPABILITY_MISSING"      // this kernel or NIC lacks what was asked for
	SwitchFull         Kind = "SWITCH_FULL"             // the kernel's limit of ports on a bridge
	StoreCorrupt       Kind = "STORE_CORRUPT"           // the store cannot be read as what we wrote
	StoreNewer         Kind = "STORE_NEWER"             // a newer Patchbay wrote the store
	StoreUnavailable   Kind = "STORE_UNAVAILABLE"       // the store cannot be read or written: permissions, space, I/O
	Drifted            Kind = "DRIFTED"                 // the kernel is not as it was made; repairing helps
	MirrorTarget       Kind = "MIRROR_TARGET"           // a port's frames are copied, and nobody gets them
	Widens             Kind = "WIDENS"                  // who may only take away from a port asks for more
	NoCarrier          Kind = "NO_CARRIER"              // a NIC without a link
	KernelFailed       Kind = "KERNEL"                  // the kernel refused a step for no reason named above
)

// Error makes a Kind an error, so that it can be the target of errors.Is.
func (k Kind) Error() string { return strings.ToLower(strings.ReplaceAll(string(k), "_", " ")) }

// Error is what every verb of Patchbay returns on failure. Its text reads
// "op object: cause; hint": what was tried, on what, why not, and what to do.
type Error struct {
	Kind   Kind   // from the closed list above
	Op     string // "attach", "switch add"; verbs as the CLI spells them
	Object string // "switch prod", "port pb4k2..."
	Err    error  // the cause, lower case; nil where Kind says it all
	Hint   string // an imperative, best of all the next command; may be empty
	// Field is the path of JSON keys to the value at fault in the definition that was
	// validated, like "switches[1].gateway[0]"; empty where it is none's alone.
	Field string
}

// Error renders one line for a terminal or a runtime's log.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Op, e.Object} {
		if part == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(part)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Cause())
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Cause is the reason alone, without operation, object and hint.
func (e *Error) Cause() string {
	if e.Err == nil {
		return e.Kind.Error()
	}
	return e.Err.Error()
}

// Unwrap exposes both the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
