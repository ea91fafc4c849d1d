package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Exit codes. A usage error is one of the command line itself: whatever state the
// host is in, the same command fails again.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitDiffers = 3
)

// kindMeaning is a line of the table that `patchbay help exit-codes` prints.
type kindMeaning struct {
	kind    vswitch.Kind
	code    int
	meaning string
}

func kindMeanings() []kindMeaning {
	return []kindMeaning{
		{vswitch.Invalid, exitUsage, "a value is out of its range or contradicts another"},
		{vswitch.Range, exitUsage, "a number outside its range"},
		{vswitch.VLANRange, exitUsage, "a VLAN id outside 1-4094"},
		{vswitch.VLANModeIncomplete, exitUsage, "a mode of a port without the VLANs that belong to it"},
		{vswitch.VLANNotApplicable, exitUsage, "a VLAN on a switch that the host has no port on"},
		{vswitch.MACInvalid, exitUsage, "not a unicast MAC address"},
		{vswitch.IPRangeInvalid, exitUsage, "a range of IP addresses that cannot be served"},
		{vswitch.TeamMembers, exitUsage, "a team with too few or too many members, or one named twice"},
		{vswitch.TeamStandby, exitUsage, "a standby member where there can be none"},
		{vswitch.TeamOption, exitUsage, "an option that the team's mode does not have"},
		{vswitch.Ambiguous, exitUsage, "two rules for the same packets that no order decides between"},
		{vswitch.Widens, exitUsage, "who may only take away from a port asks for more"},
		{vswitch.NotFound, exitFailure, "no such switch or port"},
		{vswitch.AlreadyExists, exitFailure, "the name is taken"},
		{vswitch.Conflict, exitFailure, "what exists disagrees with what is asked"},
		{vswitch.Immutable, exitFailure, "this cannot change in place"},
		{vswitch.InUse, exitFailure, "somebody holds it; the message says who"},
		{vswitch.MACDuplicate, exitFailure, "a port, a NIC or a VF has that MAC address"},
		{vswitch.MACStaticInPool, exitFailure, "a static MAC address inside the pool's range"},
		{vswitch.MACPoolRange, exitFailure, "a range that is invalid or holds a static address in use"},
		{vswitch.MACPoolExhausted, exitFailure, "every address of the MAC pool is leased"},
		{vswitch.IPInUse, exitFailure, "somebody has the requested IP address"},
		{vswitch.IPPoolExhausted, exitFailure, "every address of the IP ranges is leased"},
		{vswitch.UplinkNotFound, exitFailure, "no such NIC"},
		{vswitch.UplinkInUse, exitFailure, "the NIC serves somebody else"},
		{vswitch.UplinkUnsupported, exitFailure, "a netdev that cannot be an uplink"},
		{vswitch.TeamMember, exitFailure, "a netdev that cannot be a team's member"},
		{vswitch.TeamDegraded, exitFailure, "a team works, with less than it is defined with"},
		{vswitch.NetnsNotFound, exitFailure, "the owner's network namespace is gone"},
		{vswitch.EndpointExists, exitFailure, "the owner has a netdev of that name already"},
		{vswitch.CapabilityMissing, exitFailure, "this kernel or NIC lacks what was asked for"},
		{vswitch.SwitchFull, exitFailure, "the switch takes no more ports"},
		{vswitch.StoreCorrupt, exitFailure, "Patchbay's files cannot be read as what it wrote"},
		{vswitch.StoreNewer, exitFailure, "a newer Patchbay wrote the files"},
		{vswitch.StoreUnavailable, exitFailure, "the files cannot be read or written"},
		{vswitch.MirrorTarget, exitFailure, "a port's frames are copied, and nobody gets them"},
		{vswitch.Drifted, exitFailure, "the kernel is not as it was made; repairing helps"},
		{vswitch.NoCarrier, exitFailure, "a NIC has no link"},
		{vswitch.KernelFailed, exitFailure, "the kernel refused, or anything else"},
	}
}

// exitCode is the one of an error of that kind.
func exitCode(kind vswitch.Kind) int {
	for _, k := range kindMeanings() {
		if k.kind == kind {
			return k.code
		}
	}
	return exitFailure
}

// exitCodesTopic is help without a command.
func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString(`Patchbay exits with one of four codes:

    0   done; also where nothing had to be done: what was asked for exists already
    1   it failed; for status and doctor: something keeps the host from being ready;
        for restore: not every switch is there
    2   usage: the command line or the file is wrong whatever the host's state
    3   for diff: the host is not what the file says

An error is printed to stderr: a line with its message and, where there is one, a
line with the next command. With -o json or -o yaml it is an object with kind,
message and hint, and problems where there are several. Its kind is one of these:

`)
	fmt.Fprintf(&b, "    %-20s %-5s %s\n", "KIND", "CODE", "MEANING")
	for _, k := range kindMeanings() {
		fmt.Fprintf(&b, "    %-20s %-5d %s\n", string(k.kind), k.code, k.meaning)
	}
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes and the kinds of errors mean",
		Long:  strings.TrimRight(b.String(), "\n"),
	}
}
