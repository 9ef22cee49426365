//! Every type, number and layout that C sees. Values and layouts never change once released;
//! `tests/c/abi_values.c` holds each of them.

use std::ffi::{c_char, c_int, c_void};

/// Result codes. Functions that return `int` return RTCP_OK (0), a count or a mask on success, else one of these. RTCP_EAGAIN,
/// RTCP_ETIMEDOUT, RTCP_EINTR, RTCP_EINVAL, RTCP_ENOMEM, RTCP_ESTATE, RTCP_EPIPE and RTCP_ENOTSUP say that this call did not
/// work: the handle lives, and after RTCP_EPIPE bytes can still be received. Any other (and any unknown) code from a connection
/// is its end and is returned again by every later call that needs the connection.
/// Values never change once released.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_error {
    /// Success.
    RTCP_OK = 0,
    /// rtcp_send(), rtcp_recv(), rtcp_reserve() or rtcp_peek() would wait and RTCP_OPT_IO_TIMEOUT_MS is 0. No other call returns
    /// it.
    RTCP_EAGAIN = -1,
    /// The limit you gave passed (0 included). Never the end of a connection: that is RTCP_EPEERTIMEOUT.
    RTCP_ETIMEDOUT = -2,
    /// The wait was ended by rtcp_wake().
    RTCP_EINTR = -3,
    /// A bad argument: NULL where not allowed, unknown option, value out of bounds.
    RTCP_EINVAL = -4,
    /// Out of memory or over a configured memory limit.
    RTCP_ENOMEM = -5,
    /// Host name or address could not be resolved.
    RTCP_EADDR = -6,
    /// An operating system call failed; rtcp_last_os_error() has the errno value.
    RTCP_EIO = -7,
    /// The peer refused the connection: nobody listens there, or it takes no more clients.
    RTCP_ECONNREFUSED = -8,
    /// The connection was reset by the peer.
    RTCP_ECONNRESET = -9,
    /// The peer does not answer: connect, user, keep-alive or idle limit (rtcp_last_error_message() says which: those of
    /// RTCP_OPT_CONNECT_TIMEOUT_MS, RTCP_OPT_USER_TIMEOUT_MS, RTCP_OPT_KEEPALIVE_MS, RTCP_OPT_IDLE_TIMEOUT_MS).
    RTCP_EPEERTIMEOUT = -10,
    /// Sending after rtcp_finish(), or the peer no longer accepts data.
    RTCP_EPIPE = -11,
    /// The handle is not in a state that allows this call, or is of the wrong kind for it (a receiver where a connection is
    /// needed, or the other way round), or the call came from within a log callback.
    RTCP_ESTATE = -12,
    /// Not a live handle.
    RTCP_ENOCONN = -13,
    /// The peer broke the protocol, or does not have what RTCP_OPT_INTEGRITY 2 requires.
    RTCP_EPROTO = -14,
    /// Authentication or decryption failed. Reserved: not returned yet.
    RTCP_EAUTH = -15,
    /// Compiled out or not supported on this platform.
    RTCP_ENOTSUP = -16,
    /// The process forked after the handle was created.
    RTCP_EFORKED = -17,
    /// A bug in rtcp: a panic was caught. The handle is dead; only rtcp_abort() it.
    RTCP_EPANIC = -18,
    /// This side called rtcp_abort(). Only in rtcp_event.error.
    RTCP_ECONNABORTED = -19,
}

