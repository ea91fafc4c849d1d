package sdk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestErrorsSurviveTheWire(t *testing.T) {
	full := &vswitch.Error{Kind: vswitch.InUse, Op: "ensure", Object: "VF 3", Err: errors.New("bound to vfio-pci"), Hint: "unbind it", Field: "vfs"}
	for name, c := range map[string]struct {
		err    error
		text   string
		code   codes.Code
		is     error
		reason vswitch.Reason
	}{
		"all of it":             {full, full.Error(), codes.FailedPrecondition, vswitch.InUse, ""},
		"words around it":       {fmt.Errorf("port 7: %w", full), "port 7: " + full.Error() + "; unbind it", codes.FailedPrecondition, vswitch.InUse, ""},
		"a kind alone":          {vswitch.NotFound, "not found", codes.NotFound, vswitch.NotFound, ""},
		"no kind":               {errors.New("EIO"), "EIO", codes.Internal, vswitch.KernelFailed, ""},
		"a denial":              {Deny(vswitch.NoFreeVF, "all 7 VFs are held"), "all 7 VFs are held; make more VFs, or give the port more weight", codes.ResourceExhausted, vswitch.CapabilityMissing, vswitch.NoFreeVF},
		"a denial for good":     {Deny(vswitch.NoDriverSupport, "igb"), "igb; use another NIC, or mode prefer", codes.FailedPrecondition, vswitch.CapabilityMissing, vswitch.NoDriverSupport},
		"what is late":          {Late(Request{Ref: Ref{"pb1", vswitch.VMQ}, Generation: 2}, 3), "ensure vmq of port pb1: generation 2 is older than the grant's, 3", codes.FailedPrecondition, vswitch.Conflict, ""},
		"what there is not":     {NotFound("NIC a", "it is gone"), "NIC a: it is gone", codes.NotFound, vswitch.NotFound, ""},
		"cancelled":             {fmt.Errorf("probe: %w", context.Canceled), "op: context canceled", codes.Canceled, context.Canceled, ""},
		"late for the deadline": {context.DeadlineExceeded, "op: the plugin did not answer in time: context deadline exceeded", codes.DeadlineExceeded, context.DeadlineExceeded, ""},
		"control characters":    {errors.New("\x1b[2Jgone\n"), " [2Jgone ", codes.Internal, vswitch.KernelFailed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sent := toStatus(c.err)
			got := fromStatus("op", sent)
			if status.Code(sent) != c.code || got.Error() != c.text || !errors.Is(got, c.is) || ReasonOf(got) != c.reason {
				t.Errorf("%s %q (reason %q)\nwant %s %q", status.Code(sent), got, ReasonOf(got), c.code, c.text)
			}
		})
	}
	var e *vswitch.Error
	if got := fromStatus("op", toStatus(full)); !errors.As(got, &e) || e.Field != "vfs" || e.Object != "VF 3" {
		t.Errorf("%#v", got)
	}
	if toStatus(nil) != nil || fromStatus("op", nil) != nil {
		t.Error("no error became one")
	}
}

// Statuses that no SDK made: of gRPC itself, and of plugins that know nothing of details.
func TestStatusesWithoutDetails(t *testing.T) {
	for _, c := range []struct {
		err  error
		kind vswitch.Kind
	}{
		{status.Error(codes.Unimplemented, "unknown method"), vswitch.CapabilityMissing},
		{status.Error(codes.Unavailable, "EOF"), vswitch.PluginFailed},
		{status.Error(codes.ResourceExhausted, "message of 5 MB"), vswitch.PluginFailed},
		{status.Error(codes.Unknown, "Error: TypeError"), vswitch.PluginFailed},
	} {
		if got := fromStatus("op", c.err); vswitch.KindOf(got) != c.kind {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func FuzzErrorsSurviveTheWire(f *testing.F) {
	f.Add("CONFLICT", "op", "object", "cause", "hint")
	f.Add("conflict\n", "\xff", "", strings.Repeat("x", 5000), "\x00")
	f.Fuzz(func(t *testing.T, kind, op, object, cause, hint string) {
		err := &vswitch.Error{Kind: vswitch.Kind(kind), Op: op, Object: object, Err: errors.New(cause), Hint: hint}
		got := fromStatus("op", toStatus(err))
		if got == nil || len(got.Error()) > 5*(maxText+10) || checkText("", got.Error(), 1<<20) != nil {
			t.Errorf("%q", got)
		}
		if kindForm.MatchString(kind) && vswitch.KindOf(got) != err.Kind {
			t.Errorf("%s became %s", kind, vswitch.KindOf(got))
		}
	})
}
