// SPDX-License-Identifier: GPL-2.0
/*
 * Steering of received frames, for tests of Patchbay: what a NIC does that has
 * n-tuple filters. A rule sends frames to an address, and to a VLAN if it says
 * so, to a queue; all others go by a hash to the queues of the indirection
 * table. netdevsim as it is has neither. Added by steering.patch.
 *
 * Below /sys/kernel/debug/netdevsim/netdevsimN/ports/P/steering a test finds:
 * slots, how many rules fit; any, that the driver chooses where a rule goes
 * (RX_CLS_LOC_ANY); refuse, an errno with which every new rule is refused; and
 * no_vlan, that rules cannot match a VLAN.
 */

#include <linux/debugfs.h>
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>

#include "netdevsim.h"

void nsim_steering_default(struct netdevsim *ns)
{
	u32 i;

	for (i = 0; i < NSIM_INDIRECTION; i++)
		WRITE_ONCE(ns->steering.indirection[i],
			   ethtool_rxfh_indir_default(i, ns->ethtool.channels));
}

void nsim_steering_clear(struct netdevsim *ns)
{
	spin_lock_bh(&ns->steering.lock);
	memset(ns->steering.rules, 0, sizeof(ns->steering.rules));
	spin_unlock_bh(&ns->steering.lock);
}

void nsim_steering_init(struct netdevsim *ns)
{
	struct dentry *dir;

	spin_lock_init(&ns->steering.lock);
	ns->steering.slots = NSIM_RULES;
	nsim_steering_default(ns);
	dir = debugfs_create_dir("steering", ns->nsim_dev_port->ddir);
	debugfs_create_u32("slots", 0600, dir, &ns->steering.slots);
	debugfs_create_bool("any", 0600, dir, &ns->steering.any);
	debugfs_create_u32("refuse", 0600, dir, &ns->steering.refuse);
	debugfs_create_bool("no_vlan", 0600, dir, &ns->steering.no_vlan);
}

static bool nsim_rule_matches(struct nsim_rule *r, struct sk_buff *skb)
{
	struct ethhdr *eth = (struct ethhdr *)skb->data;
	u16 tci;

	if (!r->used || !ether_addr_equal(r->spec.h_u.ether_spec.h_dest, eth->h_dest))
		return false;
	if (!(r->spec.flow_type & FLOW_EXT))
		return true;
	return !vlan_get_tag(skb, &tci) &&
	       (tci & VLAN_VID_MASK) == ntohs(r->spec.h_ext.vlan_tci);
}

/* The queue of a frame that comes in, whose data begins with its header. */
u32 nsim_steer(struct netdevsim *ns, struct sk_buff *skb)
{
	u32 i, queue = READ_ONCE(ns->steering.indirection[skb_get_hash(skb) % NSIM_INDIRECTION]);

	if (skb_headlen(skb) < VLAN_ETH_HLEN)
		return queue;
	spin_lock_bh(&ns->steering.lock);
	for (i = 0; i < NSIM_RULES; i++) {
		if (nsim_rule_matches(&ns->steering.rules[i], skb)) {
			queue = ns->steering.rules[i].spec.ring_cookie;
			break;
		}
	}
	spin_unlock_bh(&ns->steering.lock);
	return queue;
}

static int nsim_rule_check(struct netdevsim *ns, struct ethtool_rx_flow_spec *s)
{
	struct ethhdr *mask = &s->m_u.ether_spec;

	if (!(ns->netdev->features & NETIF_F_NTUPLE))
		return -EOPNOTSUPP;
	if (ns->steering.refuse)
		return -(int)ns->steering.refuse;
	if ((s->flow_type & ~FLOW_EXT) != ETHER_FLOW)
		return -EOPNOTSUPP;
	if (!is_broadcast_ether_addr(mask->h_dest) || !is_zero_ether_addr(mask->h_source) || mask->h_proto)
		return -EINVAL;
	if ((s->flow_type & FLOW_EXT) &&
	    (ns->steering.no_vlan || s->m_ext.vlan_etype || s->m_ext.data[0] || s->m_ext.data[1] ||
	     s->m_ext.vlan_tci != htons(VLAN_VID_MASK)))
		return -EINVAL;
	if (s->ring_cookie >= ns->ethtool.channels)
		return -EINVAL;
	return 0;
}

