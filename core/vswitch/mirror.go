package vswitch

import "slices"

// MirrorMode is what a port is in the mirroring of its switch. PowerShell twin:
// Set-VMNetworkAdapter -PortMirroring.
type MirrorMode string

// The modes. Each frame that a source's owner sends or receives goes to all destinations
// of its switch too.
const (
	MirrorNone        MirrorMode = ""
	MirrorSource      MirrorMode = "source"
	MirrorDestination MirrorMode = "destination"
)

// noMirror is what users write for MirrorNone.
const noMirror MirrorMode = "none"

// MirrorModes are the words for the modes.
func MirrorModes() []string {
	return []string{string(noMirror), string(MirrorSource), string(MirrorDestination)}
}

// plain is the mode with one word for none.
func (m MirrorMode) plain() MirrorMode {
	if m == noMirror {
		return MirrorNone
	}
	return m
}

func (m MirrorMode) valid() bool {
	return m == MirrorNone || slices.Contains(MirrorModes(), string(m))
}
