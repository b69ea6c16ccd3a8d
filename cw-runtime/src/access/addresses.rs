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

fn order(bound: SocketAddr, mut ips: Vec<IpAddr>) -> Vec<SocketAddr> {
    // An IPv6 socket takes both kinds, an IPv4 socket its own. Link-local IPv6 needs the name of an interface,
    // which on another machine is another one.
    ips.retain(|ip| bound.is_ipv6() || ip.is_ipv4());
    ips.retain(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    if ips.is_empty() {
        ips.push(Ipv4Addr::LOCALHOST.into());
    }
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
