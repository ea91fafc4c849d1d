package main

import (
	"testing"

	"github.com/patchbay-net/patchbay/core/kernel"
)

func TestDoctor(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	around := kernel.Host{Release: "6.1.0-13-amd64", Sysctls: map[string]string{"net/ipv6/conf/all/disable_ipv6": "0"}}
	h.kernel.SetHost(around)
	golden(t, "doctor-healthy", h.must("doctor"))
	around.Sysctls["net/bridge/bridge-nf-call-iptables"] = "1"
	around.Forward = []kernel.ForwardChain{{Family: "ip", Table: "filter", Chain: "FORWARD", Closed: true}}
	around.Services = map[string]bool{"docker": true, "firewalld": true, "NetworkManager": true}
	around.Managers = map[string]string{"eth1": "NetworkManager"}
	h.kernel.SetHost(around)
	stdout, stderr := h.exits(exitFailure, "doctor")
	if stderr != "" {
		t.Errorf("on stderr: %q", stderr)
	}
	golden(t, "doctor", stdout)
}
