//! How long a segment should be where bits flip: a shorter one arrives whole more often, a longer one carries
//! less header.
//!
//! With e bit errors per bit, a datagram of n bytes arrives intact with probability exp(-8 e n); the share of
//! the link's bytes that become the peer's is x exp(-8 e (x + h)) / (x + w), x being the payload, h our header
//! and w all headers of the packet. It is largest where 8 e x (x + w) = w.

/// All headers of a packet: IPv4 and UDP, and ours.
pub(super) const PACKET_HEADERS: f32 = 68.0;
/// Our header, which the CRC covers.
const HEADER: f32 = 40.0;
/// A shorter payload than this is mostly header.
const PAYLOAD_MIN: f32 = 200.0;
/// Payload while nothing is known but that loss is heavy.
const HEDGE: f32 = 300.0;
/// Segments remembered; older ones fade, and with them an error rate that is no longer true.
const MEMORY: f32 = 128.0;
/// Imaginary full-sized arrivals: one damaged segment does not condemn a path.
const PRIOR: f32 = 2.0;
/// Another size is worth changing to if it differs by more than this factor.
const HYSTERESIS: f32 = 1.25;

/// Estimates the bit error rate of the path and the payload that fits it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentSize {
    /// Payload that the path's MTU admits, bytes.
    full: f32,
    /// Payload in use, if less than that is better.
    limit: Option<f32>,
    /// Mean datagram of late, bytes: what a report of corruption is taken to be about.
    mean: f32,
    /// Segments and datagram bytes that arrived intact, and that did not. Exponentially forgetting.
    intact: f32,
    intact_bytes: f32,
    corrupt: f32,
    corrupt_bytes: f32,
}

impl SegmentSize {
    pub(super) const fn new(full: usize) -> Self {
        let full = full as f32;
        Self {
            full,
            limit: None,
            mean: full + HEADER,
            intact: 0.0,
            intact_bytes: 0.0,
            corrupt: 0.0,
            corrupt_bytes: 0.0,
        }
    }

    /// The path's MTU, and so the largest payload, is another.
    pub(super) fn set_full(&mut self, full: usize) {
        self.full = full as f32;
        self.choose();
    }

    /// Largest payload of a segment to be cut now.
    pub(super) fn payload(&self) -> usize {
        self.limit.unwrap_or(self.full) as usize
    }

    /// Loss is heavy, and whether bits flip cannot be known before the first answer: short segments lose an
    /// eighth to headers if it is loss alone, and arrive three times as often if it is not.
    pub(super) fn hedge(&mut self) {
        if self.intact + self.corrupt == 0.0 && HEDGE < self.full {
            self.limit = Some(HEDGE);
        }
    }

    /// Segments are shorter than the path's MTU admits.
    pub(super) const fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// `count` segments of `len` bytes of payload each leave.
    pub(super) fn on_sent(&mut self, len: u64, count: u32) {
        for _ in 0..count {
            let before = self.mean;
            self.mean += (len as f32 + HEADER - before) / 8.0;
            if self.mean == before {
                break; // so it stays
            }
        }
    }

    /// `segments` with `bytes` of payload arrived.
    pub(super) fn on_intact(&mut self, segments: u64, bytes: u64) {
        self.intact += segments as f32;
        self.intact_bytes += bytes as f32 + segments as f32 * HEADER;
        self.fade();
        if self.limit.is_some() {
            self.choose();
        }
    }

    /// The peer reports `segments` as corrupt.
    pub(super) fn on_corrupt(&mut self, segments: u64) {
        self.corrupt += segments as f32;
        self.corrupt_bytes += segments as f32 * self.mean;
        self.fade();
        self.choose();
    }

    fn fade(&mut self) {
        let keep = MEMORY / (self.intact + self.corrupt);
        if keep < 1.0 {
            self.intact *= keep;
            self.intact_bytes *= keep;
            self.corrupt *= keep;
            self.corrupt_bytes *= keep;
        }
    }

