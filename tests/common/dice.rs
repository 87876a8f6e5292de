//! Random numbers that a seed decides, for tests that play with dice and can be replayed.
#![allow(dead_code, unreachable_pub)]

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }

    /// One of them, taken out.
    pub fn draw<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        let count = from.len() as u64;
        (count > 0).then(|| from.swap_remove(self.roll(count) as usize))
    }

    /// Whether one of so many rolls came up.
    pub fn once_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// A number from `least` to `most`, both among them.
    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.roll((most - least) as u64 + 1) as usize
    }

    /// A number of 64 bits that is likely to lie at an edge: small, or beside a power of 2.
    pub fn edge(&mut self) -> u64 {
        match self.roll(4) {
            0 => self.roll(4),
            1 => self.roll(300),
            2 => {
                let power = 1_u64 << self.roll(64);
                power.wrapping_add(self.roll(3)).wrapping_sub(1)
            }
            _ => u64::MAX - self.roll(10),
        }
    }
}
