//! A hostile guest's numbers, and the seeds that they come from.

/// The guest's memory in bytes.
pub(crate) const MEMORY: usize = 1 << 20;

/// xorshift64*, which is enough to be nasty.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// Small, close to a border, or anything.
    pub(crate) fn odd(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(16),
            1 => self.below(MEMORY as u64),
            2 => (MEMORY as u64).wrapping_sub(self.below(64)),
            3 => u64::from(u32::MAX) - self.below(8),
            4 => u64::MAX - self.below(8),
            _ => self.roll(),
        }
    }
}

/// Says which seed failed.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
