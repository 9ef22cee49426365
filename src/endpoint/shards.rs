//! One address for more cores: several endpoints, each with a socket, a mux and a thread of its own.
//!
//! A connection lives in one shard from its first segment to its last: the one that [`Steering`] names for
//! its peer's address, be it accepted or begun here. So shards share nothing that moves: secrets and limits,
//! a counter of accepted connections, and the wakes of their handle. Calls on a connection go to its shard,
//! which its id names; nobody ever holds two shards' locks.
//!
//! Events stay with their shards until they are fetched. What a poll sleeps on is the set of the shards'
//! descriptors, each readable while its shard has news, and it fetches from those alone, beginning with
//! another one each time.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::mux::{ConnId, Event, Places, event};
use super::open::{Kinship, os, random_seed};
use super::waker::Signals;
use super::{CallError, Endpoint, EndpointConfig, Waker};
use crate::connection::Stats;
use crate::udp::{self, Steering, UdpSocket, WaitSet};

/// Sets of shards are a word.
const SHARDS_MAX: usize = u64::BITS as usize;

/// One endpoint, or several that share an address.
pub struct Shards {
    all: Box<[Arc<Endpoint>]>,
    /// With several.
    union: Option<Union>,
}

struct Union {
    steering: Steering,
    /// Readable while a shard has news; a shard's token is its number.
    news: WaitSet,
    /// All but the first's.
    beside: Arc<[Arc<Signals>]>,
    /// Where the next poll begins.
    turn: AtomicUsize,
    /// Shards that have reported a CLOSED: those ids end with the next poll.
    told: AtomicU64,
}

impl Shards {
    /// As [`Endpoint::receiver`], with as many shards as `config` says.
    ///
    /// # Errors
    /// `Address`, `Invalid`, `Os`; `NotSupported` where the kernel cannot steer.
    pub fn receiver(config: &EndpointConfig, host: Option<&str>, port: u16) -> Result<Self, CallError> {
        if config.shards == 1 {
            return Ok(Endpoint::receiver(config, host, port)?.into());
        }
        check(config)?;
        let seed = random_seed()?;
        let steering_seed = random_seed()?;
        let first = Endpoint::bind(config, host, port)?;
        let (steering, sockets) = share(first, config, &steering_seed)?;
        let places = Places::default();
        let mut all: Vec<Arc<Endpoint>> = Vec::with_capacity(config.shards);
        for (shard, socket) in sockets.iter().enumerate() {
            let kinship = Kinship {
                seed,
                shard: shard as u8,
                places: places.clone(),
                first: all.first().map(|first| &**first),
                sockets: Arc::clone(&sockets),
            };
            all.push(Endpoint::start(config, Arc::clone(socket), config.max_clients, kinship, |_| Ok(None))?);
        }
        let union = Union {
            steering,
            news: gather(&all)?,
            beside: all[1..].iter().map(|endpoint| Arc::clone(&endpoint.shared.signals)).collect(),
            turn: AtomicUsize::new(0),
            told: AtomicU64::new(0),
        };
        Ok(Self { all: all.into(), union: Some(union) })
    }

    /// Where a connection lives.
    #[must_use]
    pub fn of(&self, id: ConnId) -> &Endpoint {
        self.all.get(id.shard()).unwrap_or(&self.all[0])
    }

    /// The first, or only one.
    #[must_use]
    pub fn first(&self) -> &Endpoint {
        &self.all[0]
    }

    /// As [`Endpoint::connect`]. With several shards a name's first address is the only one tried: another
    /// one might belong to another shard.
    ///
    /// # Errors
    /// As [`Endpoint::connect`].
    pub fn connect(
        &self,
        host: &str,
        port: u16,
        user_data: usize,
        config: Option<&EndpointConfig>,
    ) -> Result<(ConnId, bool), CallError> {
        let Some(union) = &self.union else { return self.first().connect(host, port, user_data, config) };
        let (to, _) = self.first().reachable(host, port)?;
        self.all[union.steering.place_of(to)].connect_to(to, Vec::new(), user_data, config)
    }

    /// As [`Endpoint::poll_events`]; one thread at a time.
    ///
    /// # Errors
    /// As [`Endpoint::poll_events`].
    pub fn poll_events(
        &self,
        out: &mut Vec<Event>,
        max: usize,
        wait: Option<Duration>,
    ) -> Result<usize, CallError> {
        let Some(union) = &self.union else { return self.first().poll_events(out, max, wait) };
        let deadline = wait.map(|wait| udp::now() + wait);
        for shard in members(union.told.swap(0, Ordering::Relaxed), 0) {
            self.all[shard].take_events(out, 0)?;
        }
        let mut ready = Vec::new();
        loop {
            if self.first().take_wake()? {
                return Err(CallError::Interrupted);
            }
            let left = deadline.map(|deadline| deadline - udp::now());
            union.news.wait(left, &mut ready).map_err(os("cannot wait for the sockets"))?;
            let set = ready.iter().fold(0, |set, shard| set | 1 << shard);
            let count = self.take_events(union, set, out, max)?;
            // A wake is taken before the events: they are still there at the next call.
            if count > 0 || left == Some(Duration::ZERO) && !self.first().flag.is_set() {
                return Ok(count);
            }
        }
    }

    /// Fetches from the shards in `set`, at most `max` records.
    fn take_events(
        &self,
        union: &Union,
        set: u64,
        out: &mut Vec<Event>,
        max: usize,
    ) -> Result<usize, CallError> {
        let before = out.len();
        let turn = union.turn.fetch_add(1, Ordering::Relaxed) % self.all.len();
        for shard in members(set, turn) {
            let begin = out.len();
            if begin - before >= max {
                break;
            }
            self.all[shard].take_events(out, max - (begin - before))?;
            if out[begin..].iter().any(|record| record.events & event::CLOSED != 0) {
                union.told.fetch_or(1 << shard, Ordering::Relaxed);
            }
        }
        Ok(out.len() - before)
    }

