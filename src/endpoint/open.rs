//! Making endpoints: sockets, names, the I/O thread.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::{fmt, io};

use super::core::Core;
use super::mux::{ConnId, ConnectOptions, Mux, Places};
use super::seat::{Alarm, Shared};
use super::trace::Trace;
use super::waker::Signals;
use super::{CallError, Endpoint, EndpointConfig};
use crate::connection;
use crate::udp::{self, UdpIo, UdpSocket};

/// IP and UDP headers; what an interface's MTU is short of by the time it reaches us.
const IPV4_OVERHEAD: usize = 28;
const IPV6_OVERHEAD: usize = 48;

impl Endpoint {
    /// Binds a socket that accepts connections. `host` `None`: every address; port 0: a free one.
    ///
    /// # Errors
    /// `Address`, `Invalid`, `Os`.
    pub fn receiver(config: &EndpointConfig, host: Option<&str>, port: u16) -> Result<Arc<Self>, CallError> {
        let socket = Self::bind(config, host, port)?;
        Self::start(config, Arc::new(socket), config.max_clients, Kinship::none()?, |_| Ok(None))
    }

    /// The socket of a receiver.
    pub(super) fn bind(
        config: &EndpointConfig,
        host: Option<&str>,
        port: u16,
    ) -> Result<UdpSocket, CallError> {
        let options = config.socket_options();
        match (config.socket, host, &config.bind) {
            (None, Some(host), _) => {
                let addresses = resolve(host, port)?;
                let mut bound = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
                for address in addresses {
                    bound = UdpSocket::bind(address, options);
                    if bound.is_ok() {
                        break;
                    }
                }
                bound.map_err(cannot_bind(format_args!("{host} port {port}")))
            }
            (None, None, None) => UdpSocket::bind_any(port, options)
                .map_err(cannot_bind(format_args!("port {port} of every address"))),
            (None, None, Some(bind)) => {
                let mut address = parse_bind(bind)?;
                if port != 0 {
                    address.set_port(port);
                }
                UdpSocket::bind(address, options).map_err(cannot_bind(address))
            }
            (Some(fd), ..) => adopt(fd, config),
        }
    }

    /// A socket of its own with one connection on it, which begins at once.
    ///
    /// # Errors
    /// `Address`, `Invalid`, `Os`.
    pub fn sender(config: &EndpointConfig, host: &str, port: u16) -> Result<(Arc<Self>, ConnId), CallError> {
        let addresses = resolve(host, port)?;
        let socket = match (config.socket, &config.bind) {
            (Some(fd), _) => adopt(fd, config)?,
            (None, Some(bind)) => {
                UdpSocket::bind(parse_bind(bind)?, config.socket_options()).map_err(cannot_bind(bind))?
            }
            (None, None) => bind_towards(&addresses, config)?,
        };
        let reachable: Vec<SocketAddr> =
            addresses.into_iter().filter(|to| can_reach(socket.local_addr(), *to)).collect();
        let no_way =
            || CallError::Address(format!("{host} has no address that the local one can reach"), None);
        let (&first, rest) = reachable.split_first().ok_or_else(no_way)?;
        let endpoint = Self::start(config, Arc::new(socket), 0, Kinship::none()?, |mux| {
            let options = ConnectOptions {
                config: connection_config(config, first),
                user_data: 0,
                local_tcp_port: 0,
                remote_tcp_port: 0,
                ignore_refused: false,
                alternatives: rest.to_vec(),
            };
            let (id, _) = mux.connect(udp::now(), first, options)?;
            Ok(Some(id))
        })?;
        let id = endpoint.own.ok_or(CallError::State("the connection did not begin"))?;
        Ok((endpoint, id))
    }

    /// Begins a connection from this socket, or finds the one that exists (true). `config` `None`: as the
    /// endpoint's own.
    ///
    /// # Errors
    /// `Address`, `Invalid`, `State`.
    pub fn connect(
        &self,
        host: &str,
        port: u16,
        user_data: usize,
        config: Option<&EndpointConfig>,
    ) -> Result<(ConnId, bool), CallError> {
        let (first, rest) = self.reachable(host, port)?;
        self.connect_to(first, rest, user_data, config)
    }

    /// The addresses of a name that this socket can reach: the first, and the others.
    pub(super) fn reachable(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(SocketAddr, Vec<SocketAddr>), CallError> {
        let local = self.local_addr();
        let mut addresses = resolve(host, port)?.into_iter().filter(|to| can_reach(local, *to));
        let first = addresses.next().ok_or_else(|| {
            CallError::Address(format!("{host} has no address that {local} can reach"), None)
        })?;
        Ok((first, addresses.collect()))
    }

    pub(super) fn connect_to(
        &self,
        first: SocketAddr,
        alternatives: Vec<SocketAddr>,
        user_data: usize,
        config: Option<&EndpointConfig>,
    ) -> Result<(ConnId, bool), CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.open()?;
        if core.is_closing {
            return Err(CallError::NotFound); // the closer has seen to all it will see to
        }
        let base = config.map_or_else(|| core.mux.config().connection.clone(), |own| own.connection.clone());
        let options = ConnectOptions {
            config: fit_to(base, first),
            user_data,
            local_tcp_port: config.map_or(0, |config| config.local_tcp_port),
            remote_tcp_port: config.map_or(0, |config| config.remote_tcp_port),
            ignore_refused: true,
            alternatives,
        };
        let result = core.mux.connect(udp::now(), first, options);
        self.shared.leave(core);
        Ok(result?)
    }

