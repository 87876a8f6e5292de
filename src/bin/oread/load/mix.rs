//! Numbers that show no pattern, and follow from others all the same.

/// 2^64 over the golden ratio: a product with it spreads neighbours widely, most of all in its
/// upper bits (Knuth, The Art of Computer Programming 3, 6.4).
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Odd, and as many ones as zeros: it spreads a flow's number over all bits of a word (SplitMix64
/// has it too).
pub(super) const SPREAD: u64 = 0xBF58_476D_1CE4_E5B9;

/// A number as one that shows no pattern (the last steps of SplitMix64; Steele, Lea and Flood
/// 2014).
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(SPREAD);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
