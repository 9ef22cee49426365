//! Proportional rate reduction (RFC 9937): during recovery, send in proportion to what arrives.

/// State of one recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prr {
    ssthresh: u64,
    /// RecoverFS: in flight (and newly delivered) when recovery began.
    recover_flight: u64,
    delivered: u64,
    out: u64,
    /// Bytes that may leave now.
    quota: u64,
}

impl Prr {
    pub(super) fn new(flight: u64, ssthresh: u64) -> Self {
        Self { ssthresh, recover_flight: flight.max(1), delivered: 0, out: 0, quota: 0 }
    }

    /// An ACK delivered `bytes`; `in_flight` is what remains. `safe`: it advanced SND.UNA and showed no new loss.
    pub(super) fn on_ack(&mut self, bytes: u64, in_flight: u64, safe: bool, mss: u64) {
        self.delivered += bytes;
        let mut quota = if in_flight > self.ssthresh {
            let share = u128::from(self.delivered) * u128::from(self.ssthresh);
            let share = share.div_ceil(u128::from(self.recover_flight));
            u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(self.out)
        } else {
            let mut limit = self.delivered.saturating_sub(self.out).max(bytes);
            if safe {
                limit += mss;
            }
            limit.min(self.ssthresh - in_flight)
        };
        if self.out == 0 {
            quota = quota.max(mss); // force a fast retransmit on entering recovery
        }
        self.quota = quota;
    }

    pub(super) fn on_sent(&mut self, bytes: u64) {
        self.out += bytes;
        self.quota = self.quota.saturating_sub(bytes);
    }

    pub(super) const fn quota(&self) -> u64 {
        self.quota
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_seven_for_ten_delivered_while_above_ssthresh() {
        let mut prr = Prr::new(100_000, 70_000);
        let (mut flight, mut sent) = (99_000u64, 0);
        while flight > 71_000 {
            prr.on_ack(1000, flight, true, 1000);
            while prr.quota() >= 1000 {
                prr.on_sent(1000);
                sent += 1000;
                flight += 1000;
            }
            flight -= 1000;
        }
        let delivered = sent + (99_000 - flight);
        assert!((0.68..0.75).contains(&(sent as f64 / delivered as f64)), "{sent} of {delivered}");
    }

    #[test]
    fn never_bursts_when_the_flight_collapsed() {
        let mut prr = Prr::new(100_000, 70_000);
        prr.on_ack(1000, 5000, false, 1000);
        assert_eq!(prr.quota(), 1000, "packet conservation without a safe ACK");
        prr.on_sent(1000);
        prr.on_ack(1000, 5000, true, 1000);
        assert_eq!(prr.quota(), 2000, "slow start with one");
    }
}
