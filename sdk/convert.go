package sdk

import (
	"encoding/json"
	"math"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/patchbay-net/patchbay/core/vswitch"
	sdkv1 "github.com/patchbay-net/patchbay/sdk/proto/patchbay/sdk/v1"
)

// wireExtensions are the extensions by their numbers in the protocol.
func wireExtensions() map[Extension]sdkv1.Extension {
	return map[Extension]sdkv1.Extension{
		ExtProbe:    sdkv1.Extension_EXTENSION_PROBE,
		ExtEvents:   sdkv1.Extension_EXTENSION_EVENTS,
		ExtPaths:    sdkv1.Extension_EXTENSION_PATHS,
		ExtCounters: sdkv1.Extension_EXTENSION_COUNTERS,
	}
}

func wireEvents() map[EventKind]sdkv1.EventKind {
	return map[EventKind]sdkv1.EventKind{
		GrantLost:    sdkv1.EventKind_EVENT_KIND_GRANT_LOST,
		GrantChanged: sdkv1.EventKind_EVENT_KIND_GRANT_CHANGED,
		NICReset:     sdkv1.EventKind_EVENT_KIND_NIC_RESET,
	}
}

func wirePaths() map[Path]sdkv1.Path {
	return map[Path]sdkv1.Path{PathHardware: sdkv1.Path_PATH_HARDWARE, PathSoftware: sdkv1.Path_PATH_SOFTWARE}
}

// named is the word for a number of the protocol, "" for one that this build does not know.
func named[W ~string, N comparable](words map[W]N, number N) W {
	for word, n := range words {
		if n == number {
			return word
		}
	}
	return ""
}

func toDescription(d Description) (*sdkv1.DescribeResponse, error) {
	out := &sdkv1.DescribeResponse{Name: d.Name, Vendor: d.Vendor, Version: d.Version}
	for _, f := range d.Features {
		out.Features = append(out.Features, string(f))
	}
	for _, ext := range d.Extensions {
		out.Extensions = append(out.Extensions, wireExtensions()[ext])
	}
	for _, f := range d.Schema {
		field := &sdkv1.SchemaField{Key: f.Key, Type: string(f.Type), Doc: f.Doc, Required: f.Required, Choices: f.Choices}
		if f.Default != nil {
			text, err := json.Marshal(f.Default)
			if err != nil {
				return nil, err
			}
			field.DefaultJson = string(text)
		}
		if f.bounded() {
			least, most := int64(f.Min), int64(f.Max)
			field.Min, field.Max = &least, &most
		}
		out.Schema = append(out.Schema, field)
	}
	return out, nil
}

// fromDescription leaves out what this build does not know: a newer plugin may have more.
func fromDescription(in *sdkv1.DescribeResponse) (Description, error) {
	d := Description{Name: in.GetName(), Vendor: in.GetVendor(), Version: in.GetVersion()}
	for _, f := range in.GetFeatures() {
		d.Features = append(d.Features, vswitch.Feature(f))
	}
	for _, n := range in.GetExtensions() {
		if ext := named(wireExtensions(), n); ext != "" {
			d.Extensions = append(d.Extensions, ext)
		}
	}
	for _, f := range in.GetSchema() {
		field := Field{
			Key: f.GetKey(), Type: FieldType(f.GetType()), Doc: f.GetDoc(), Required: f.GetRequired(),
			Min: int(f.GetMin()), Max: int(f.GetMax()), Choices: f.GetChoices(),
		}
		if f.GetDefaultJson() != "" {
			value, err := field.parse([]byte(f.GetDefaultJson()))
			if err != nil {
				return d, lie("describe", "the default of key %.64q: %v", f.GetKey(), err)
			}
			field.Default = value
		}
		d.Schema = append(d.Schema, field)
	}
	return d, nil
}

func toInventory(i Inventory) *sdkv1.WatchInventoryResponse {
	out := &sdkv1.WatchInventoryResponse{}
	for _, n := range i.NICs {
		nic := &sdkv1.NIC{Id: n.ID, Netdev: n.Netdev, Driver: n.Driver, Model: n.Model, Link: n.Link, Capabilities: map[string]*sdkv1.Capability{}}
		for _, f := range vswitch.Features() {
			if c := n.Capabilities.Of(f); c != (vswitch.Capability{}) {
				nic.Capabilities[string(f)] = &sdkv1.Capability{
					Missing: string(c.Missing), Capacity: int64(c.Capacity), Foreign: int64(c.Foreign),
					QueuePairs: int64(c.QueuePairs), Moderation: c.Moderation, Vms: string(c.VMs),
				}
			}
		}
		out.Nics = append(out.Nics, nic)
	}
	return out
}

