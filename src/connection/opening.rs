//! Before ESTABLISHED: SYN-SENT (RFC 9293 3.10.7.3), simultaneous open, the end of the handshake.

use std::time::Duration;

use super::handshake::{Offer, Terms};
use super::input::{Discard, stateless_ok};
use super::{Connection, Error, State};
use crate::time::Time;
use crate::wire::{Flags, Segment, checksum_is_zero};

impl Connection {
    pub(super) fn handle_in_syn_sent(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let has_ack = segment.flags.contains(Flags::ACK);
        let is_unsummed = checksum_is_zero(datagram) && segment.options.ext.is_none();
        if !is_unsummed && !stateless_ok(segment, datagram) {
            self.rcv.corrupt += 1;
            return Err(Discard);
        }
        self.packets.received += 1;
        // First: an ACK of anything but our SYN. The RST it deserves is sent without state, by the endpoint's
        // rules; a connection that is opening has nothing to reset.
        let acks_our_syn = has_ack && segment.ack == self.identity.iss + 1;
        if has_ack && !acks_our_syn {
            return Err(Discard);
        }
        // Second: RST counts only with an acceptable ACK.
        if segment.flags.contains(Flags::RST) {
            if acks_our_syn {
                self.fail(Error::Refused, false);
            }
            return Err(Discard);
        }
        // Fourth: SYN.
        if !segment.flags.contains(Flags::SYN) {
            return Err(Discard);
        }
        let offer = Offer::from_segment(segment, datagram);
        let terms = match Terms::agree(&self.config, &offer) {
            Ok(terms) => terms,
            Err(error) => {
                self.fail(error, false);
                return Err(Discard);
            }
        };
        self.snd.last_heard = now;
        self.adopt(now, &offer, terms);
        if acks_our_syn {
            self.hear_clock(now, segment);
            self.measure_handshake(now, segment);
            self.snd.una = 1;
            self.establish(now);
            self.hear_syn_ack(now, segment);
            self.rcv.acks.require();
            // A plain listener repeats its SYN-ACK by itself, and answers no ACK.
            if self.terms.extension && !self.opening.is_confirmed {
                self.opening.confirm_at = Some(now + self.snd.pto());
            }
        } else {
            self.enter(State::SynReceived); // simultaneous open: our SYN again, as a SYN-ACK
            self.opening.next = Some(now);
        }
        Ok(())
    }

    /// RFC 9293 3.5, figure 8: in SYN-RECEIVED the peer's SYN-ACK comes with its old SYN's sequence number.
    /// It is read as the ACK that follows the SYN, its window as one that was scaled.
    pub(super) fn open_simultaneously<'a>(&mut self, segment: &Segment<'a>) -> Segment<'a> {
        let mut opened = *segment;
        let is_syn_ack = segment.flags.contains(Flags::SYN | Flags::ACK);
        if self.state == State::SynReceived && is_syn_ack && segment.seq == self.irs() {
            if !super::ecn::is_setup(segment.flags) {
                self.snd.ecn.stop(); // it asked for ECN, but does not grant it (RFC 3168 6.1.1)
            }
            opened.flags = Flags::ACK;
            opened.seq = segment.seq + 1;
            opened.window >>= self.snd.shift;
            opened.payload = &[];
        }
        opened
    }

    /// SYN-RECEIVED: the ACK of our SYN completes the handshake.
    pub(super) fn complete_passive(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        ack: u64,
    ) -> Result<(), Discard> {
        if ack == 0 || ack > self.snd.nxt {
            return Err(Discard); // the endpoint answers segments that no connection takes
        }
        self.hear_clock(now, segment); // as of the handshake's round trip
        if self.opening.sent > 0 {
            self.measure_handshake(now, segment);
        } else if let Some(t) = segment.options.timestamps.filter(|_| self.terms.timestamps) {
            self.rcv.on_echo(now, self.echoed_ms(now, t.ecr));
        }
        self.snd.una = 1;
        self.establish(now);
        if self.terms.extension {
            self.rcv.acks.require(); // tells the opener that its ACK arrived
        }
        Ok(())
    }

    /// RTT of the handshake: exact if the SYN was sent once, by its timestamp otherwise.
    fn measure_handshake(&mut self, now: Time, segment: &Segment<'_>) {
        if self.opening.sent == 1 {
            self.snd.rtt.on_sample(now - self.opening.last_sent);
        } else if let Some(t) = segment.options.timestamps
            && let Some(sent_ms) = self.echoed_ms(now, t.ecr)
        {
            self.snd.rtt.on_sample(Duration::from_millis((now.as_millis() - sent_ms).max(1)));
        }
    }

    fn establish(&mut self, now: Time) {
        self.enter(State::Established);
        self.established = true;
        self.opening.next = None;
        self.snd.last_heard = now;
        self.snd.rto_start = now;
        self.snd.wl1 = 0;
        self.snd.wl2 = 0;
        self.snd.on_handshake(now);
        if self.snd.fin_queued {
            self.move_to_closing_state();
        }
    }
}
