package kernel

import "github.com/patchbay-net/patchbay/core/plan"

func (f *Fake) makeTap(s plan.MakeTap) error {
	if l := f.host.links[s.Name]; l != nil {
		return tapIsMarked(link{kind: l.Kind, alias: l.Alias}, s)
	}
	if err := f.host.nameFree(s.Name); err != nil {
		return err
	}
	f.host.add(Netdev{Name: s.Name, Kind: tapKind, MAC: s.MAC, MTU: 1500, Ethernet: true, Alias: s.Mark})
	return nil
}

func (f *Fake) deleteTap(s plan.DeleteTap) {
	if l := f.host.links[s.Name]; l != nil && l.Kind == tapKind && l.Alias == s.Mark {
		l.remove()
	}
}
