package plugin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// settings has a value for each key of a port's policy, as it is in YAML.
func settings() map[string]string {
	return map[string]string{
		"dhcpGuard": "true", "routerGuard": "true", "addressGuard": "true", "stormLimit": "7", "ieeePriorityTag": "true",
		"acl":       `["deny out tcp to 10.1.0.0/16 port 25 weight 10", "meter both any"]`,
		"bandwidth": `{"in": {"max": "10M", "burst": "1M"}, "out": {"max": "20M"}, "min": {"weight": 5}}`,
		"mirror":    `"source"`,
		"offload":   `{"vmq": {"mode": "off"}, "sriov": {"mode": "prefer", "failover": true}}`,
	}
}

// Whatever a port's policy can be a network's configuration can ask for, by the same key.
func TestEverySettingHasAKey(t *testing.T) {
	of := reflect.TypeFor[vswitch.Policy]()
	for i := range of.NumField() {
		key, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		value, known := settings()[key]
		if !known {
			t.Errorf("the test has no value for %s", key)
			continue
		}
		var want vswitch.Policy
		if err := json.Unmarshal([]byte(`{"`+key+`":`+value+`}`), &want); err != nil {
			t.Fatal(err)
		}
		c, err := parse([]byte(conf(`"switch":"lan","` + key + `":` + value)))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := c.Policy.Apply(vswitch.Policy{}); !got.Equal(want) || got.IsZero() {
			t.Errorf("%s: %+v, want %+v", key, got, want)
		}
	}
}
