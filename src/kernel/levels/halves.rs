//! Codes of numbers of 16 bits, of which there are so few that a table has the code of each.
//!
//! Values of a tensor lie in a few octaves, whose part of the table stays in the first-level cache.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::super::{convert, dispatch};
use super::maps::LevelMaps;
use crate::element::{Element, FloatType, Real};

/// Numbers of 16 bits.
const NUMBERS: usize = 1 << 16;

/// Values for which it pays to make a table.
pub(crate) const WORTH_A_TABLE: usize = 1 << 15;

/// Values that are looked up before others are asked whether they are numbers.
const STEP: usize = 4096;

/// The code of every number of 16 bits, by its bits. Those of NaN mean nothing.
#[derive(Debug, Clone)]
pub(crate) struct HalfCodes {
    codes: Box<[u8]>,
    element: FloatType,
}

impl HalfCodes {
    /// Of numbers of type `A`, by each map; `None` for other types, and codes of more than a byte.
    pub(crate) fn of_maps<A: Element, T: Real>(maps: &LevelMaps<T>) -> Option<Vec<Self>> {
        let (count, cuts) = (maps.count.max(1), maps.count.saturating_sub(1));
        let each = maps.codes.chunks_exact(count).enumerate();
        each.map(|(map, codes)| {
            Self::new::<A, T>(maps.cuts.get(map * cuts..(map + 1) * cuts).unwrap_or_default(), codes)
        })
        .collect()
    }

    /// Of the codes between ascending cuts.
    fn new<A: Element, T: Real>(cuts: &[T], codes: &[u16]) -> Option<Self> {
        if !matches!(A::TYPE, FloatType::F16 | FloatType::Bf16) {
            return None;
        }
        let mut all = vec![0; NUMBERS];
        let mut from = 0;
        for (index, &code) in codes.iter().enumerate() {
            let to = cuts.get(index).map_or(NUMBERS, |&cut| first::<A>(Element::to_f64(cut))).max(from);
            let code = u8::try_from(code).ok()?;
            // Negative numbers descend with their bits.
            let middle = NUMBERS / 2;
            let (negative, positive) = (from.min(middle)..to.min(middle), from.max(middle)..to.max(middle));
            all.get_mut(NUMBERS - negative.end..NUMBERS - negative.start)?.fill(code);
            all.get_mut(positive.start - middle..positive.end - middle)?.fill(code);
            from = to;
        }
        Some(Self { codes: all.into(), element: A::TYPE })
    }

    /// Writes the code of each value. Whether any is NaN; `None` for values of another type.
    pub(crate) fn look_up<A: Element>(&self, x: &[A], codes: &mut [u8]) -> Option<bool> {
        let table: &[u8; NUMBERS] =
            self.codes.as_ref().try_into().ok().filter(|_| A::TYPE == self.element)?;
        let (bits, infinity) = bits(x)?;
        let mut nan = false;
        for (bits, codes) in bits.chunks(STEP).zip(codes.chunks_mut(STEP)) {
            nan |= largest_magnitude(bits) > infinity;
            let (eights, rest) = bits.as_chunks::<8>();
            let (places, rest_of_codes) = codes.as_chunks_mut::<8>();
            for (bits, codes) in eights.iter().zip(places) {
                // Joined before they are written.
                let word = (0..8).fold(0, |word, i| word | u64::from(table[usize::from(bits[i])]) << (8 * i));
                *codes = word.to_le_bytes();
            }
            for (&bits, code) in rest.iter().zip(rest_of_codes) {
                *code = table[usize::from(bits)];
            }
        }
        Some(nan)
    }
}

/// The bits of numbers, and those of infinity.
fn bits<A: Element>(x: &[A]) -> Option<(&[u16], u16)> {
    if let Some(x) = convert::same::<A, f16>(x) {
        return Some((x.reinterpret_cast(), f16::INFINITY.to_bits()));
    }
    Some((convert::same::<A, bf16>(x)?.reinterpret_cast(), bf16::INFINITY.to_bits()))
}

