package store

import (
	"errors"

	"github.com/patchbay-net/patchbay/core/vswitch"
)

// Realised says that a switch has been made since the boot and is as its record
// says: all that an attachment has to know, in the file that it opens anyway. It has no
// port profiles: an attachment gets what its profile says.
type Realised struct {
	SwitchRecord
	LocksPorts bool // the kernel binds ports to their addresses, without rules
	HasRules   bool // the kernel has Patchbay's nftables tables
	HasGuards  bool // and the one of guards
	// FiltersVLANs says that the bridges keep VLANs apart, and every port is in some.
	FiltersVLANs bool
	// Carried are the VLANs that the uplink and the trunks are in for the sake of ports,
	// and Apart those of them that are isolated VLANs.
	Carried, Apart vswitch.VLANSet
	// Changing says that a verb began to turn the switch into something else: it is
	// not as its record says any more, but no more than what the record says is left.
	Changing bool
	// Segments is how many further segments there are, or may be while Changing.
	Segments int
}

func realisedKey(name string) string { return "realised\x00" + name }

// Realised returns what PutRealised stored for the switch since the boot.
func (tx *Tx) Realised(name string) (r Realised, found bool, err error) {
	found, err = tx.run.table(factTable).load(realisedKey(name), &r)
	return r, found, err
}

// PutRealised is called when a switch is as its record says, and with Changing set,
// in a transaction of its own, before it is changed.
func (tx *Tx) PutRealised(r Realised) error {
	if err := checkKey("switch", r.Name); err != nil {
		return err
	}
	return tx.run.table(factTable).store(realisedKey(r.Name), &r)
}

// DropRealised is called when a switch is gone.
func (tx *Tx) DropRealised(name string) error {
	return tx.run.table(factTable).remove(realisedKey(name))
}

func (r *Realised) encode() []byte {
	p := make(packer, 0, 256)
	p.flag(r.LocksPorts)
	for _, s := range []string{r.Name, string(r.Type), r.Uplink, r.Notes} {
		p.text(s)
	}
	p.flag(r.HostAccess != nil)
	p.flag(r.HostAccess != nil && *r.HostAccess)
	p.integer(r.VLAN)
	p.integer(r.MTU)
	p.number(uint64(len(r.Gateway)))
	for _, g := range r.Gateway {
		p.prefix(g)
	}
	p.flag(r.Masquerade.IPv4)
	p.flag(r.Masquerade.IPv6)
	p.number(uint64(r.Number))
	p.mac(r.HostMAC)
	p.mac(r.BridgeMAC)
	p.integer(r.EffectiveMTU)
	p.integer(r.UplinkMTU)
	p.time(r.Created)
	p.flag(r.HasRules)
	p.flag(r.Changing)
	p.text(string(r.Host))
	p.integer(r.Segments)
	p.flag(r.FiltersVLANs)
	p.vlanSet(r.Carried)
	p.vlanSet(r.Apart)
	p.integer(r.InternalVLAN)
	p.flag(r.Spread)
	p.flag(r.HasGuards)
	p.policy(r.PortDefaults)
	p.policy(r.HostPolicy)
	p.flag(r.Going)
	p.text(string(r.MinBandwidth.Mode))
	p.integer(int(r.MinBandwidth.DefaultFlow))
	p.integer(r.MinBandwidth.DefaultFlowWeight)
	p.flag(r.SRIOV)
	return p
}

func (r *Realised) decode(body []byte) error {
	u := unpacker{rest: body}
	r.LocksPorts = u.flag()
	r.Name, r.Type, r.Uplink, r.Notes = u.text(), vswitch.SwitchType(u.text()), u.text(), u.text()
	if given, access := u.flag(), u.flag(); given {
		r.HostAccess = &access
	}
	r.VLAN, r.MTU = u.integer(), u.integer()
	r.Gateway = nil
	for range u.count() {
		r.Gateway = append(r.Gateway, u.prefix())
	}
	r.Masquerade = vswitch.Masquerade{IPv4: u.flag(), IPv6: u.flag()}
	r.Number = uint16(u.number())
	r.HostMAC, r.BridgeMAC = u.mac(), u.mac()
	r.EffectiveMTU, r.UplinkMTU = u.integer(), u.integer()
	r.Created = u.time()
	r.HasRules, r.Changing, r.Host = u.flag(), u.flag(), HostPlace(u.text())
	r.Segments = u.integer()
	r.FiltersVLANs, r.Carried, r.Apart = u.flag(), u.vlanSet(), u.vlanSet()
	r.InternalVLAN = u.integer()
	r.Spread = u.flag()
	r.HasGuards = u.flag()
	r.PortDefaults, r.HostPolicy = u.policy(), u.policy()
	r.Going = u.flag()
	r.MinBandwidth = vswitch.SharedUplink{Mode: vswitch.BandwidthMode(u.text()), DefaultFlow: vswitch.Bits(u.integer()), DefaultFlowWeight: u.integer()}
	r.SRIOV = u.flag()
	return u.err()
}

// rangeFact is where the run file keeps the MAC pool's range, so that a lease need
// not open the configuration. It is there only while the run file is sure to know
// of every change of the configuration.
const rangeFact = "macRange"

// errUnchanged ends a transaction that has nothing to write.
var errUnchanged = errors.New("unchanged")

func (tx *Tx) forgetRange() error {
	_, found, err := tx.run.table(factTable).get(rangeFact)
	if err != nil {
		return err
	}
	if !found {
		return errUnchanged
	}
	return tx.run.table(factTable).remove(rangeFact)
}

// poolRange is MACRange by way of the run file.
func (tx *Tx) poolRange() (vswitch.MACRange, error) {
	var r macRange
	if tx.mode != writeBoth {
		found, err := tx.run.table(factTable).load(rangeFact, &r)
		if err != nil || found {
			return vswitch.MACRange(r), err
		}
	}
	configured, _, err := tx.MACRange()
	if err != nil || tx.mode != writeRun {
		return configured, err
	}
	r = macRange(configured)
	return configured, tx.run.table(factTable).store(rangeFact, &r)
}
