package main

import (
	"strings"
	"testing"
)

func TestPortACL(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	if got := h.must("port acl list web-1"); got != "The port has no ACL: all passes.\n" {
		t.Errorf("an empty list: %q", got)
	}
	stdout, stderr, code := h.run("port", "acl", "add", "web-1", "deny out tcp to 10.0.0.0/8 port 25 weight 10", "meter both 10.0.0.0/8")
	if code != exitOK || !strings.HasSuffix(stdout, "has an ACL of 2 rules\n") {
		t.Errorf("added: %q %q %d", stdout, stderr, code)
	}
	h.must("port acl add web-1 deny in from 10.0.0.9") // without quotes it is one rule
	golden(t, "port-acl", h.must("port acl list web-1")+h.must("port show web-1"))
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"add", "web-1", "deny in 10.0.0.9"}, exitFailure, "is about the same packets"},
		{[]string{"add", "web-1", "allow out tcp to port 20-30 weight 10"}, exitUsage, "give the one that shall decide a higher weight"},
		{[]string{"add", "web-1", "deny out tcp"}, exitUsage, "add a weight from 1 to 65535"},
		{[]string{"add", "web-1", "deny out", "drop any"}, exitUsage, "does not begin with allow, deny or meter"},
		{[]string{"add", "web-1"}, exitUsage, "RULE is missing"},
		{[]string{"delete", "web-1", "deny in any"}, exitFailure, "patchbay port acl list PORT"},
		{[]string{"list"}, exitUsage, "PORT is missing"},
		{[]string{"list", "nobody"}, exitFailure, "no such port"},
	} {
		if stdout, stderr, code := h.run(append([]string{"port", "acl"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%q: %q, %q, exit code %d, want %d and %q", c.args, stdout, stderr, code, c.code, c.says)
		}
	}
	stdout, _, _ = h.run("port", "acl", "delete", "web-1", "meter both 10.0.0.0/8", "deny in 10.0.0.9", "deny out tcp to 10.0.0.0/8 port 25 weight 10")
	if !strings.HasSuffix(stdout, "has no ACL\n") || strings.Contains(h.kernel.String(), "10.0.0.9") {
		t.Errorf("deleted: %q\n%s", stdout, h.kernel)
	}
}

// The list of new ports is set as a whole.
func TestDefaultACL(t *testing.T) {
	h := newFakeHost(t)
	h.furnish()
	name := strings.Fields(strings.Split(h.must("switch list"), "\n")[1])[0]
	run := func(args ...string) (string, int) {
		_, stderr, code := h.run(append([]string{"switch", "ports", name}, args...)...)
		return stderr, code
	}
	if says, code := run("--acl", "deny out to 10.0.0.0/8", "--acl", "allow out to 10.1.0.0/16"); code != exitOK {
		t.Fatal(says)
	}
	if got := h.must("switch show " + name); !strings.Contains(got, "deny out to 10.0.0.0/8") || !strings.Contains(got, "allow out to 10.1.0.0/16") {
		t.Errorf("set: %s", got)
	}
	if says, code := run("--acl", "drop all"); code != exitUsage || !strings.Contains(says, "does not begin with allow, deny or meter") {
		t.Errorf("no rule: %q, %d", says, code)
	}
	if says, code := run("--acl", "none"); code != exitOK {
		t.Fatal(says)
	}
	if got := h.must("switch show " + name); strings.Contains(got, "10.0.0.0/8") {
		t.Errorf("cleared: %s", got)
	}
}