/// The place of the first number of type `A` that reaches `cut`, among all in their order, negative NaN first.
fn first<A: Element>(cut: f64) -> usize {
    let nearest = A::from_f64(cut);
    let Some((&[bits], _)) = bits(core::slice::from_ref(&nearest)) else { return 0 };
    if cut == 0.0 {
        // Both zeros do, of which the negative one comes before the other.
        return NUMBERS / 2 - 1;
    }
    let place = usize::from(if bits >> 15 == 0 { bits | 0x8000 } else { !bits });
    place + usize::from(Element::to_f64(nearest) < cut)
}

dispatch! {
    fn largest_magnitude[](bits: &[u16]) -> u16 {
        bits.iter().fold(0, |most, bits| most.max(bits & 0x7FFF))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::forced::agreed;
    use super::super::{Boundary, LevelParams, Ties, encode};
    use super::*;

    fn check<A: Element>(of_bits: fn(u16) -> A, values: &[f32], boundary: Boundary) {
        let mut maps = LevelMaps::<f32>::default();
        maps.reset(values.len() + 3);
        maps.push(values, boundary);
        let x: Vec<A> = (0..=u16::MAX).map(of_bits).collect();
        let wide: Vec<f32> = x.iter().map(|x| Element::to_f32(*x)).collect();
        let params = LevelParams { maps: &maps, shared: false, scale: &[], multiply: false };
        let mut expected = vec![0u8; x.len()];
        assert!(encode(&wide, usize::MAX, 0, &params, &mut expected));
        let tables = HalfCodes::of_maps::<A, f32>(&maps).unwrap();
        assert_eq!(tables.len(), 1);
        let (nan, found) = agreed(|| {
            let mut found = vec![0u8; x.len()];
            (tables[0].look_up(&x, &mut found), found)
        });
        assert_eq!(nan, Some(true));
        for ((x, found), expected) in wide.iter().zip(found).zip(expected) {
            assert!(x.is_nan() || found == expected, "{x:e}: {found} {expected}");
        }
        // Of any length, with a NaN anywhere or none.
        for len in [0, 1, 7, 8, 9, 100, 4097] {
            let mut some = vec![of_bits(0x3C00); len];
            assert_eq!(tables[0].look_up(&some, &mut vec![0; len]), Some(false));
            for at in (0..len).step_by(41) {
                some[at] = of_bits(0xFFFF);
                assert_eq!(tables[0].look_up(&some, &mut vec![0; len]), Some(true));
                some[at] = of_bits(0x8000);
            }
        }
    }

    #[test]
    fn every_number_has_the_code_that_the_search_finds() {
        let spread: Vec<f32> = (0..250).map(|i| (i as f32 * 0.37).sin() * 2f32.powi(i % 40 - 20)).collect();
        let wide: Vec<f32> = (0..200).map(|i| (i as f32 - 100.0) * 3e36).collect();
        let tiny: Vec<f32> = (-90..90).map(|i| i as f32 * 1e-44).collect();
        let few = [-1.0, -0.0, 0.0, 0.25, 3.0];
        for values in [&spread[..], &wide, &tiny, &few, &[0.5]] {
            for boundary in [
                Boundary::Midpoint(Ties::Low),
                Boundary::Midpoint(Ties::Away),
                Boundary::Floor,
                Boundary::Ceil,
                Boundary::TowardZero,
            ] {
                check(f16::from_bits, values, boundary);
                check(bf16::from_bits, values, boundary);
            }
        }
    }

    #[test]
    fn other_types_have_no_table() {
        let mut maps = LevelMaps::<f32>::default();
        maps.reset(2);
        maps.push(&[0.0, 1.0], Boundary::Floor);
        assert!(HalfCodes::of_maps::<f32, f32>(&maps).is_none());
        let table = HalfCodes::of_maps::<f16, f32>(&maps).unwrap().remove(0);
        assert!(table.look_up(&[bf16::ONE], &mut [0]).is_none());
        assert!(table.look_up(&[1.0f32], &mut [0]).is_none());
    }
}