/// Configuration options for rtcp_config_set_int() and friends. Each line says: meaning, unit, range, default; 1 MiB is
/// 1,048,576 bytes. rtcp_option_bounds() gives range and default at run time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_option {
    /// Largest UDP payload to send, bytes; 0 = discover (int, 0 or 548 to 65507; default 0). Discovery (RFC 8899) begins with
    /// 1200 bytes, which every path is expected to carry. While data flows to a peer with the extension or SACK it tries larger
    /// sizes, up to 1472 (IPv6: 1452) or what the peer announced; when large datagrams vanish it goes back to 1200, and to 548
    /// if these vanish too. Any other value is used as it is: if the path does not carry it, data does not arrive. ICMP is not
    /// listened to, and datagrams are never fragmented. rtcp_stats.mtu tells the size in use. The peer is told that it may send
    /// up to 1472 bytes, or as much as this says if it is more.
    RTCP_OPT_MTU = 1,
    /// Most bytes held for the peer, per connection (int, 64 KiB to 1 GiB; default 128 MiB: 1 Gbit/s at a round trip of 300 ms,
    /// 37.5 MB, and what piles up behind losses). A limit, not a size: beyond what is in flight rtcp_send() takes one congestion
    /// window, 20 ms of data (at most 1 MiB) or 128 KiB, whichever is most, then waits. Memory is taken as bytes are, and given
    /// back after 10 s with none.
    RTCP_OPT_SEND_BUFFER = 2,
    /// Largest window offered to the peer, bytes per connection (int, 64 KiB to 1 GiB; default 128 MiB, as above). A limit, not a
    /// size: the window begins with 128 KiB and grows with what the application reads in a round trip, so that it holds a fast
    /// sender up nowhere and a peer whose bytes nobody reads makes us hold no more than it began with. Memory is taken as bytes
    /// arrive, and given back after 10 s with none. All connections together hold at most this times their number
    /// (RTCP_OPT_MAX_CLIENTS); say less here to bound it.
    RTCP_OPT_RECV_BUFFER = 3,
    /// Time limit for the handshake, ms; then RTCP_EPEERTIMEOUT (int, 1 to 86,400,000 = 24 hours; default 30,000). RFC 9293
    /// (MUST-23) asks kernels for at least 3 minutes; a program's user waits less, and on a link that bad you can say 180,000.
    RTCP_OPT_CONNECT_TIMEOUT_MS = 4,
    /// End the connection with RTCP_EPEERTIMEOUT after this long without any packet from the peer, ms; 0 = never (int, 0 to
    /// 2,147,483,647; default 0).
    RTCP_OPT_IDLE_TIMEOUT_MS = 5,
    /// Probe a peer that was silent for so long, ms; 0 = off (RFC 9293 3.8.4; int, 0 to 2,147,483,647; default 0). A probe
    /// without an answer is repeated after two retransmission timeouts (1 to 15 s, never more than this option); after five
    /// the connection ends with RTCP_EPEERTIMEOUT.
    RTCP_OPT_KEEPALIVE_MS = 6,
    /// How long rtcp_send(), rtcp_recv(), rtcp_reserve() and rtcp_peek() may wait, ms: -1 = no limit, 0 = not at all (RTCP_EAGAIN),
    /// else RTCP_ETIMEDOUT. Default -1, but 0 for the connections of a receiver (int, -1 to 2,147,483,647; rtcp_set_int() changes
    /// it at any time).
    RTCP_OPT_IO_TIMEOUT_MS = 8,
    /// 1 (default) = the library runs its own I/O thread; 0 = the caller drives it by polling (int, 0 or 1).
    RTCP_OPT_IO_THREAD = 10,
    /// Congestion control, one of enum rtcp_cc (int, 1 to 3; default RTCP_CC_BBR).
    RTCP_OPT_CONGESTION = 11,
    /// Largest number of accepted connections a receiver keeps; further peers get RTCP_ECONNREFUSED. 0 = accept none, only
    /// rtcp_receiver_connect() (int, 0 to 1,000,000; default 100,000).
    RTCP_OPT_MAX_CLIENTS = 12,
    /// SO_SNDBUF / SO_RCVBUF of the UDP socket, bytes; 0 = leave (int, 0 to 1 GiB; default 4 MiB). The kernel may grant less.
    RTCP_OPT_UDP_BUFFER = 13,
    /// 1 (default) = use segmentation offload (GSO/GRO) where the kernel has it; 0 = not (int, 0 or 1). rtcp_stats.io tells what
    /// is in use.
    RTCP_OPT_OFFLOAD = 14,
    /// Local address to bind, "ip" or "ip:port", "[ip]:port" for IPv6 (str; default: every address, any free port). For
    /// rtcp_sender_new(); rtcp_receiver_new() binds what its arguments say.
    RTCP_OPT_BIND = 15,
    /// 32-byte pre-shared key; turns on encryption (bytes). Reserved: RTCP_ENOTSUP until it is built.
    RTCP_OPT_PSK = 16,
    /// Fixed window for RTCP_CC_FIXED, bytes (int, 1 to 1 GiB; default 65,536).
    RTCP_OPT_WINDOW = 17,
    /// Receiver: send ACKs to this "ip:port" instead of the address a datagram came from (str). For one-way proxies.
    RTCP_OPT_ACK_TO = 18,
    /// Sender: 1 = take ACKs from any UDP source address, not only the peer's (int, 0 or 1; default 0). For one-way proxies.
    RTCP_OPT_ANY_SOURCE = 19,
    /// Own port inside the TCP header; 0 = same as the UDP port (with RTCP_OPT_ANY_SOURCE: a random one), and for a receiver:
    /// whatever the peer aims at (int, 0 to 65,535; default 0).
    RTCP_OPT_LOCAL_TCP_PORT = 20,
    /// The peer's port inside the TCP header; 0 = same as its UDP port (int, 0 to 65,535; default 0).
    RTCP_OPT_REMOTE_TCP_PORT = 21,
    /// The extension, whose CRC-32C covers every segment: 0 = never, as a plain RFC 9293 peer with TCP's 16-bit sum; 1 (default)
    /// = with every peer that has it; 2 = required: a connection to a peer without it ends with RTCP_EPROTO, one from such a
    /// peer is refused (int, 0 to 2).
    RTCP_OPT_INTEGRITY = 22,
    /// Give up on a connection, with RTCP_EPEERTIMEOUT, after this long without progress, ms (R2 of RFC 9293 3.8.3; int, 1 to
    /// 2,147,483,647; default 100,000).
    /// Until then an outage is waited out: a peer with the extension is asked every 250 ms or round trip for 10 s, then down to
    /// every 5 s, and data goes on when it answers.
    RTCP_OPT_USER_TIMEOUT_MS = 23,
    /// A bound UDP socket to use instead of making one; duplicated, close yours when you like (int, a descriptor; default
    /// -1 = make one). For STUN before hole punching, socket activation, SO_MARK, SO_BINDTODEVICE. `host`/`port` of
    /// rtcp_receiver_new() are then NULL and 0. Do not read or write yours meanwhile; shutdown() on it ends every connection
    /// with RTCP_EIO.
    RTCP_OPT_SOCKET = 24,
    /// 1 (default) = small writes leave at once; 0 = Nagle's algorithm, which holds a small write back while others are not yet
    /// acknowledged (RFC 9293 3.7.4; int, 0 or 1; rtcp_set_int() changes it at any time).
    RTCP_OPT_NODELAY = 25,
    /// File that a trace of every connection is appended to, one line of CSV per event; "%p" in it stands for the process id
    /// (str; default: what the environment variable RTCP_TRACE names, unless the program is set-user-id; "" = no trace).
    /// docs/tracing.md explains the columns, docs/plot_trace.py draws them. A file that cannot be written is warned of once and
    /// disturbs nothing; for a disk that stands still rtcp_close() and rtcp_abort() wait, each a second at most. It
    /// belongs to the socket: rtcp_receiver_connect() ignores it.
    RTCP_OPT_TRACE = 27,
    /// 1 (default) = explicit congestion notification (RFC 3168) with every peer that has it: routers mark packets where they
    /// would drop them. Given up by itself on paths that do not carry marked packets. 0 = never (int, 0 or 1).
    RTCP_OPT_ECN = 26,
    /// Receiver: shards that its connections are divided among, each with a UDP socket on the same port (SO_REUSEPORT) and an
    /// I/O thread, so that several cores serve one handle (int, 1 to 64; default 1; about one for each core). Every datagram of
    /// one peer's socket goes to one shard, for good. Nothing else changes: one rtcp_receiver_poll(), one rtcp_fd(), the same
    /// events; RTCP_OPT_MAX_CLIENTS and rtcp_get_stats() count all shards together, RTCP_OPT_UDP_BUFFER is each socket's.
    /// Above 1 not with RTCP_OPT_IO_THREAD 0, RTCP_OPT_SOCKET or RTCP_OPT_ANY_SOURCE (RTCP_EINVAL from rtcp_receiver_new()).
    RTCP_OPT_SHARDS = 28,
}

