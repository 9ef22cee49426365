//! Who has sent, and the socket that stands in for each towards the far side.

use rtcp::time::Time;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// More clients than this push out the one that has been idle for longest.
const CLIENTS_MAX: usize = 4_096;
/// A client that was idle for so long is forgotten. RFC 4787 §4.3 wants at least 2 minutes of a NAT; the
/// longest delay a simulated path may have comes on top.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// One client; its token is never used again.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Bound for this client alone, so that the far side sees a source of its own.
    pub(crate) upstream: UdpSocket,
    last_used: Time,
}

/// A bounded table of clients.
pub(crate) struct Clients {
    by_token: HashMap<u64, Client>,
    by_address: HashMap<SocketAddr, u64>,
    /// The longest idle first.
    by_use: BTreeSet<(Time, u64)>,
    next_token: u64,
    /// How many there have been.
    seen: u64,
    /// Where upstream sockets are bound to.
    local: SocketAddr,
    max: usize,
}

impl Clients {
    /// An empty table of clients that talk to `to`, with tokens from `first_token` on.
    pub(crate) fn new(to: SocketAddr, first_token: u64) -> Self {
        // A proxy between local programs takes nothing from outside.
        let local = match to {
            SocketAddr::V4(to) if to.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(to) if to.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        Self {
            by_token: HashMap::new(),
            by_address: HashMap::new(),
            by_use: BTreeSet::new(),
            next_token: first_token,
            seen: 0,
            local,
            max: CLIENTS_MAX,
        }
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn find(&self, token: u64) -> Option<&Client> {
        self.by_token.get(&token)
    }

    /// The token of the client at `address`; `added` gets to see a new one.
    pub(crate) fn token_of(
        &mut self,
        address: SocketAddr,
        now: Time,
        added: impl FnOnce(u64, &UdpSocket) -> io::Result<()>,
    ) -> io::Result<u64> {
        if let Some(&token) = self.by_address.get(&address) {
            self.used(token, now);
            return Ok(token);
        }
        self.make_room(now);
        let upstream = match self.bind() {
            // Out of descriptors is another way of being full.
            Err(_) if self.forget_longest_idle() => self.bind()?,
            bound => bound?,
        };
        let token = self.next_token;
        added(token, &upstream)?;
        self.next_token += 1;
        self.seen += 1;
        self.by_token.insert(token, Client { address, upstream, last_used: now });
        self.by_address.insert(address, token);
        self.by_use.insert((now, token));
        Ok(token)
    }

    /// Notes that the client was heard of at `now`.
    pub(crate) fn used(&mut self, token: u64, now: Time) {
        let Some(client) = self.by_token.get_mut(&token) else { return };
        self.by_use.remove(&(client.last_used, token));
        client.last_used = now;
        self.by_use.insert((now, token));
    }

    fn bind(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(self.local)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Forgets who was idle for too long, and somebody in any case if the table is full.
    fn make_room(&mut self, now: Time) {
        while let Some(&(last_used, _)) = self.by_use.first()
            && (now - last_used > IDLE_MAX || self.by_use.len() >= self.max)
        {
            self.forget_longest_idle();
        }
    }

    fn forget_longest_idle(&mut self) -> bool {
        let Some((_, token)) = self.by_use.pop_first() else { return false };
        let client = self.by_token.remove(&token).expect("by_use names only clients in by_token");
        self.by_address.remove(&client.address);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn address(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn token(clients: &mut Clients, port: u16, now: Time) -> u64 {
        clients.token_of(address(port), now, |_, _| Ok(())).unwrap()
    }

    #[test]
    fn each_client_keeps_a_source_port_of_its_own() {
        let mut clients = Clients::new(address(9), 2);
        let (a, b) = (token(&mut clients, 1, at(0)), token(&mut clients, 2, at(0)));
        assert_eq!((a, b, token(&mut clients, 1, at(1))), (2, 3, 2));
        let port = |token| clients.find(token).unwrap().upstream.local_addr().unwrap();
        assert_ne!(port(a), port(b));
        assert_eq!(clients.seen(), 2);
    }

    #[test]
    fn a_full_table_forgets_the_longest_idle_client() {
        let mut clients = Clients::new(address(9), 2);
        clients.max = 3;
        let first: Vec<_> = (1..=3).map(|port| token(&mut clients, port, at(port.into()))).collect();
        clients.used(first[0], at(4));
        token(&mut clients, 4, at(5));
        assert!(clients.find(first[0]).is_some() && clients.find(first[1]).is_none());
        assert_eq!((clients.by_token.len(), clients.by_address.len(), clients.by_use.len()), (3, 3, 3));
        assert_eq!(token(&mut clients, 2, at(6)), 6, "a forgotten client is a new one");
    }

    #[test]
    fn idle_clients_are_forgotten_when_another_comes() {
        let mut clients = Clients::new(address(9), 2);
        let old = token(&mut clients, 1, at(0));
        token(&mut clients, 2, at(301));
        assert!(clients.find(old).is_none());
    }
}
