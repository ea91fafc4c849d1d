package plugin

import (
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

func TestParseACL(t *testing.T) {
	c, err := parse([]byte(conf(`"switch":"s","acl":["deny out tcp to port 25 weight 10",{"direction":"in","action":"allow","remote":"10.0.0.0/8"}]`)))
	if err != nil {
		t.Fatal(err)
	}
	got := *c.Policy.ACL
	if len(got) != 2 || got[0].String() != "deny out tcp to port 25 weight 10" || got[1].String() != "allow in from 10.0.0.0/8" {
		t.Errorf("%v", got)
	}
	if c, err = parse([]byte(conf(`"switch":"s","acl":[]`))); err != nil || c.Policy.ACL == nil || len(*c.Policy.ACL) != 0 {
		t.Errorf("an empty list: %+v, %v", c.Policy.ACL, err)
	}
	if c, err = parse([]byte(conf(`"switch":"s"`))); err != nil || c.Policy.ACL != nil {
		t.Errorf("no list: %+v, %v", c.Policy.ACL, err)
	}
	p := vswitch.PolicyChange{ACL: &got}.Apply(vswitch.Policy{})
	if !vswitch.SameACL(p.ACL, got) {
		t.Errorf("applied: %v", p.ACL)
	}
}
