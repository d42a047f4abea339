//! Who may come: initiator names and networks, checked when they are set and matched at every login.
use super::options::{InitiatorGroup, IscsiError};
use std::net::{IpAddr, Ipv6Addr};

/// Does this group let `name` at `address` in?
pub fn allows(group: &InitiatorGroup, name: &str, address: IpAddr) -> bool {
    let named = group.initiators.iter().find_map(|entry| {
        let (wanted, verdict) = match entry.strip_prefix('!') {
            Some(rest) => (rest, false),
            None => (entry.as_str(), true),
        };
        // Names are compared without case (RFC 7143 4.2.7.2: normalised to lower case).
        (is_any(wanted) || wanted.eq_ignore_ascii_case(name)).then_some(verdict)
    });
    named == Some(true)
        && group
            .netmasks
            .iter()
            .any(|mask| Network::parse(mask).is_some_and(|n| n.holds(address)))
}

/// Checks every entry of a group as it would be used.
pub fn check(group: &InitiatorGroup) -> Result<(), IscsiError> {
    for name in &group.initiators {
        let bare = name.strip_prefix('!').unwrap_or(name);
        if bare.is_empty() || bare.len() > 223 || bare.chars().any(|c| c.is_control() || c == ' ') {
            return Err(IscsiError::Invalid {
                what: "initiator name",
                why: format!("{name:?} is neither ANY nor a name of 1 to 223 characters"),
            });
        }
    }
    for mask in &group.netmasks {
        if Network::parse(mask).is_none() {
            return Err(IscsiError::Invalid {
                what: "netmask",
                why: format!("{mask:?} is neither ANY, an address nor a network such as 10.0.0.0/8"),
            });
        }
    }
    Ok(())
}

/// Everybody, in SPDK's words of today and before.
fn is_any(text: &str) -> bool {
    text.eq_ignore_ascii_case("ANY") || text.eq_ignore_ascii_case("ALL")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Any,
    Prefix(IpAddr, u32),
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        if is_any(text) {
            return Some(Network::Any);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Network::Prefix(address, bits))
    }

    fn holds(self, address: IpAddr) -> bool {
        match self {
            Network::Any => true,
            Network::Prefix(net, bits) => {
                // A v4 host on a dual-stack socket looks like ::ffff:a.b.c.d.
                let (net, address) = (net.to_canonical(), address.to_canonical());
                let width = if net.is_ipv4() { 32 } else { 128 };
                let shift = |a: IpAddr| match a {
                    IpAddr::V4(a) => (u128::from(a.to_bits()), 32),
                    IpAddr::V6(a) => (Ipv6Addr::to_bits(a), 128),
                };
                let ((net, a), (address, b)) = (shift(net), shift(address));
                a == b
                    && (bits.min(width) == 0
                        || net >> (width - bits.min(width)) == address >> (width - bits.min(width)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(initiators: &[&str], netmasks: &[&str]) -> InitiatorGroup {
        InitiatorGroup {
            tag: 1,
            initiators: initiators.iter().map(|s| s.to_string()).collect(),
            netmasks: netmasks.iter().map(|s| s.to_string()).collect(),
        }
    }

    #[test]
    fn the_first_matching_name_decides() {
        let v4: IpAddr = "10.1.2.3".parse().unwrap();
        let any = group(&["ANY"], &["ANY"]);
        assert!(allows(&any, "iqn.x:a", v4));
        let but = group(&["!iqn.x:bad", "ANY"], &["ANY"]);
        assert!(allows(&but, "iqn.x:good", v4));
        assert!(!allows(&but, "IQN.X:BAD", v4));
        assert!(!allows(&group(&["!ANY"], &["ANY"]), "iqn.x:a", v4));
        assert!(!allows(&group(&[], &["ANY"]), "iqn.x:a", v4));
    }

    #[test]
    fn networks_hold_their_addresses() {
        let at = |mask: &str, address: &str| allows(&group(&["ANY"], &[mask]), "x", address.parse().unwrap());
        assert!(at("10.0.0.0/8", "10.255.0.1") && !at("10.0.0.0/8", "11.0.0.1"));
        assert!(at("127.0.0.1", "127.0.0.1") && !at("127.0.0.1", "127.0.0.2"));
        assert!(at("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(at("0.0.0.0/0", "1.2.3.4") && !at("0.0.0.0/0", "fe80::1"));
        assert!(at("[fe80::]/10", "fe80::1") && at("::1", "::1"));
        assert!(at("2001:db8:1::/48", "2001:db8:1:ffff::9") && !at("2001:db8:1::/48", "2001:db8:2::9"));
        assert!(at("[2001:db8::7]", "2001:db8::7") && !at("[2001:db8::7]", "2001:db8::8"));
        assert!(at("::/0", "2001:db8::7") && at("any", "::1") && at("ALL", "1.2.3.4"));
    }

    #[test]
    fn nonsense_is_refused_when_it_is_set() {
        assert!(check(&group(&["ANY", "!iqn.x:a"], &["ANY", "::1", "10.0.0.0/8"])).is_ok());
        assert!(check(&group(&["has space"], &[])).is_err());
        assert!(check(&group(&["!"], &[])).is_err());
        for mask in ["10.0.0.0/33", "10.0.0", "anybody", "[fe80::]/129", "fe80::/", ""] {
            assert!(check(&group(&[], &[mask])).is_err(), "{mask}");
        }
    }
}
