package domain

import (
	"encoding/xml"
	"strings"

	"github.com/patchbay-net/patchbay/libvirt-hook/metadata"
)

// StateNamespace is that of another element of ours in a domain's metadata: what the VM's
// ports are like on the host that it leaves, so that libvirt carries it along. libvirt sets
// one element of a namespace, and this one is patchbayd's to write.
const StateNamespace = "https://patchbay.net/xmlns/libvirt/state/1.0"

func stateName() xml.Name { return xml.Name{Space: StateNamespace, Local: "state"} }

// WriteState writes the element for libvirt to set (virDomainSetMetadata), which declares the
// namespace by itself: its text is the state as JSON.
func WriteState(state []byte) string {
	name := stateName().Local
	return "<" + name + ">" + metadata.Escape(string(state)) + "</" + name + ">"
}

// readState is the element's text; nil where there is none.
func readState(inner string) ([]byte, error) {
	e, err := metadata.Find(inner, stateName())
	if err != nil || e == nil {
		return nil, err
	}
	return []byte(strings.TrimSpace(e.Text)), nil
}
