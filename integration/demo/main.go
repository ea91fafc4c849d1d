// Demo attaches containers to an External, an Internal and a Private switch,
// through the CNI plugin, and shows that each reaches exactly what it should; then a
// switch takes the host's NIC from under a live TCP connection, and gives it back. It
// works in private namespaces and leaves nothing behind. Then it shows VLANs and a team
// that loses a cable, in a guest if this machine's kernel has not what they need. Run it
// with `make demo`.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/patchbay-net/patchbay/integration/host"
	"github.com/patchbay-net/patchbay/integration/lab"
)

func main() {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: network namespaces need root; run `sudo make demo`")
		os.Exit(1)
	}
	if len(os.Args) > 1 { // -wire
		os.Exit(host.Main(func() int { return report(showWire()) }))
	}
	code := host.Main(run)
	if code == 0 && !host.Inside() {
		code = report(wireApart())
	}
	os.Exit(code)
}

// report prints an error and returns the exit code.
func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

func run() int {
	start := time.Now()
	if code := report(show()); code != 0 {
		return code
	}
	fmt.Printf("\nAll as expected, in %.1f s. Nothing is left on this host.\n", time.Since(start).Seconds())
	return 0
}

func show() (err error) {
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
	before, err := h.Snapshot()
	if err != nil {
		return err
	}
	l, err := lab.Build(h)
	if err != nil {
		return err
	}
	fmt.Printf("Six containers attached through %s, in network namespaces of this demo's own.\n\n", l.Plugin())
	wrong := printMatrix(l, l.Probe())
	for _, command := range [][]string{{"topology"}, {"port", "list"}} {
		out, err := h.Patchbay(command...)
		if err != nil {
			return err
		}
		fmt.Printf("\n%s\n%s\n", bold("$ patchbay "+strings.Join(command, " ")), strings.TrimRight(out, "\n"))
	}
	if err := l.Dismantle(); err != nil {
		return err
	}
	if err := showUplink(h); err != nil {
		return err
	}
	after, err := h.Snapshot()
	if err != nil {
		return err
	}
	if left := after.Since(append(before, "netdev eth0 (veth)", "netdev eth1 (veth)")); len(left) > 0 {
		return fmt.Errorf("left behind after detaching: %v", left)
	}
	if wrong > 0 {
		return fmt.Errorf("%d answers are not as expected", wrong)
	}
	return nil
}
