package plugin

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// parseACL reads "acl": a list of rules, each a text or an object. All that is wrong with
// it is told at once.
func (c *config) parseACL(raw json.RawMessage) error {
	if isNull(raw) {
		return nil
	}
	var items []json.RawMessage
	if err := decode("acl", raw, &items); err != nil {
		return err
	}
	rules := make([]vswitch.ACLRule, len(items))
	var problems []error
	for i, item := range items {
		if err := json.Unmarshal(item, &rules[i]); err != nil {
			problems = append(problems, aclProblem(i, err))
		}
	}
	if len(problems) == 0 {
		problems = append(problems, cniError(vswitch.ValidateACL(rules)))
	}
	c.Policy.ACL = &rules
	return joinedOrNil(problems)
}

// aclProblem names the rule that is at fault.
func aclProblem(i int, err error) error {
	e := asCNI(err)
	if own := (*vswitch.Error)(nil); !errors.As(err, &own) {
		e = types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	named := *e
	named.Msg = fmt.Sprintf("acl[%d]: %s", i, e.Msg)
	return &named
}

func joinedOrNil(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return joined(errs...)
		}
	}
	return nil
}
