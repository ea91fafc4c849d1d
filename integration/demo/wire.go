package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/integration/guest"
	"github.com/patchbay-net/patchbay/integration/host"
)

// wireApart has VLANs and teams shown by a process of its own, in a guest if this
// kernel lacks what they need.
func wireApart() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := []string{self, "-wire"}
	for _, f := range []guest.Feature{guest.VLANs, guest.Bonding} {
		if f.Missing() != nil {
			fmt.Printf("\nThis kernel lacks %s: VLANs and teams are shown in a guest that has it.\n", f)
			argv = append([]string{filepath.Join(filepath.Dir(self), "guest"), "exec"}, argv...)
			break
		}
	}
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = filepath.Dir(filepath.Dir(self)) // the source tree
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// showWire shows VLANs and teams.
func showWire() (err error) {
	dir, err := os.MkdirTemp("", "patchbay-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h, err := host.New(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return errors.Join(showVLANs(h), showTeam(h))
}

// said runs a command of Patchbay's and prints both.
func said(h *host.Host, args ...string) error {
	out, err := h.Patchbay(args...)
	if err != nil {
		return err
	}
	for i, a := range args {
		if strings.Contains(a, " ") {
			args[i] = "'" + a + "'"
		}
	}
	fmt.Printf("%s\n%s", bold("$ patchbay "+strings.Join(args, " ")), out)
	return nil
}

// scripted runs `ip` with each of the lines.
func scripted(at *host.Netns, lines ...string) error {
	for _, l := range lines {
		if _, err := at.Run(append([]string{"ip"}, strings.Fields(l)...)...); err != nil {
			return err
		}
	}
	return nil
}

const onSwitch = `{"cniVersion":"1.1.0","name":"%[1]s","plugins":[{"type":"patchbay","switch":"%[1]s",
  "ipam":{"type":"patchbay","ranges":[[{"subnet":"%[2]s"}]]}}]}`

// attach puts containers on a switch and returns their addresses.
func attach(h *host.Host, network *host.Network, names ...string) (map[string]*host.Container, map[string]netip.Addr, error) {
	containers, addresses := make(map[string]*host.Container), make(map[string]netip.Addr)
	for _, name := range names {
		c, err := h.Container(name)
		if err != nil {
			return nil, nil, err
		}
		result, err := network.Add(c)
		if err != nil {
			return nil, nil, err
		}
		a, _ := netip.AddrFromSlice(result.IPs[0].Address.IP)
		containers[name], addresses[name] = c, a.Unmap()
	}
	return containers, addresses, nil
}

// showVLANs puts containers of one subnet into VLANs: they reach those of their own.
func showVLANs(h *host.Host) error {
	fmt.Printf("\nThree containers of one subnet, in VLANs:\n\n")
	if err := said(h, "switch", "add", "floor", "--type", "private"); err != nil {
		return err
	}
	n, err := h.Network(fmt.Sprintf(onSwitch, "floor", "10.20.0.0/24"))
	if err != nil {
		return err
	}
	c, addr, err := attach(h, n, "red-a", "red-b", "blue")
	if err != nil {
		return err
	}
	for _, x := range []struct {
		port, vlan string
		meets      bool // red-a reaches blue then
	}{{"red-a", "10", false}, {"red-b", "10", false}, {"blue", "20", false}, {"blue", "10", true}} {
		if err := said(h, "port", "set", x.port, "--vlan", x.vlan); err != nil {
			return err
		}
		if x.port != "blue" {
			continue
		}
		for _, to := range []string{"red-b", "blue"} {
			want := to == "red-b" || x.meets
			err := c["red-a"].Ping(addr[to], time.Second)
			if got := err == nil; got != want {
				return fmt.Errorf("red-a to %s: expected %s: %w", to, reachWord(want), err)
			}
			fmt.Printf("red-a to %-6s %-4s%s\n", to, yesNo(want), green("PASS"))
		}
	}
	for _, one := range c {
		if err := n.Del(one); err != nil {
			return err
		}
	}
	_, err = h.Patchbay("switch", "delete", "floor")
	return err
}

// showTeam cuts the cable of a team's active member under a live TCP connection.
func showTeam(h *host.Host) error {
	fmt.Printf("\nA team of two NICs carries a switch, and loses a cable:\n\n")
	physical, err := h.Neighbour("physical")
	if err != nil {
		return err
	}
	if err := scripted(physical, "link add sw type bridge forward_delay 0", "link set sw up", "addr add 192.0.2.1/24 dev sw"); err != nil {
		return err
	}
	for _, i := range []string{"3", "4"} {
		if err := host.Cable(h.Netns, "eth"+i, physical, "port"+i); err != nil {
			return err
		}
		if err := scripted(physical, "link set port"+i+" master sw"); err != nil {
			return err
		}
	}
	if err := errors.Join(
		said(h, "team", "add", "team0", "--members", "eth3,eth4", "--lab"),
		said(h, "switch", "add", "wan", "--uplink", "team0")); err != nil {
		return err
	}
	n, err := h.Network(fmt.Sprintf(onSwitch, "wan", "192.0.2.0/24"))
	if err != nil {
		return err
	}
	c, addr, err := attach(h, n, "web")
	if err != nil {
		return err
	}
	live, err := physical.Connect(netip.Addr{}, c["web"].Netns, addr["web"])
	if err != nil {
		return err
	}
	if err := errors.Join(loseCable(h, physical, live), live.Close()); err != nil { // while it can be closed
		return err
	}
	if err := n.Del(c["web"]); err != nil {
		return err
	}
	return errors.Join(said(h, "switch", "delete", "wan"), said(h, "team", "delete", "team0"))
}

// loseCable cuts that of the active member.
func loseCable(h *host.Host, physical *host.Netns, live *host.Stream) error {
	if _, err := live.Longest(); err != nil {
		return err
	}
	if err := scripted(physical, "link set port3 down"); err != nil {
		return err
	}
	gap, err := live.Longest()
	if err != nil {
		return fmt.Errorf("with the cable of eth3 cut: %w", err)
	}
	var s struct{ State struct{ Active string } }
	if err := h.PatchbayJSON(&s, "team", "show", "team0"); err != nil {
		return err
	}
	if s.State.Active != "eth4" {
		return fmt.Errorf("with the cable of eth3 cut %s is active", s.State.Active)
	}
	fmt.Printf("The cable of eth3 is cut: %s is active now. A TCP connection went on; its longest silence was %d ms.\n", s.State.Active, gap.Milliseconds())
	return nil
}