func fromInventory(in *sdkv1.WatchInventoryResponse) Inventory {
	var out Inventory
	for _, n := range in.GetNics() {
		nic := NIC{ID: n.GetId(), Netdev: n.GetNetdev(), Driver: n.GetDriver(), Model: n.GetModel(), Link: n.GetLink()}
		of := func(f vswitch.Feature) vswitch.Capability {
			c := n.GetCapabilities()[string(f)]
			return vswitch.Capability{
				Missing: known(c.GetMissing()), Capacity: number(c.GetCapacity()), Foreign: number(c.GetForeign()),
				QueuePairs: number(c.GetQueuePairs()), Moderation: c.GetModeration(), VMs: known(c.GetVms()),
			}
		}
		nic.Capabilities = vswitch.Capabilities{VMQ: of(vswitch.VMQ), SRIOV: of(vswitch.SRIOV), IPsec: of(vswitch.IPsec)}
		out.NICs = append(out.NICs, nic)
	}
	return out
}

// known is a reason that this build knows; one of a newer plugin's is a refusal.
func known(reason string) vswitch.Reason {
	r := vswitch.Reason(reason)
	if r == "" || slices.Contains(vswitch.Reasons(), r) {
		return r
	}
	return vswitch.Refused
}

// number is one that fits.
func number(n int64) int {
	return int(max(math.MinInt32, min(n, maxNumber)))
}

func toRequest(r Request) *sdkv1.EnsureRequest {
	return &sdkv1.EnsureRequest{
		Port: r.Port, Feature: string(r.Feature), Nic: r.NIC, Generation: r.Generation,
		Mac: r.MAC.String(), Vlan: int32(r.VLAN), Mtu: int32(r.MTU), Owner: string(r.Owner), Netns: r.Netns, Weight: int32(r.Weight),
		QueuePairs: int64(r.QueuePairs), Moderation: string(r.Moderation), MaxOut: int64(r.MaxOut), MacSpoofing: r.MACSpoofing, MaxSas: int64(r.MaxSAs),
	}
}

func fromRequest(in *sdkv1.EnsureRequest) (Request, error) {
	var mac vswitch.MAC
	if err := mac.UnmarshalText([]byte(in.GetMac())); err != nil {
		return Request{}, err
	}
	r := Request{
		Ref: Ref{in.GetPort(), vswitch.Feature(in.GetFeature())}, NIC: in.GetNic(), Generation: in.GetGeneration(),
		MAC: mac, VLAN: int(in.GetVlan()), MTU: int(in.GetMtu()), Owner: vswitch.OwnerKind(in.GetOwner()), Netns: in.GetNetns(), Weight: int(in.GetWeight()),
		QueuePairs: number(in.GetQueuePairs()), Moderation: vswitch.Moderation(in.GetModeration()), MaxOut: vswitch.Bits(in.GetMaxOut()),
		MACSpoofing: in.GetMacSpoofing(), MaxSAs: number(in.GetMaxSas()),
	}
	return r, r.Validate()
}

func toGrant(g Grant) *sdkv1.Grant {
	out := &sdkv1.Grant{
		Port: g.Port, Feature: string(g.Feature), Nic: g.NIC, Generation: g.Generation,
		Queue: int32(g.Queue), Amount: int64(g.Amount), Reason: string(g.Reason), Detail: g.Detail,
		Sas: int64(g.SAs), SasHeld: int64(g.SAsHeld),
	}
	if g.VF != nil {
		out.Vf = &sdkv1.VF{Index: int32(g.VF.Index), PciAddr: g.VF.PCIAddr, Netdev: g.VF.Netdev}
	}
	return out
}

func fromGrant(in *sdkv1.Grant) Grant {
	g := Grant{
		Ref: Ref{in.GetPort(), vswitch.Feature(in.GetFeature())}, NIC: in.GetNic(), Generation: in.GetGeneration(),
		Queue: int(in.GetQueue()), Amount: number(in.GetAmount()), Reason: known(in.GetReason()), Detail: in.GetDetail(),
		SAs: number(in.GetSas()), SAsHeld: number(in.GetSasHeld()),
	}
	if vf := in.GetVf(); vf != nil {
		g.VF = &VF{Index: int(vf.GetIndex()), PCIAddr: vf.GetPciAddr(), Netdev: vf.GetNetdev()}
	}
	return g
}

func toEvent(e Event) *sdkv1.Event {
	return &sdkv1.Event{
		Kind: wireEvents()[e.Kind], Time: timestamppb.New(e.Time), Nic: e.NIC, Port: e.Ref.Port, Feature: string(e.Ref.Feature),
		Reason: string(e.Reason), Detail: e.Detail,
	}
}

func fromEvent(in *sdkv1.Event) Event {
	return Event{
		Kind: named(wireEvents(), in.GetKind()), Time: in.GetTime().AsTime(), NIC: in.GetNic(),
		Ref: Ref{in.GetPort(), vswitch.Feature(in.GetFeature())}, Reason: known(in.GetReason()), Detail: in.GetDetail(),
	}
}