/// Bits of rtcp_event.events, rtcp_poll() and rtcp_watch(). The first three are level-triggered: rtcp_receiver_poll() reports
/// each as long as it holds, and only while it is watched. The others it reports once, watched or not. rtcp_poll() returns any
/// of them as long as it is true.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_event_bits {
    /// rtcp_recv() would not wait: bytes, or the end of the stream not yet read as 0.
    RTCP_EVENT_READABLE = 1,
    /// rtcp_send() would not wait: connected and it would take at least a quarter of what it takes while nothing waits to be
    /// sent (see RTCP_OPT_SEND_BUFFER), or it would fail.
    RTCP_EVENT_WRITABLE = 2,
    /// The peer has acknowledged all that was sent, the finish included. Acknowledged is not processed.
    RTCP_EVENT_ACKED = 4,
    /// A connection begun here is established.
    RTCP_EVENT_CONNECTED = 8,
    /// A new connection from a peer. In its first record.
    RTCP_EVENT_ACCEPTED = 16,
    /// The connection is over; `error` says how. In its last record, exactly once, however it ended, rtcp_close() and
    /// rtcp_abort() included: the place to free user_data. RTCP_OK: the peer's stream was read to its end and every byte sent
    /// was acknowledged (for our own finish no acknowledgement is needed: a peer may exit right after its last byte is safe).
    /// An orderly end is reported only after rtcp_recv() has returned 0. After a failure, bytes that came before it can still
    /// be read. The handle serves rtcp_recv(), rtcp_get_stats() and rtcp_get_addr() until the next rtcp_receiver_poll().
    RTCP_EVENT_CLOSED = 32,
}