    /// Everything from the bound socket on; `begin` may dial before anybody else sees the endpoint.
    pub(super) fn start(
        config: &EndpointConfig,
        socket: Arc<UdpSocket>,
        max_clients: usize,
        kinship: Kinship<'_>,
        begin: impl FnOnce(&mut Mux) -> Result<Option<ConnId>, CallError>,
    ) -> Result<Arc<Self>, CallError> {
        let port = socket.local_addr().port();
        let Kinship { seed, shard, places, first, sockets } = kinship;
        let mut mux = Mux::shard(config.mux(port, max_clients), seed, shard, places);
        let trace = Trace::open(config.trace.as_deref());
        if trace.is_some() {
            mux.begin_trace();
        }
        let own = begin(&mut mux)?;
        let signals = match first {
            None => Signals::new(Arc::clone(&socket), config.io_thread),
            Some(first) => first.shared.signals.beside(Arc::clone(&socket)),
        };
        let signals = signals.map_err(os("cannot make the descriptors of an endpoint"))?;
        let mut core = Core::new(mux, config.io_thread);
        core.trace = trace;
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            io_thread: OnceLock::new(),
            knocks: AtomicBool::new(false),
            socket,
            signals: Arc::new(signals),
            _sockets: sockets,
        });
        if config.io_thread {
            let shared = Arc::clone(&shared);
            let body = move || {
                if let Err(error) = shared.run_io_thread() {
                    log::error!("the I/O thread of {} ends: {error}", shared.socket.local_addr());
                }
            };
            // Detached: it ends by itself once the endpoint is closed and nobody needs an answer any more.
            drop(udp::spawn("rtcp-io", body).map_err(os("cannot start the I/O thread"))?);
        }
        let flag = Arc::clone(&shared.signals.own);
        let endpoint = Arc::new(Self { shared, own, flag });
        if own.is_some() && config.io_thread {
            endpoint.shared.leave(endpoint.shared.lock()?);
        }
        Ok(endpoint)
    }
}

/// What an endpoint has in common with others that share its address.
pub(super) struct Kinship<'e> {
    /// Secrets are derived from it.
    pub(super) seed: [u8; 32],
    /// Its number among them.
    pub(super) shard: u8,
    pub(super) places: Places,
    /// Whose wakes are its own too.
    pub(super) first: Option<&'e Endpoint>,
    pub(super) sockets: Arc<[Arc<UdpSocket>]>,
}

impl Kinship<'_> {
    /// Of an endpoint by itself.
    fn none() -> Result<Self, CallError> {
        Ok(Self {
            seed: random_seed()?,
            shard: 0,
            places: Places::default(),
            first: None,
            sockets: Arc::default(),
        })
    }
}

pub(super) fn random_seed() -> Result<[u8; 32], CallError> {
    udp::seed().map_err(os("cannot get a random seed"))
}

pub(super) fn os(what: &'static str) -> impl FnOnce(io::Error) -> CallError {
    move |error| CallError::Os(error, what.to_owned())
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, CallError> {
    udp::resolve(host, port).map_err(|error| CallError::Address(error.to_string(), error.raw_os_error()))
}

fn cannot_bind(address: impl fmt::Display) -> impl FnOnce(io::Error) -> CallError {
    move |error| CallError::Os(error, format!("cannot bind {address}"))
}

fn adopt(fd: i32, config: &EndpointConfig) -> Result<UdpSocket, CallError> {
    UdpSocket::from_raw(fd, config.socket_options()).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => CallError::Invalid(format!("the given socket: {error}")),
        _ => CallError::Os(error, "cannot use the given socket".to_owned()),
    })
}

fn parse_bind(text: &str) -> Result<SocketAddr, CallError> {
    let with_port = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    text.parse()
        .ok()
        .or_else(with_port)
        .ok_or_else(|| CallError::Invalid(format!("\"{text}\" is neither \"ip\" nor \"ip:port\"")))
}

/// A socket that reaches every one of the addresses.
fn bind_towards(addresses: &[SocketAddr], config: &EndpointConfig) -> Result<UdpSocket, CallError> {
    let options = config.socket_options();
    let any: IpAddr =
        match (addresses.iter().any(SocketAddr::is_ipv4), addresses.iter().any(SocketAddr::is_ipv6)) {
            (true, true) => return UdpSocket::bind_any(0, options).map_err(cannot_bind("every address")),
            (_, false) => Ipv4Addr::UNSPECIFIED.into(),
            (false, true) => Ipv6Addr::UNSPECIFIED.into(),
        };
    UdpSocket::bind(SocketAddr::new(any, 0), options).map_err(cannot_bind(any))
}

/// An IPv6 socket reaches IPv4 only if it is bound to every address.
fn can_reach(local: SocketAddr, to: SocketAddr) -> bool {
    local.is_ipv4() == to.is_ipv4() || local.is_ipv6() && local.ip().is_unspecified()
}

fn connection_config(config: &EndpointConfig, to: SocketAddr) -> connection::Config {
    fit_to(config.connection.clone(), to)
}

/// IPv6 headers take 20 bytes more: what is stated for IPv4's must be that much less.
fn fit_to(mut config: connection::Config, to: SocketAddr) -> connection::Config {
    if to.is_ipv6() && config.max_receive_datagram == connection::Config::default().max_receive_datagram {
        config.max_receive_datagram -= IPV6_OVERHEAD - IPV4_OVERHEAD;
    }
    config
}
