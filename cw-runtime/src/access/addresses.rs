//! Under which addresses a bound socket can be reached, from this machine and from others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The addresses peers may try for a socket bound to `bound`: at least one, best first.
///
/// For an unspecified address those of all interfaces, the ones other machines can use before loopback and IPv4
/// before IPv6; else just itself.
pub fn reachable_addresses(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    // Without a list of interfaces, this machine at least can reach the socket.
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let ips = interfaces.iter().map(if_addrs::Interface::ip).collect();
    order(bound, ips)
}

/// An interface that was named, by its name or one of its addresses, and under which of its addresses others may try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    named: String,
    ips: Vec<IpAddr>,
}

impl Interface {
    /// # Errors
    /// There is none of that name or address; the line lists those there are.
    pub(crate) fn find(named: &str) -> Result<Self, String> {
        let all = if_addrs::get_if_addrs().map_err(|error| format!("cannot list the interfaces: {error}"))?;
        Self::among(
            named,
            all.into_iter().map(|interface| (interface.name.clone(), interface.ip())).collect(),
        )
    }

    fn among(named: &str, all: Vec<(String, IpAddr)>) -> Result<Self, String> {
        let ips: Vec<IpAddr> = match named.parse::<IpAddr>() {
            Ok(ip) => all.iter().map(|(_, other)| *other).filter(|other| *other == ip).collect(),
            Err(_) => all.iter().filter(|(name, _)| name == named).map(|(_, ip)| *ip).collect(),
        };
        if !ips.is_empty() {
            return Ok(Self { named: named.to_owned(), ips });
        }
        let there: Vec<String> = all.iter().map(|(name, ip)| format!("{name} ({ip})")).collect();
        Err(format!("this machine has no interface `{named}`; there are {}", there.join(", ")))
    }