/// Connection states, as rtcp_get_state() returns them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_state {
    /// A receiver.
    RTCP_STATE_LISTENING = 1,
    /// The handshake is under way.
    RTCP_STATE_CONNECTING = 2,
    /// This side has not finished: bytes can be sent. The peer may have: then rtcp_recv() returns 0 after the last byte.
    RTCP_STATE_ESTABLISHED = 3,
    /// This side has finished (rtcp_finish()), and the peer has not yet acknowledged it or not yet finished itself.
    RTCP_STATE_FINISHING = 4,
    /// Over, in order.
    RTCP_STATE_CLOSED = 5,
}

/// Log levels.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_log_level {
    /// Nothing.
    RTCP_LOG_OFF = 0,
    /// The library or the system misbehaves.
    RTCP_LOG_ERROR = 1,
    /// Something will probably not work as wanted.
    RTCP_LOG_WARN = 2,
    /// Once per endpoint or connection.
    RTCP_LOG_INFO = 3,
    /// Once per unusual event, and every call that failed.
    RTCP_LOG_DEBUG = 4,
    /// Every segment.
    RTCP_LOG_TRACE = 5,
}

/// Congestion controllers.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_cc {
    /// BBR (draft-ietf-ccwg-bbr, version 3), the default. Tells loss by chance from congestion.
    RTCP_CC_BBR = 1,
    /// CUBIC (RFC 9438).
    RTCP_CC_CUBIC = 2,
    /// No congestion control: a fixed window of RTCP_OPT_WINDOW bytes (not fair to others: for links that are yours alone).
    RTCP_CC_FIXED = 3,
}

/// What the congestion controller is doing: rtcp_stats.cc_phase. Later versions may add values.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_cc_phase {
    /// It has no phases, or one that this version has no number for.
    RTCP_PHASE_NONE = 0,
    /// CUBIC: the window doubles per round trip.
    RTCP_PHASE_SLOW_START = 1,
    /// CUBIC: the delay has risen, the window grows more slowly (conservative slow start, RFC 9406).
    RTCP_PHASE_CSS = 2,
    /// CUBIC: congestion avoidance.
    RTCP_PHASE_AVOIDANCE = 3,
    /// BBR: the rate doubles per round trip.
    RTCP_PHASE_STARTUP = 4,
    /// BBR: the queue that start-up made drains.
    RTCP_PHASE_DRAIN = 5,
    /// BBR: slower than the path, to leave room.
    RTCP_PHASE_PROBE_BW_DOWN = 6,
    /// BBR: at the path's rate.
    RTCP_PHASE_PROBE_BW_CRUISE = 7,
    /// BBR: fills the path before it probes.
    RTCP_PHASE_PROBE_BW_REFILL = 8,
    /// BBR: faster than the path, to see whether there is more.
    RTCP_PHASE_PROBE_BW_UP = 9,
    /// BBR: almost nothing in flight, to measure the empty path's round trip.
    RTCP_PHASE_PROBE_RTT = 10,
}

/// How datagrams leave: rtcp_stats.io. Later versions may add values.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum rtcp_io {
    /// One datagram for each system call.
    RTCP_IO_SINGLE = 1,
    /// Many datagrams for each system call (sendmmsg, recvmmsg).
    RTCP_IO_BATCH = 2,
    /// That, and the kernel cuts rows of them and merges what arrives (GSO, GRO); see RTCP_OPT_OFFLOAD.
    RTCP_IO_OFFLOAD = 3,
}

/// Opaque. Create with rtcp_config_new(), free with rtcp_config_free().
#[derive(Debug)]
pub struct rtcp_config {
    _private: [u8; 0],
}

/// Names a connection or a receiver. 0 is never valid and no value comes twice in a process; fits epoll_data.u64.
pub type rtcp_handle = u64;

/// Log callback; see rtcp_log_set_callback(). `user` is what was given there, `level` one of enum rtcp_log_level; `target` (the
/// part of the library that speaks) and `message` are UTF-8, valid during the call only. It must return: no longjmp(), no C++
/// exception.
pub type rtcp_log_fn = Option<
    unsafe extern "C" fn(user: *mut c_void, level: c_int, target: *const c_char, message: *const c_char),
>;

/// A byte count (>= 0) or a negative rtcp_error code.
pub type rtcp_ssize = isize;

