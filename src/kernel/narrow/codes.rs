//! How integers become codes of one byte.

use super::super::vector::Vector;

/// What codes there are: signed integers themselves, up to the largest byte; unsigned bytes, all of them, to which a zero
/// point was added; any within a byte; and those to which a zero point was added before they were rounded.
pub(super) const SIGNED: u8 = 0;
pub(super) const UNSIGNED: u8 = 1;
pub(super) const ANY: u8 = 2;
pub(super) const MOVED: u8 = 3;

/// The integers of codes: their bounds before `zero` is added.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Integers {
    pub low: f32,
    pub high: f32,
    pub zero: i16,
}

/// What makes codes of integers, in every lane.
#[derive(Clone, Copy)]
pub(super) struct Codes<V: Vector> {
    zero: V::Integers,
    /// Added to integers, and what the codes are held between then, as signed bytes.
    shift: V::Integers,
    low: V::Integers,
    high: V::Integers,
    /// The bit that makes them unsigned again, and the bits of a code.
    flip: V::Integers,
    mask: V::Integers,
}

impl<V: Vector> Codes<V> {
    /// `None` where the codes have more integers than a byte.
    #[inline(always)]
    pub(super) fn of(v: V, integers: Integers, mask: u8) -> Option<Self> {
        let zero = i32::from(integers.zero);
        let (low, high) = (integers.low as i32 + zero, integers.high as i32 + zero);
        let flip = if low < 0 { 0 } else { 128 };
        if low - flip < -128 || high - flip > 127 {
            return None;
        }
        Some(Self {
            zero: v.words(integers.zero),
            shift: v.words((zero - flip) as i16),
            low: v.bytes((low - flip) as i8),
            high: v.bytes((high - flip) as i8),
            flip: v.bytes(flip as i8),
            mask: v.bytes(mask as i8),
        })
    }

    /// The codes of four vectors of integers in their order; `least` is lowered to these, as integers of 16 bits.
    #[inline(always)]
    pub(super) fn narrowed<const CODES: u8>(
        self,
        v: V,
        integers: [V::Integers; 4],
        least: &mut V::Integers,
    ) -> V::Integers {
        v.in_order(self.bytes::<CODES>(v, integers, least))
    }

    /// As [`narrowed`](Self::narrowed), in the order in which integers are narrowed.
    #[inline(always)]
    pub(super) fn bytes<const CODES: u8>(
        self,
        v: V,
        [a, b, c, d]: [V::Integers; 4],
        least: &mut V::Integers,
    ) -> V::Integers {
        let (front, back) = (v.to_words(a, b), v.to_words(c, d));
        *least = v.min_words(v.min_words(*least, front), back);
        match CODES {
            SIGNED => v.max_bytes(v.to_bytes(front, back), self.low),
            UNSIGNED => v.to_unsigned_bytes(v.add_words(front, self.zero), v.add_words(back, self.zero)),
            _ => {
                let bytes = v.to_bytes(v.add_words(front, self.shift), v.add_words(back, self.shift));
                let bytes = v.min_bytes(v.max_bytes(bytes, self.low), self.high);
                v.and(v.xor(bytes, self.flip), self.mask)
            }
        }
    }
}
