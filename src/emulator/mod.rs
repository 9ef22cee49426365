//! The bad link: what one direction of a path does to datagrams, as a pure model.
//!
//! Time and chance are arguments. [`Link`] takes datagrams of any kind with an opaque tag and gives the
//! survivors back when they are due. A datagram's luck is drawn when it comes in. A drop-tail queue lets its
//! whole fate be settled then as well; under CoDel that waits until it leaves the queue. The simulations run it in
//! virtual time, the `udpl` proxy in real time.
//!
//! ```
//! use rtcp::emulator::{Impairments, Link};
//! use rtcp::time::Time;
//! use std::time::Duration;
//!
//! let impairments = Impairments { delay: Duration::from_millis(20), ..Impairments::default() };
//! let mut link = Link::new(impairments, 7);
//! link.push(Time::ZERO, "from a to b", b"hello");
//! let due = link.poll_timeout().unwrap();
//! assert_eq!(due, Time::ZERO + Duration::from_millis(20));
//! let arrived = link.poll_delivery(due).unwrap();
//! assert_eq!((arrived.tag, &arrived.bytes[..]), ("from a to b", &b"hello"[..]));
//! ```

mod codel;
mod faults;
mod impairments;
mod line;
mod link;
mod policer;
mod rng;
mod stats;

pub use impairments::{BurstLoss, Codel, Impairments, Outage, Policer, RateStep, Window};
pub use link::{Delivery, Link};
pub use rng::Rng;
pub use stats::LinkStats;