/// Counters of one connection. Later versions only append fields; pass sizeof(rtcp_stats).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rtcp_stats {
    /// Application bytes accepted for sending.
    pub bytes_sent: u64,
    /// Application bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Application bytes delivered in order to the caller.
    pub bytes_received: u64,
    /// Packets sent, of every kind.
    pub packets_sent: u64,
    /// Packets received and accepted.
    pub packets_received: u64,
    /// Packets sent again.
    pub packets_retransmitted: u64,
    /// Packets marked lost by RACK or a timeout (RFC 8985), needlessly or not.
    pub packets_lost: u64,
    /// Datagrams dropped: failing checksum, CRC or authentication.
    pub packets_corrupt: u64,
    /// Datagrams dropped for any other reason.
    pub packets_dropped: u64,
    /// Smoothed round-trip time, microseconds; 0 = not yet measured, and for a receiver.
    pub srtt_us: u64,
    /// Smallest round-trip time, microseconds. Like rttvar_us and latest_rtt_us 0 where srtt_us is.
    pub min_rtt_us: u64,
    /// Round-trip time variation, microseconds.
    pub rttvar_us: u64,
    /// Congestion window, bytes.
    pub cwnd: u64,
    /// Slow-start threshold, bytes; UINT64_MAX = not yet known.
    pub ssthresh: u64,
    /// Bytes in flight.
    pub bytes_in_flight: u64,
    /// Peer's receive window as last announced, bytes.
    pub peer_window: u64,
    /// The UDP payload size now in use, bytes.
    pub mtu: u64,
    /// Retransmission timeouts fired (RFC 6298).
    pub rto_count: u64,
    /// Live connections of a receiver; 1 for a connection.
    pub connections: u64,
    /// Tail loss probes sent (RFC 8985 section 7).
    pub probe_count: u64,
    /// Loss recoveries that turned out to be mistakes and were undone (RFC 4015, RFC 5682, D-SACK).
    pub undo_count: u64,
    /// Payload bytes that the peer is known to hold, acknowledged in order or not.
    pub bytes_delivered: u64,
    /// Most recent round-trip time, microseconds.
    pub latest_rtt_us: u64,
    /// What sending is paced at, bytes per second; 0 = not paced.
    pub pacing_rate: u64,
    /// What the path is thought to deliver, bytes per second; 0 = the congestion controller does not estimate it.
    pub bandwidth: u64,
    /// Share of the last 64 packets or so that were lost, per mille (0 to 1000).
    pub loss_permille: u64,
    /// Share of packets whose loss is not taken for congestion, per mille; 0 = none, or not estimated.
    pub loss_floor_permille: u64,
    /// The congestion controller, one of enum rtcp_cc; 0 for a receiver.
    pub cc: u64,
    /// What it is doing, one of enum rtcp_cc_phase.
    pub cc_phase: u64,
    /// Explicit congestion notification on what is sent: 0 = not in use (not agreed on, or the path does not carry it), 1 = as in
    /// RFC 3168, 2 = with a count of marked bytes (the peer has the extension). 0 for a receiver.
    pub ecn: u64,
    /// Data packets that arrived marked "congestion experienced".
    pub packets_ce: u64,
    /// Bytes that the peer reported as marked; with `ecn` 1 an estimate, one packet for each round trip with marks.
    pub bytes_ce: u64,
    /// Recoveries begun by a retransmission timeout and found needless: what it waited for was only late.
    pub rto_spurious: u64,
    /// Application bytes sent again. What was sent for each byte that arrived: (bytes_acked + bytes_retransmitted) / bytes_acked.
    pub bytes_retransmitted: u64,
    /// How datagrams leave, one of enum rtcp_io: the best that the kernel has and RTCP_OPT_OFFLOAD allows. It may sink when the
    /// interface turns out to lack offloads.
    pub io: u64,
}

/// What happened to one connection: at most one record for each in one rtcp_receiver_poll(). Layout never changes.
/// Look at the bits in the order ACCEPTED/CONNECTED, READABLE, WRITABLE, ACKED, CLOSED.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rtcp_event {
    /// The connection.
    pub conn: rtcp_handle,
    /// Pointer given to rtcp_set_user_data() or rtcp_receiver_connect(), or NULL.
    pub user_data: *mut c_void,
    /// Mask of RTCP_EVENT_*; ignore bits you do not know.
    pub events: u32,
    /// With RTCP_EVENT_CLOSED: RTCP_OK or the reason. Else RTCP_OK.
    pub error: i32,
    /// Zero; room for later versions.
    pub reserved: [u64; 5],
}
