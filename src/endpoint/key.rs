//! What tells connections on one socket apart.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An address in a form that compares well: 16 bytes, IPv4 mapped, no flow label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Address {
    ip: [u8; 16],
    scope: u32,
    port: u16,
}

impl Address {
    /// The address as the socket interface wants it, IPv4 as IPv4.
    pub(super) fn socket_addr(&self) -> SocketAddr {
        match unpack_ip(self.ip) {
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.scope).into(),
            v4 => SocketAddr::new(v4, self.port),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        let scope = match addr {
            SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => v6.scope_id(),
            _ => 0,
        };
        Self { ip: pack_ip(addr.ip()), scope, port: addr.port() }
    }
}

/// A local address in 16 bytes; the unspecified one means "as the routing table says".
pub(super) fn pack_ip(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The reverse of [`pack_ip`].
pub(super) fn unpack_ip(ip: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(ip).to_canonical()
}

/// `addr` with an IPv4-mapped address as IPv4, as keys and replies use it.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    Address::from(addr).socket_addr()
}

/// Outer source address and port, inner ports. With `any_source` the outer part is left out (all zero).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    peer: Address,
    local_port: u16,
    peer_port: u16,
}

impl Key {
    /// Our inner port.
    pub(super) const fn local_port(&self) -> u16 {
        self.local_port
    }

    pub(super) fn new(peer: Option<SocketAddr>, local_port: u16, peer_port: u16) -> Self {
        Self { peer: peer.map(Address::from).unwrap_or_default(), local_port, peer_port }
    }

    /// All of it in a fixed form, for hashes and keyed functions.
    pub(super) fn bytes(&self) -> [u8; 26] {
        let mut bytes = [0; 26];
        bytes[..16].copy_from_slice(&self.peer.ip);
        bytes[16..20].copy_from_slice(&self.peer.scope.to_be_bytes());
        bytes[20..22].copy_from_slice(&self.peer.port.to_be_bytes());
        bytes[22..24].copy_from_slice(&self.local_port.to_be_bytes());
        bytes[24..].copy_from_slice(&self.peer_port.to_be_bytes());
        bytes
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes());
    }
}

/// May a datagram with this source be answered at all? Not if nobody, everybody or we ourselves sent it.
pub(super) fn is_plausible_source(from: SocketAddr, local_ip: Option<IpAddr>, local_port: u16) -> bool {
    let everybody = match from.ip() {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    // RFC 9293 section 3.9.2.3 (MUST-63) and the LAND attack: source equal to destination.
    let ourselves = from.port() == local_port && local_ip.is_some_and(|ip| ip.to_canonical() == from.ip());
    !everybody && !ourselves && !from.ip().is_unspecified() && from.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_same_peer_as_the_plain_one() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:80".parse().unwrap();
        let plain: SocketAddr = "192.0.2.7:80".parse().unwrap();
        assert_eq!(Key::new(Some(mapped), 1, 2), Key::new(Some(plain), 1, 2));
        assert_eq!(canonical(mapped), plain);
        assert_ne!(Key::new(Some(plain), 1, 2), Key::new(Some(plain), 2, 1));
        let scoped: SocketAddr = "[fe80::1%3]:80".parse().unwrap();
        assert_eq!(canonical(scoped), scoped, "a link-local address needs its scope");
    }

    #[test]
    fn impossible_sources_are_told_apart() {
        let ok =
            |text: &str| is_plausible_source(text.parse().unwrap(), Some("192.0.2.1".parse().unwrap()), 9);
        assert!(ok("192.0.2.1:10") && ok("192.0.2.2:9") && ok("[2001:db8::1]:9"));
        for bad in
            ["192.0.2.1:9", "192.0.2.2:0", "0.0.0.0:5", "224.0.0.1:5", "255.255.255.255:5", "[ff02::1]:5"]
        {
            assert!(!ok(bad), "{bad}");
        }
    }
}
