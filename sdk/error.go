package sdk

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/patchbay-net/patchbay/core/vswitch"
	sdkv1 "github.com/patchbay-net/patchbay/sdk/proto/patchbay/sdk/v1"
)

// Deny is the error of a request that cannot be met: why, from the closed list, and in words
// what exactly. The port works in software then, and its status says both.
func Deny(reason vswitch.Reason, format string, args ...any) error {
	_, hint := reason.Words()
	return &vswitch.Error{Kind: vswitch.CapabilityMissing, Err: denial{reason, fmt.Sprintf(format, args...)}, Hint: hint}
}

// NotFound is the error of a NIC, or of a grant, that there is not.
func NotFound(object, format string, args ...any) error {
	return &vswitch.Error{Kind: vswitch.NotFound, Object: object, Err: fmt.Errorf(format, args...)}
}

// Late is the error of a request that is older than the grant that there is.
func Late(r Request, have uint64) error {
	return &vswitch.Error{
		Kind: vswitch.Conflict, Op: "ensure", Object: r.String(),
		Err: fmt.Errorf("generation %d is older than the grant's, %d", r.Generation, have),
	}
}

// ReasonOf is the reason of Deny's error, or of any that wraps it; "" of others.
func ReasonOf(err error) vswitch.Reason {
	var d denial
	errors.As(err, &d)
	return d.reason
}

type denial struct {
	reason vswitch.Reason
	text   string
}

func (d denial) Error() string { return d.text }

// toStatus is an error as it travels: a gRPC status whose details hold all that is ours.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	detail := &sdkv1.ErrorDetail{Kind: cut(string(vswitch.KindOf(err))), Cause: cut(err.Error()), Reason: cut(string(ReasonOf(err)))}
	var e *vswitch.Error
	if errors.As(err, &e) {
		detail.Op, detail.Object, detail.Cause, detail.Hint, detail.Field = cut(e.Op), cut(e.Object), cut(e.Cause()), cut(e.Hint), cut(e.Field)
		if err != error(e) { //nolint:errorlint // words around it are told too
			detail.Op, detail.Object, detail.Cause = "", "", cut(err.Error())
		}
	}
	s := status.New(codeOf(vswitch.Kind(detail.Kind), vswitch.Reason(detail.Reason)), cut(err.Error()))
	if with, detailErr := s.WithDetails(detail); detailErr == nil {
		s = with
	}
	return s.Err()
}

// codeOf is what tools that know nothing of Patchbay are told.
func codeOf(kind vswitch.Kind, reason vswitch.Reason) codes.Code {
	switch {
	case reason == vswitch.NoFreeVF || reason == vswitch.NoFreeFilter || reason == vswitch.NoFreeSA || reason == vswitch.LimitReached:
		return codes.ResourceExhausted
	case kind == vswitch.NotFound:
		return codes.NotFound
	case kind == vswitch.AlreadyExists:
		return codes.AlreadyExists
	case kind == vswitch.Invalid || kind == vswitch.Range || kind == vswitch.VLANRange || kind == vswitch.MACInvalid:
		return codes.InvalidArgument
	case kind == vswitch.Conflict || kind == vswitch.CapabilityMissing || kind == vswitch.InUse || kind == vswitch.Immutable:
		return codes.FailedPrecondition
	}
	return codes.Internal
}

// kindForm is what kinds and reasons look like: newer plugins may know more of them.
var kindForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{1,62}$`)

// ErrGone is in the error of a call to a plugin whose connection is no more.
var ErrGone = errors.New("the plugin is gone")

// fromStatus is the error that came as a status: a *vswitch.Error, or what the caller's
// context ended with.
func fromStatus(op string, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range s.Details() {
		if detail, ours := d.(*sdkv1.ErrorDetail); ours && kindForm.MatchString(detail.GetKind()) {
			return fromDetail(detail)
		}
	}
	fail := func(format string, args ...any) error {
		return &vswitch.Error{Kind: vswitch.PluginFailed, Op: op, Err: fmt.Errorf(format, args...), Hint: "run `patchbay plugin list`, and look at patchbayd's log"}
	}
	switch s.Code() {
	case codes.Canceled:
		return fmt.Errorf("%s: %w", op, context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: the plugin did not answer in time: %w", op, context.DeadlineExceeded)
	case codes.Unimplemented:
		return &vswitch.Error{Kind: vswitch.CapabilityMissing, Op: op, Err: errors.New("the plugin does not serve it")}
	case codes.Unavailable:
		return fail("%w: %s", ErrGone, clean(s.Message()))
	}
	return fail("the plugin failed (%s): %s", s.Code(), clean(s.Message()))
}

func fromDetail(d *sdkv1.ErrorDetail) error {
	e := &vswitch.Error{
		Kind: vswitch.Kind(d.GetKind()), Op: clean(d.GetOp()), Object: clean(d.GetObject()),
		Hint: clean(d.GetHint()), Field: clean(d.GetField()),
	}
	cause := clean(d.GetCause())
	switch {
	case kindForm.MatchString(d.GetReason()):
		e.Err = denial{vswitch.Reason(d.GetReason()), cause}
	case cause != "":
		e.Err = errors.New(cause)
	}
	return e
}
