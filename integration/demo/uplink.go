package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/patchbay-net/patchbay/integration/host"
)

// showUplink takes the NIC that the host lives on for a switch, under a TCP connection
// that carries a byte to and fro without a pause, and gives it back.
func showUplink(h *host.Host) (err error) {
	outside, err := h.Neighbour("uplink")
	if err != nil {
		return err
	}
	if err := host.Cable(h.Netns, "eth1", outside, "wan"); err != nil {
		return err
	}
	for _, x := range []struct {
		at           *host.Netns
		addr, netdev string
	}{{h.Netns, "198.51.100.2/24", "eth1"}, {outside, "198.51.100.1/24", "wan"}} {
		if _, err := x.at.Run("ip", "addr", "add", x.addr, "dev", x.netdev); err != nil {
			return err
		}
	}
	live, err := outside.Connect(netip.MustParseAddr("198.51.100.1"), h.Netns, netip.MustParseAddr("198.51.100.2"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, live.Close()) }()
	if _, err := live.Longest(); err != nil {
		return err
	}
	for _, x := range []struct {
		command []string
		netdev  string // that has the address then
	}{{[]string{"switch", "add", "uplink", "--uplink", "eth1"}, "pbh-uplink"}, {[]string{"switch", "delete", "uplink"}, "eth1"}} {
		out, err := h.Patchbay(x.command...)
		if err != nil {
			return err
		}
		gap, err := live.Longest()
		if err != nil {
			return fmt.Errorf("patchbay %s: %w", strings.Join(x.command, " "), err)
		}
		addr, err := h.Run("ip", "-br", "-4", "addr", "show", "dev", x.netdev)
		if err != nil {
			return err
		}
		if !strings.Contains(addr, "198.51.100.2/24") {
			return fmt.Errorf("the host's address is not on %s: %s", x.netdev, addr)
		}
		fmt.Printf("\n%s\n%s%sA TCP connection to the host went on; its longest silence was %d ms.\n",
			bold("$ patchbay "+strings.Join(x.command, " ")), out, addr, gap.Milliseconds())
	}
	return nil
}