    /// As [`Endpoint::fd`].
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.union.as_ref().map_or_else(|| self.first().fd(), |union| union.news.fd())
    }

    /// As [`Endpoint::timeout_ms`].
    #[must_use]
    pub fn timeout_ms(&self) -> i32 {
        // With several, each has a thread: none is due before there is news.
        let due = |endpoint: &Arc<Endpoint>| endpoint.timeout_ms();
        if self.all.iter().map(due).any(|due| due == 0) { 0 } else { self.first().timeout_ms() }
    }

    /// What ends the waits in [`poll_events`](Self::poll_events) and [`close`](Self::close).
    #[must_use]
    pub fn waker(&self) -> Waker {
        let waker = self.first().waker(None);
        match &self.union {
            Some(union) => Waker { beside: Arc::clone(&union.beside), ..waker },
            None => waker,
        }
    }

    /// As [`Endpoint::stats`] without an id, the sum over all.
    ///
    /// # Errors
    /// As [`Endpoint::stats`].
    pub fn stats(&self) -> Result<(Stats, usize), CallError> {
        let mut sum = (Stats::default(), 0);
        for endpoint in &self.all {
            let (stats, connections) = endpoint.stats(None)?;
            sum.0 += &stats;
            sum.1 += connections;
        }
        Ok(sum)
    }

    /// The address that all share.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.first().local_addr()
    }

    /// Changes the limit on accepted connections, which is one for all.
    pub fn set_max_clients(&self, max: usize) {
        self.all.iter().for_each(|endpoint| endpoint.set_max_clients(max));
    }

    /// As [`Endpoint::close_receiver`]: all shards at the same time, within the same `wait`.
    ///
    /// # Errors
    /// As [`Endpoint::close_receiver`]; the first of them.
    pub fn close(&self, wait: Option<Duration>) -> Result<(), CallError> {
        let mut deadline = wait.map(|wait| udp::now() + wait);
        let lingers = self.all.iter().map(|endpoint| endpoint.begin_to_close());
        let lingers = lingers.collect::<Result<Vec<_>, _>>()?;
        let mut result = Ok(());
        for (endpoint, linger) in self.all.iter().zip(lingers) {
            let ended = endpoint.end_closing(linger, deadline);
            if matches!(ended, Err(CallError::Interrupted)) {
                deadline = Some(udp::now()); // the one wake was for all
            }
            result = result.and(ended);
        }
        result
    }

    /// Resets every connection and closes. No FIN goes before the resets: to a peer it would be the end of a
    /// stream that is whole.
    ///
    /// # Errors
    /// `NotFound`, `Dead`.
    pub fn abort(&self) -> Result<(), CallError> {
        for endpoint in &self.all {
            endpoint.call(|core, now| {
                core.mux.abort_all(now);
                Ok(())
            })?;
        }
        match self.close(Some(Duration::ZERO)) {
            Err(CallError::Ended(_) | CallError::Interrupted | CallError::TimedOut) => Ok(()), // what was asked for
            result => result,
        }
    }
}

impl From<Arc<Endpoint>> for Shards {
    fn from(endpoint: Arc<Endpoint>) -> Self {
        Self { all: Box::new([endpoint]), union: None }
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

/// Can several sockets do what is asked for?
fn check(config: &EndpointConfig) -> Result<(), CallError> {
    let invalid = |why: &str| Err(CallError::Invalid(format!("{} shards: {why}", config.shards)));
    if !(1..=SHARDS_MAX).contains(&config.shards) {
        return invalid("1 to 64 are possible");
    }
    if !config.io_thread {
        return invalid("each needs an I/O thread");
    }
    if config.socket.is_some() {
        return invalid("a given socket is only one");
    }
    if config.any_source {
        return invalid("where segments come from says whose they are, so it must not be just any source");
    }
    Ok(())
}

type Sockets = Arc<[Arc<UdpSocket>]>;

fn share(
    first: UdpSocket,
    config: &EndpointConfig,
    seed: &[u8; 32],
) -> Result<(Steering, Sockets), CallError> {
    let [a, b, c, d, ..] = *seed;
    let (key, count) = (u32::from_ne_bytes([a, b, c, d]), config.shards as u16);
    let shared = Steering::share(first, count, key, config.socket_options());
    let (steering, sockets) = shared.map_err(|error| match error.kind() {
        std::io::ErrorKind::Unsupported => {
            CallError::NotSupported(format!("the kernel does not steer datagrams between shards: {error}"))
        }
        _ => CallError::Os(error, "cannot bind more sockets to one address".to_owned()),
    })?;
    Ok((steering, sockets.into_iter().map(Arc::new).collect()))
}

/// The set of the descriptors that say who has news.
fn gather(all: &[Arc<Endpoint>]) -> Result<WaitSet, CallError> {
    let cannot = "cannot make a set of the shards' descriptors";
    let set = WaitSet::new().map_err(os(cannot))?;
    for (shard, endpoint) in all.iter().enumerate() {
        let _ = endpoint.fd(); // from now on it tells
        set.add(&endpoint.shared.signals.news, shard as u64).map_err(os(cannot))?;
    }
    Ok(set)
}

/// The members of a set in order, from `first` on and round.
fn members(set: u64, first: usize) -> impl Iterator<Item = usize> {
    let mut rest = set.rotate_right(first as u32);
    std::iter::from_fn(move || {
        let at = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some((at + first) % SHARDS_MAX)
    })
}
