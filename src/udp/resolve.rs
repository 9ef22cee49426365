//! From a name to addresses.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

/// The addresses of `host`, in the order in which the system would try them; never an empty list.
///
/// A numeric address (`192.0.2.1`, `2001:db8::1`, `[::1]`, `fe80::1%eth0`, `fe80::1%2`) never blocks.
/// A name asks the system's resolver and may block for as long as that takes, often seconds.
///
/// # Errors
/// When there is no such host, interface or answer; the text names the host.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let failed = |kind, why: &dyn std::fmt::Display| {
        Err(io::Error::new(kind, format!("cannot resolve \"{}\": {why}", host.escape_debug())))
    };
    match numeric(host, port) {
        Some(Ok(address)) => return Ok(vec![address]),
        Some(Err(error)) => return failed(error.kind(), &error),
        None if host.is_empty() => return failed(io::ErrorKind::InvalidInput, &"the name is empty"),
        None => {}
    }
    match (host, port).to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() {
                return failed(io::ErrorKind::NotFound, &"it has no address");
            }
            Ok(addresses)
        }
        Err(error) => failed(error.kind(), &error),
    }
}

/// `host` as a numeric address, or `None` if it is a name.
fn numeric(host: &str, port: u16) -> Option<io::Result<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Some((address, scope)) = bare.split_once('%') {
        let address = address.parse::<Ipv6Addr>().ok()?;
        let with_scope = |id| SocketAddr::V6(SocketAddrV6::new(address, port, 0, id));
        return Some(scope_id(scope).map(with_scope));
    }
    let address = bare.parse::<IpAddr>().ok()?;
    Some(Ok(SocketAddr::new(address, port)))
}

/// The interface number of RFC 4007's zone: a number, or the interface's name.
fn scope_id(zone: &str) -> io::Result<u32> {
    if let Ok(id) = zone.parse() {
        return Ok(id);
    }
    let name = CString::new(zone)?;
    // SAFETY: `name` is a live string that ends with NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("no interface \"{}\"", zone.escape_debug())))
        }
        id => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_addresses_need_no_resolver() {
        for (host, address) in [
            ("192.0.2.1", "192.0.2.1:7"),
            ("2001:db8::1", "[2001:db8::1]:7"),
            ("[::1]", "[::1]:7"),
            ("fe80::1%2", "[fe80::1%2]:7"),
        ] {
            let numeric = numeric(host, 7).expect(host).unwrap();
            assert_eq!(numeric, address.parse().unwrap());
            assert_eq!(resolve(host, 7).unwrap(), [numeric]);
        }
    }

    #[test]
    fn a_zone_may_be_an_interface_name() {
        let SocketAddr::V6(address) = resolve("fe80::1%lo", 7).unwrap()[0] else { panic!() };
        assert_ne!(address.scope_id(), 0);
    }

    #[test]
    fn the_system_knows_localhost() {
        assert!(resolve("localhost", 7).unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn an_error_names_the_host() {
        for host in ["", "fe80::1%nosuch", "host\0name"] {
            let error = resolve(host, 7).unwrap_err().to_string();
            assert!(error.contains(&*host.escape_debug().to_string()), "{error}");
            assert!(error.starts_with("cannot resolve"), "{error}");
        }
    }
}
