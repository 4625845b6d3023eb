//! Salmon, Moraes, Dror and Shaw 2011, *Parallel random numbers: as easy as 1, 2, 3*: ARS4x32-7, rounds of AES on a
//! counter with a key that grows by a constant from round to round (a Weyl sequence). Five rounds pass all tests of
//! the paper; seven are what its authors' library, Random123, does unless told otherwise. Not for secrets.

/// The generator ARS4x32-7 with a 64-bit seed: where the random numbers of elements come from.
///
/// The seed is the lower half of the 128-bit key, whose upper half is zero. Where the processor has instructions for
/// AES, the loops over elements use them.
///
/// ```
/// use lowbit::random::Ars;
///
/// let generator = Ars::new(7);
/// assert_ne!(generator.block(0), generator.block(1));
/// assert_eq!(generator.block(5), Ars::new(7).block(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ars {
    keys: [[u64; 2]; ROUNDS + 1],
}

/// Rounds of AES; the last does not mix columns.
pub(crate) const ROUNDS: usize = 7;

impl Ars {
    /// The generator of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { keys: keys([seed, 0]) }
    }

    /// Block `index`: four independent uniform words. Portable: 96 look-ups in tables of 1 KiB, and 16 in one of 256 bytes.
    pub const fn block(&self, index: u64) -> [u32; 4] {
        let [low, high] = ars([index, 0], &self.keys);
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    /// The generator of the complements of these numbers.
    pub(crate) const fn complemented(mut self) -> Self {
        let [low, high] = self.keys[ROUNDS];
        self.keys[ROUNDS] = [!low, !high];
        self
    }

    /// The keys: that of the counter, then those of the rounds.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const fn keys(&self) -> &[[u64; 2]; ROUNDS + 1] {
        &self.keys
    }
}

/// The keys of the rounds: halves grow by the golden ratio and by √3 − 1, as fractions of 2^64.
const fn keys(mut key: [u64; 2]) -> [[u64; 2]; ROUNDS + 1] {
    let mut keys = [[0; 2]; ROUNDS + 1];
    let mut round = 0;
    while round <= ROUNDS {
        keys[round] = key;
        key = [key[0].wrapping_add(0x9E37_79B9_7F4A_7C15), key[1].wrapping_add(0xBB67_AE85_84CA_A73B)];
        round += 1;
    }
    keys
}

/// The bijection; the first byte of a block is the lowest one of the first word.
const fn ars(counter: [u64; 2], keys: &[[u64; 2]; ROUNDS + 1]) -> [u64; 2] {
    let mut state = [counter[0] ^ keys[0][0], counter[1] ^ keys[0][1]];
    let mut round = 1;
    while round < ROUNDS {
        state = mixed(state, keys[round]);
        round += 1;
    }
    last(state, keys[ROUNDS])
}

/// A round of AES (FIPS 197, section 5.1): bytes are replaced, rows shifted, columns mixed, the key is added.
const fn mixed(state: [u64; 2], key: [u64; 2]) -> [u64; 2] {
    let bytes = state[0] as u128 | (state[1] as u128) << 64;
    let mut out = [0u32; 4];
    let mut column = 0;
    while column < 4 {
        let mut row = 0;
        while row < 4 {
            // Row r of a column comes from r columns further on.
            let byte = (bytes >> ((column + row) % 4 * 32 + row * 8)) as u8;
            out[column] ^= COLUMNS[byte as usize].rotate_left(row as u32 * 8);
            row += 1;
        }
        column += 1;
    }
    [(out[0] as u64 | (out[1] as u64) << 32) ^ key[0], (out[2] as u64 | (out[3] as u64) << 32) ^ key[1]]
}

/// The last round, which does not mix columns.
const fn last(state: [u64; 2], key: [u64; 2]) -> [u64; 2] {
    let bytes = state[0] as u128 | (state[1] as u128) << 64;
    let mut out = 0u128;
    let mut place = 0;
    while place < 16 {
        let (column, row) = (place / 4, place % 4);
        let byte = (bytes >> ((column + row) % 4 * 32 + row * 8)) as u8;
        out |= (SUBSTITUTES[byte as usize] as u128) << (place * 8);
        place += 1;
    }
    [out as u64 ^ key[0], (out >> 64) as u64 ^ key[1]]
}

/// The product by x in the field of AES, modulo x⁸ + x⁴ + x³ + x + 1.
const fn doubled(byte: u8) -> u8 {
    byte << 1 ^ if byte & 0x80 != 0 { 0x1B } else { 0 }
}

/// What bytes are replaced by: the reciprocal in the field, then an affine map of bits (FIPS 197, section 5.1.1).
const SUBSTITUTES: [u8; 256] = {
    let mut table = [0u8; 256];
    // All elements but zero are powers of 3; the reciprocals are those of its reciprocal, 0xF6.
    let (mut power, mut reciprocal) = (1u8, 1u8);
    let mut step = 0;
    while step < 255 {
        table[power as usize] = affine(reciprocal);
        power ^= doubled(power);
        // Division by x + 1.
        reciprocal ^= reciprocal << 1;
        reciprocal ^= reciprocal << 2;
        reciprocal ^= reciprocal << 4;
        if reciprocal & 0x80 != 0 {
            reciprocal ^= 0x09;
        }
        step += 1;
    }
    table[0] = affine(0);
    table
};

const fn affine(byte: u8) -> u8 {
    byte ^ byte.rotate_left(1) ^ byte.rotate_left(2) ^ byte.rotate_left(3) ^ byte.rotate_left(4) ^ 0x63
}

/// What a byte of the first row makes of its column: its substitute by 2, 1, 1 and 3.
const COLUMNS: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let s = SUBSTITUTES[byte];
        table[byte] = u32::from_le_bytes([doubled(s), s, s, doubled(s) ^ s]);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> [u64; 2] {
        let number = u128::from_str_radix(text, 16).unwrap().swap_bytes();
        [number as u64, (number >> 64) as u64]
    }

    #[test]
    fn rounds_are_those_of_the_standard() {
        // FIPS 197, appendix B: the states at the start of rounds 1 and 2, and of round 10 and the output.
        assert_eq!(
            mixed(bytes("193de3bea0f4e22b9ac68d2ae9f84808"), bytes("a0fafe1788542cb123a339392a6c7605")),
            bytes("a49c7ff2689f352b6b5bea43026a5049")
        );
        assert_eq!(
            last(bytes("eb40f21e592e38848ba113e71bc342d2"), bytes("d014f9a8c9ee2589e13f0cc8b6630ca6")),
            bytes("3925841d02dc09fbdc118597196a0b32")
        );
    }

    #[test]
    fn known_answers_of_the_authors() {
        // ut_ars.c of Random123: counter, key and block as bytes in order, seven rounds.
        for (counter, answer) in [
            ("01000000000000000000000000000000", "2b1623350cd214dc7740187993411872"),
            ("00010000000000000000000000000000", "2de6b66fa461b668f380126f32b9cd22"),
        ] {
            let key = bytes("01000000000000000000000000000000");
            assert_eq!(ars(bytes(counter), &keys(key)), bytes(answer));
        }
        let [low, high] = bytes("2de6b66fa461b668f380126f32b9cd22");
        assert_eq!(
            Ars::new(1).block(256),
            [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
        );
    }
}
