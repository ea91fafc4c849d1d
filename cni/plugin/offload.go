package plugin

import "encoding/json"

// parseOffload reads the key, which has the form that it has in YAML.
func (c *config) parseOffload(raw json.RawMessage) error {
	if isNull(raw) {
		return nil
	}
	var keys struct {
		VMQ   json.RawMessage `json:"vmq"`
		SRIOV json.RawMessage `json:"sriov"`
		IPsec json.RawMessage `json:"ipsec"`
	}
	if err := strict("offload", raw, &keys); err != nil {
		return err
	}
	o := &c.Policy.Offload
	for _, part := range []struct {
		key  string
		raw  json.RawMessage
		into any
	}{{"offload.vmq", keys.VMQ, &o.VMQ}, {"offload.sriov", keys.SRIOV, &o.SRIOV}, {"offload.ipsec", keys.IPsec, &o.IPsec}} {
		if isNull(part.raw) {
			continue
		}
		if err := strict(part.key, part.raw, part.into); err != nil {
			return err
		}
	}
	return nil
}