    /// Most likely errors per byte: what makes exp(-e n) the share of intact datagrams of n bytes.
    fn errors_per_byte(&self) -> f32 {
        if self.corrupt == 0.0 {
            return 0.0;
        }
        let intact = self.intact_bytes + PRIOR * (self.full + HEADER);
        (self.corrupt_bytes / intact).ln_1p() / (self.corrupt_bytes / self.corrupt)
    }

    fn choose(&mut self) {
        let half = PACKET_HEADERS / 2.0;
        self.limit = self.limit.filter(|limit| *limit < self.full);
        let best = ((half * half) + PACKET_HEADERS / self.errors_per_byte()).sqrt() - half;
        let now = self.limit.unwrap_or(self.full);
        if best * HYSTERESIS < now {
            self.limit = Some(best.max(PAYLOAD_MIN)).filter(|limit| *limit < self.full);
        } else if best > now * HYSTERESIS || best >= self.full {
            // Upwards by steps: what was learned from short segments is little about long ones.
            self.limit = Some(best.min(now * HYSTERESIS)).filter(|limit| *limit < self.full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 1160;

    /// A long time on a path with `errors` per bit, each share of segments as it falls out on average.
    fn settled_on(size: &mut SegmentSize, errors: f32, segments: u32) {
        let (mut corrupt, mut intact) = (0.0, 0.0);
        for _ in 0..segments {
            let len = size.payload() as u64;
            size.on_sent(len, 1);
            let survival = (-8.0 * errors * (len as f32 + HEADER)).exp();
            corrupt += 1.0 - survival;
            intact += survival;
            if corrupt >= 1.0 {
                corrupt -= 1.0;
                size.on_corrupt(1);
            }
            if intact >= 1.0 {
                intact -= 1.0;
                size.on_intact(1, len);
            }
        }
    }

    #[test]
    fn sizes_follow_the_arithmetic_of_the_error_rate() {
        for (errors, least, most) in
            [(16e-5, 200, 260), (3e-5, 380, 640), (1e-5, 680, FULL), (1e-6, FULL, FULL), (0.0, FULL, FULL)]
        {
            let mut size = SegmentSize::new(FULL);
            settled_on(&mut size, errors, 2000);
            assert!((least..=most).contains(&size.payload()), "{errors}: {}", size.payload());
        }
    }

    #[test]
    fn the_estimate_is_the_rate() {
        for errors in [2e-5, 16e-5] {
            let mut size = SegmentSize::new(FULL);
            settled_on(&mut size, errors, 2000);
            let found = size.errors_per_byte() / 8.0;
            assert!((found / errors - 1.0).abs() < 0.2, "{found} of {errors}");
        }
    }

    #[test]
    fn one_damaged_segment_among_many_changes_nothing() {
        let mut size = SegmentSize::new(FULL);
        size.on_intact(10_000, 10_000 * FULL as u64);
        for _ in 0..20 {
            size.on_corrupt(1);
            (0..400).for_each(|_| size.on_intact(1, size.payload() as u64));
        }
        assert!(!size.is_limited());
    }

    #[test]
    fn it_grows_back_by_steps_when_corruption_stops() {
        let mut size = SegmentSize::new(FULL);
        settled_on(&mut size, 16e-5, 500);
        let small = size.payload();
        assert!(small < 300);
        let mut sizes = vec![small];
        let mut segments = 0;
        while size.is_limited() {
            size.on_intact(1, size.payload() as u64);
            if *sizes.last().unwrap() != size.payload() {
                sizes.push(size.payload());
            }
            segments += 1;
        }
        assert!(sizes.windows(2).all(|w| w[1] > w[0] && w[1] <= w[0] * 3 / 2), "{sizes:?}");
        assert!((100..1500).contains(&segments), "{segments} segments");
    }

    #[test]
    fn a_smaller_path_mtu_is_kept_and_a_larger_one_is_followed() {
        let mut size = SegmentSize::new(FULL);
        size.set_full(1432);
        assert_eq!(size.payload(), 1432);
        settled_on(&mut size, 16e-5, 500);
        size.set_full(180);
        assert_eq!(size.payload(), 180, "less than the least is the path's word");
        size.set_full(1432);
        assert!(size.payload() < 300);
    }
}
