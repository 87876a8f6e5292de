//! Chance that a seed decides: the same seed, the same draws, on every machine.

/// Spreads the bits of `value`: the finisher of splitmix64.
pub(super) fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A stream of numbers (xoshiro256++).
#[derive(Clone, Debug)]
pub(crate) struct Random([u64; 4]);

impl Random {
    /// The stream of `seed`.
    pub(crate) fn new(seed: u64) -> Random {
        let first = mixed(seed);
        let second = mixed(first);
        let third = mixed(second);
        Random([first, second, third, mixed(third)])
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u64 {
        let Random(s) = self;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        scaled(self.draw(), bound)
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below((most - least.min(most)).saturating_add(1))
    }

    /// True once in `count` times.
    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// A number from `least` to `most` whose size, not whose value, is drawn evenly: small numbers
    /// come as often as large ones.
    pub(crate) fn magnitude(&mut self, least: u64, most: u64) -> u64 {
        let bits = |value: u64| u64::from(u64::BITS - value.leading_zeros());
        let wide = self.between(bits(least), bits(most));
        let value = self.below(1 << wide.min(63));
        value.clamp(least, most)
    }
}

/// `number`, evenly spread over 64 bits, brought below `bound`.
pub(super) fn scaled(number: u64, bound: u64) -> u64 {
    ((u128::from(number) * u128::from(bound)) >> 64) as u64
}