    /// Where to listen, so that its addresses lead there: all of this machine's, of IPv6 too if it has no others.
    pub(crate) fn any(&self) -> IpAddr {
        match self.ips.iter().any(IpAddr::is_ipv4) {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Its addresses for a socket that is bound to `bound`.
    ///
    /// # Errors
    /// None of them leads there.
    pub(crate) fn addresses(&self, bound: SocketAddr) -> Result<Vec<SocketAddr>, String> {
        let fits = |ip: &IpAddr| bound.ip().is_unspecified() || bound.ip() == *ip;
        let ips: Vec<IpAddr> = self.ips.iter().copied().filter(fits).collect();
        let addresses = if ips.is_empty() { Vec::new() } else { usable(bound, ips) };
        if addresses.is_empty() {
            let ips: Vec<String> = self.ips.iter().map(ToString::to_string).collect();
            let (named, ips) = (&self.named, ips.join(", "));
            return Err(format!("who listens on {bound} is not reached under `{named}` ({ips})"));
        }
        Ok(addresses)
    }
}

fn order(bound: SocketAddr, ips: Vec<IpAddr>) -> Vec<SocketAddr> {
    let addresses = usable(bound, ips);
    if addresses.is_empty() { vec![(Ipv4Addr::LOCALHOST, bound.port()).into()] } else { addresses }
}

fn usable(bound: SocketAddr, mut ips: Vec<IpAddr>) -> Vec<SocketAddr> {
    // An IPv6 socket takes both kinds, an IPv4 socket its own. Link-local IPv6 needs the name of an interface,
    // which on another machine is another one.
    ips.retain(|ip| bound.is_ipv6() || ip.is_ipv4());
    ips.retain(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    ips.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    let mut addresses: Vec<_> = ips.iter().map(|ip| SocketAddr::new(*ip, bound.port())).collect();
    addresses.dedup();
    addresses
}

/// The addresses as text, and behind them the host's name with the same port unless all are loopback.
///
/// The name helps where interfaces got new addresses, or where only the site's name service knows the way.
pub(super) fn with_host_name(addresses: &[SocketAddr]) -> Vec<String> {
    let mut texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let outside = addresses.iter().find(|address| !address.ip().is_loopback());
    if let (Some(address), Some(host)) = (outside, host_name()) {
        texts.push(format!("{host}:{}", address.port()));
    }
    texts
}

/// This machine's name, where the system tells it.
pub(super) fn host_name() -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok())?;
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_bound_address_is_its_own() {
        let bound = "10.1.2.3:5494".parse().unwrap();
        assert_eq!(reachable_addresses(bound), [bound]);
    }

    #[test]
    fn an_unspecified_address_ends_with_loopback() {
        let reachable = reachable_addresses("0.0.0.0:5494".parse().unwrap());
        assert!(reachable.iter().all(|a| a.port() == 5494 && a.is_ipv4()), "{reachable:?}");
        let outside = reachable.iter().take_while(|a| !a.ip().is_loopback()).count();
        assert!(reachable[outside..].iter().all(|a| a.ip().is_loopback()), "{reachable:?}");
    }

    #[test]
    fn order_of_interfaces() {
        let found = ips(&["127.0.0.1", "::1", "fe80::1", "2001:db8::1", "10.0.0.5", "10.0.0.5"]);
        let v4 = order("0.0.0.0:9".parse().unwrap(), found.clone());
        assert_eq!(v4, addresses(&["10.0.0.5:9", "127.0.0.1:9"]));
        let both = order("[::]:9".parse().unwrap(), found);
        let wanted = ["10.0.0.5:9", "[2001:db8::1]:9", "127.0.0.1:9", "[::1]:9"];
        assert_eq!(both, addresses(&wanted));
        let none = order("0.0.0.0:9".parse().unwrap(), ips(&[]));
        assert_eq!(none, addresses(&["127.0.0.1:9"]));
    }

    #[test]
    fn an_interface_is_found_by_its_name_or_address() {
        let all: Vec<_> =
            [("lo", "127.0.0.1"), ("eth0", "10.0.0.5"), ("eth0", "fe80::1"), ("ib0", "fd77::1")]
                .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()))
                .into();
        let among = |named: &str| Interface::among(named, all.clone());
        let any = "0.0.0.0:9".parse().unwrap();
        assert_eq!(among("eth0").unwrap().addresses(any).unwrap(), addresses(&["10.0.0.5:9"]));
        assert_eq!(among("10.0.0.5").unwrap().addresses(any).unwrap(), addresses(&["10.0.0.5:9"]));
        assert_eq!(
            among("eth1").unwrap_err(),
            "this machine has no interface `eth1`; there are lo (127.0.0.1), eth0 (10.0.0.5), eth0 (fe80::1), ib0 (fd77::1)"
        );
        assert!(among("10.0.0.6").unwrap_err().contains("no interface `10.0.0.6`"));
    }

    #[test]
    fn an_interface_announces_what_leads_to_the_socket_and_nothing_else() {
        let ib = Interface { named: "ib0".to_owned(), ips: ips(&["fd77::1"]) };
        assert!(ib.any().is_ipv6());
        let bound = SocketAddr::new(ib.any(), 9);
        assert_eq!(ib.addresses(bound).unwrap(), addresses(&["[fd77::1]:9"]));
        let refused = ib.addresses("0.0.0.0:9".parse().unwrap()).unwrap_err();
        assert_eq!(refused, "who listens on 0.0.0.0:9 is not reached under `ib0` (fd77::1)");
        assert!(ib.addresses("127.0.0.1:9".parse().unwrap()).is_err());
    }

    #[test]
    fn the_host_name_is_only_for_other_machines() {
        let local = addresses(&["127.0.0.1:9", "[::1]:9"]);
        assert_eq!(with_host_name(&local), ["127.0.0.1:9", "[::1]:9"]);
        let texts = with_host_name(&addresses(&["10.0.0.5:9", "127.0.0.1:9"]));
        assert_eq!(texts[..2], ["10.0.0.5:9", "127.0.0.1:9"]);
        match host_name() {
            Some(host) => assert_eq!(texts[2..], [format!("{host}:9")]),
            None => assert_eq!(texts.len(), 2),
        }
    }
}
