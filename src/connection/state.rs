//! The eleven states of RFC 9293 3.3.2 and the moves between them.
//!
//! ```text
//!                  +---------+  passive open (the endpoint's half-open table stands for LISTEN)
//!                  |  LISTEN |----------------------+
//!                  +---------+                      v
//!  active open     +---------+  SYN            +---------+
//! ---------------->|SYN-SENT |---------------->|SYN-RCVD |
//!                  +---------+                 +---------+
//!                       | SYN-ACK                   | ACK of our SYN
//!                       v                           v
//!                  +-----------------------------------+   FIN    +----------+ finish +--------+
//!                  |            ESTABLISHED            |--------->|CLOSE-WAIT|------->|LAST-ACK|--> CLOSED
//!                  +-----------------------------------+          +----------+        +--------+
//!                       | finish
//!                       v
//!                  +----------+  FIN   +-------+ ACK of FIN  +---------+ 2 MSL
//!                  |FIN-WAIT-1|------->|CLOSING|------------>|TIME-WAIT|------> CLOSED
//!                  +----------+        +-------+             +---------+
//!                       | ACK of FIN                              ^
//!                       v                       FIN               |
//!                  +----------+-----------------------------------+
//!                  |FIN-WAIT-2|
//!                  +----------+
//! ```

/// RFC 9293 3.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing. Also the end.
    Closed,
    /// Represented by the endpoint; a connection object is never in it.
    Listen,
    /// Our SYN is out.
    SynSent,
    /// Both SYNs are out, ours not yet acknowledged.
    SynReceived,
    /// Data flows.
    Established,
    /// Our FIN is queued or out, not yet acknowledged; the peer's has not come.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer's FIN has come; we may still send.
    CloseWait,
    /// Both FINs are out, ours not yet acknowledged; the peer finished after us.
    Closing,
    /// Both FINs are out, ours not yet acknowledged; the peer finished first.
    LastAck,
    /// Both FINs are acknowledged; old duplicates die out.
    TimeWait,
}

use State::{
    CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived, SynSent,
    TimeWait,
};

/// Every legal move. `finish` before the handshake is done is remembered and acted on in ESTABLISHED.
const TRANSITIONS: &[(State, &[State])] = &[
    (Closed, &[Listen, SynSent]),
    (Listen, &[SynReceived, SynSent, Closed]),
    (SynSent, &[SynReceived, Established, Closed]),
    (SynReceived, &[Established, Closed]),
    (Established, &[FinWait1, CloseWait, Closed]),
    (FinWait1, &[FinWait2, Closing, TimeWait, Closed]),
    (FinWait2, &[TimeWait, Closed]),
    (CloseWait, &[LastAck, Closed]),
    (Closing, &[TimeWait, Closed]),
    (LastAck, &[Closed]),
    (TimeWait, &[Closed]),
];

impl State {
    /// All states, in the RFC's order.
    pub const ALL: [Self; 11] = [
        Closed,
        Listen,
        SynSent,
        SynReceived,
        Established,
        FinWait1,
        FinWait2,
        CloseWait,
        Closing,
        LastAck,
        TimeWait,
    ];

    /// Whether the table has a move from `self` to `next`.
    #[must_use]
    pub fn can_enter(self, next: Self) -> bool {
        TRANSITIONS.iter().any(|(from, to)| *from == self && to.contains(&next))
    }

    /// Both SYNs are acknowledged.
    #[must_use]
    pub const fn is_synchronized(self) -> bool {
        match self {
            Closed | Listen | SynSent | SynReceived => false,
            Established | FinWait1 | FinWait2 | CloseWait | Closing | LastAck | TimeWait => true,
        }
    }

    /// Segments with data or FIN may be sent (again).
    #[must_use]
    pub const fn may_transmit_data(self) -> bool {
        match self {
            Closed | Listen | SynSent | SynReceived | FinWait2 | TimeWait => false,
            Established | FinWait1 | CloseWait | Closing | LastAck => true,
        }
    }

    /// The peer's data is still welcome: its FIN has not come.
    #[must_use]
    pub const fn may_receive_data(self) -> bool {
        match self {
            Established | FinWait1 | FinWait2 => true,
            Closed | Listen | SynSent | SynReceived | CloseWait | Closing | LastAck | TimeWait => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new move, or a lost one, is a red diff of `src/connection/state_table.txt`.
    #[test]
    fn the_state_table_matches_its_snapshot() {
        let mut table = String::from("from \\ to    ");
        for to in State::ALL {
            table += &format!(" {:<11}", format!("{to:?}"));
        }
        table = table.trim_end().to_owned() + "\n";
        for from in State::ALL {
            let mut row = format!("{:<13}", format!("{from:?}"));
            for to in State::ALL {
                row += &format!(" {:<11}", if from.can_enter(to) { "x" } else { "." });
            }
            table += &(row.trim_end().to_owned() + "\n");
        }
        if std::env::var_os("RTCP_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/connection/state_table.txt");
            std::fs::write(path, &table).expect("the source tree is writable when blessing");
        }
        assert_eq!(table, include_str!("state_table.txt"), "RTCP_BLESS=1 cargo test renews it on purpose");
    }

    #[test]
    fn every_state_but_closed_can_be_aborted() {
        for state in State::ALL {
            assert_eq!(state.can_enter(Closed), state != Closed, "{state:?}");
        }
    }
}