static int nsim_rule_insert(struct netdevsim *ns, struct ethtool_rx_flow_spec *s)
{
	u32 slots = min_t(u32, ns->steering.slots, NSIM_RULES), i;
	int err = nsim_rule_check(ns, s);

	if (err)
		return err;
	if (s->location == RX_CLS_LOC_ANY) {
		for (i = 0; i < slots && ns->steering.rules[i].used; i++)
			;
		if (!ns->steering.any)
			return -EINVAL;
		s->location = i;
		if (i == slots)
			return -ENOSPC;
	}
	if (s->location >= slots)
		return -EINVAL;
	spin_lock_bh(&ns->steering.lock);
	ns->steering.rules[s->location].spec = *s;
	ns->steering.rules[s->location].used = true;
	spin_unlock_bh(&ns->steering.lock);
	return 0;
}

static int nsim_rule_delete(struct netdevsim *ns, u32 location)
{
	if (location >= NSIM_RULES || !ns->steering.rules[location].used)
		return -ENOENT;
	spin_lock_bh(&ns->steering.lock);
	ns->steering.rules[location].used = false;
	spin_unlock_bh(&ns->steering.lock);
	return 0;
}

int nsim_set_rxnfc(struct net_device *dev, struct ethtool_rxnfc *cmd)
{
	struct netdevsim *ns = netdev_priv(dev);

	switch (cmd->cmd) {
	case ETHTOOL_SRXCLSRLINS:
		return nsim_rule_insert(ns, &cmd->fs);
	case ETHTOOL_SRXCLSRLDEL:
		return nsim_rule_delete(ns, cmd->fs.location);
	}
	return -EOPNOTSUPP;
}

int nsim_get_rxnfc(struct net_device *dev, struct ethtool_rxnfc *cmd, u32 *locations)
{
	struct netdevsim *ns = netdev_priv(dev);
	u32 slots = min_t(u32, ns->steering.slots, NSIM_RULES), i, n = 0;

	switch (cmd->cmd) {
	case ETHTOOL_GRXRINGS:
		cmd->data = ns->ethtool.channels;
		return 0;
	case ETHTOOL_GRXCLSRLCNT:
	case ETHTOOL_GRXCLSRLALL:
		for (i = 0; i < NSIM_RULES; i++) {
			if (!ns->steering.rules[i].used)
				continue;
			if (cmd->cmd == ETHTOOL_GRXCLSRLALL) {
				if (n == cmd->rule_cnt)
					return -EMSGSIZE;
				locations[n] = i;
			}
			n++;
		}
		cmd->rule_cnt = n;
		cmd->data = slots;
		if (cmd->cmd == ETHTOOL_GRXCLSRLCNT && ns->steering.any)
			cmd->data |= RX_CLS_LOC_SPECIAL;
		return 0;
	case ETHTOOL_GRXCLSRULE:
		if (cmd->fs.location >= NSIM_RULES || !ns->steering.rules[cmd->fs.location].used)
			return -ENOENT;
		cmd->fs = ns->steering.rules[cmd->fs.location].spec;
		return 0;
	}
	return -EOPNOTSUPP;
}

u32 nsim_get_rxfh_indir_size(struct net_device *dev)
{
	return NSIM_INDIRECTION;
}

int nsim_get_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh)
{
	struct netdevsim *ns = netdev_priv(dev);

	rxfh->hfunc = ETH_RSS_HASH_TOP;
	if (rxfh->indir)
		memcpy(rxfh->indir, ns->steering.indirection, sizeof(ns->steering.indirection));
	return 0;
}

int nsim_set_rxfh(struct net_device *dev, struct ethtool_rxfh_param *rxfh, struct netlink_ext_ack *extack)
{
	struct netdevsim *ns = netdev_priv(dev);

	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE && rxfh->hfunc != ETH_RSS_HASH_TOP)
		return -EOPNOTSUPP;
	if (rxfh->indir)
		memcpy(ns->steering.indirection, rxfh->indir, sizeof(ns->steering.indirection));
	return 0;
}
