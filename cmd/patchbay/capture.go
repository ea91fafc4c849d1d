package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-net/patchbay/cmd/patchbay/internal/pcapng"
	"github.com/patchbay-net/patchbay/core/kernel"
	"github.com/patchbay-net/patchbay/core/vswitch"
)

// capturer is kernel.Capture.
type capturer func(context.Context, kernel.CaptureRequest) (kernel.CaptureReport, error)

// captured is what is told at the end of a capture.
type captured struct {
	Port    string `json:"port"`
	Frames  int    `json:"frames"`
	Dropped int    `json:"dropped"`
	Gone    bool   `json:"gone,omitempty"` // it ended with the port
}

func (c *cli) captureCommand() *cobra.Command {
	var req kernel.CaptureRequest
	var file, direction string
	cmd := &cobra.Command{
		Use:   "capture PORT",
		Short: "Write what passes a port, for Wireshark and tcpdump",
		Long: `Write the frames that pass a port to a file, or to stdout for a program that reads them,
as pcapng with nanoseconds. In is what the port's owner receives and out what it sends,
also what a guard drops then. VLAN tags are those at the port: of an access port there
are none. The capture ends at --count, with Ctrl-C, or when the port goes; how many
frames it has, and how many came too fast to be written, is told on stderr.

It needs no tcpdump, and root. What sender and receiver compute in hardware is not in
the frames: checksums may be unfinished, and one frame may be up to 64 KB long.

Hyper-V twins: New-NetEventSession, pktmon.`,
		Example: `  patchbay capture web-1 | tshark -r -
  patchbay capture web-1 | wireshark -k -i -
  patchbay capture web-1 --write web-1.pcapng --count 1000 --direction in`,
		SuggestFor:        []string{"tcpdump", "sniff", "dump"},
		Args:              operands("PORT"),
		ValidArgsFunction: c.completePorts,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Direction, err = parseDirection(cmd, direction); err != nil {
				return err
			}
			switch {
			case req.Count < 0:
				return usageError(cmd, "--count %d is less than none", req.Count)
			case req.Snaplen < minSnaplen || req.Snaplen > kernel.MaxSnaplen:
				return usageError(cmd, "--snaplen %d is outside %d-%d", req.Snaplen, minSnaplen, kernel.MaxSnaplen)
			case file == "" && c.terminal.columns > 0:
				return &vswitch.Error{
					Kind: vswitch.Invalid, Op: operation(cmd), Err: fmt.Errorf("a terminal cannot show frames"),
					Hint: fmt.Sprintf("append `| tshark -r -`, or give --write %s.pcapng", args[0]),
				}
			}
			return c.runCapture(cmd, args[0], file, req)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "write", "w", "", "write to this `file`, which is replaced; default: stdout")
	f.IntVarP(&req.Count, "count", "c", 0, "end after `n` frames")
	f.IntVarP(&req.Snaplen, "snaplen", "s", kernel.MaxSnaplen, "write the first `bytes` of each frame")
	f.StringVar(&direction, "direction", "both", "what the owner receives (in), sends (out), or both")
	complete(cmd, "direction", "in", "out", "both")
	return cmd
}

// minSnaplen is an Ethernet header.
const minSnaplen = 14

// parseDirection turns the owner's view into that of the port's switch end.
func parseDirection(cmd *cobra.Command, word string) (kernel.CaptureDirection, error) {
	switch word {
	case "both":
		return kernel.BothDirections, nil
	case "in":
		return kernel.OnlySent, nil
	case "out":
		return kernel.OnlyReceived, nil
	}
	return 0, usageError(cmd, "--direction %.32q is none of in, out, both", word)
}

func (c *cli) runCapture(cmd *cobra.Command, name, file string, req kernel.CaptureRequest) (err error) {
	p, err := c.open().Port(cmd.Context(), name)
	if err != nil {
		return asked(cmd, err)
	}
	fail := func(err error) error {
		return &vswitch.Error{Kind: vswitch.KindOf(err), Op: operation(cmd), Object: "port " + p.ID, Err: err, Hint: vswitch.HintOf(err)}
	}
	out := c.stdout
	if file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return fail(err)
		}
		defer func() {
			if closed := f.Close(); closed != nil && err == nil {
				err = fail(closed)
			}
		}()
		out = f
	}
	report, err := c.captureTo(cmd.Context(), out, p.Port, req)
	if err != nil {
		return fail(err)
	}
	return c.tellCaptured(captured{Port: p.ID, Frames: report.Frames, Dropped: report.Dropped, Gone: report.Gone})
}

// captureTo writes frames in the owner's view.
func (c *cli) captureTo(ctx context.Context, out io.Writer, p vswitch.Port, req kernel.CaptureRequest) (kernel.CaptureReport, error) {
	w, err := pcapng.NewWriter(out, pcapng.Interface{
		Name: p.ID, Description: fmt.Sprintf("%s %s on switch %s, as the owner sees it", p.Owner, p.Owner.Endpoint, p.Switch),
		Snaplen: req.Snaplen, Program: "patchbay " + buildVersion().String(),
	})
	if err != nil {
		return kernel.CaptureReport{}, err
	}
	req.Netdev = p.Netdev
	req.Frame = func(f kernel.CapturedFrame) error {
		direction := pcapng.Outbound
		if f.Sent {
			direction = pcapng.Inbound
		}
		return w.Packet(f.Time, direction, f.Length, f.Data)
	}
	req.Idle = w.Flush
	report, err := c.capture(ctx, req)
	if err != nil {
		return report, err
	}
	if err := w.Statistics(time.Now(), uint64(report.Frames+report.Dropped), uint64(report.Dropped)); err != nil {
		return report, err
	}
	return report, w.Flush()
}

// tellCaptured writes the end of a capture where no frames go.
func (c *cli) tellCaptured(r captured) error {
	text, err := c.format(r, func() string {
		words := count(uint64(r.Frames), "frame") + " captured"
		if r.Dropped > 0 {
			words += fmt.Sprintf(", %d came too fast and are missing", r.Dropped)
		}
		if r.Gone {
			words += "; the port is gone"
		}
		return words + "\n"
	})
	if err != nil {
		return err
	}
	_, err = c.stderr.Write(text)
	return err
}
