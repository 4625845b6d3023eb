use half::{bf16, f16};

use super::super::super::convert::convert;
use super::super::super::forced::{available, with};
use super::*;

fn check<A: Half>(held: bool) {
    let bytes: Vec<u8> = (0..400).map(|i| (i * 37 + i / 7) as u8).collect();
    let levels: [f32; CODES] = core::array::from_fn(|i| (i as f32 * 0.7).sin() * 3.0);
    let bases = [levels, levels.map(|level| level * 1.01 - 0.3)];
    // Also scales beyond every half, and of which a level is one, or less than the smallest.
    let special = [1.0, 0.37, 3e4, f32::INFINITY, 1e-9, f32::NAN, 1e30, 3e38, 1e-43, -2.5];
    for (width, phase) in [(32usize, 0), (64, 0), (96, 0), (64, 32), (40, 8), (33, 5), (64, 31), (1000, 7)] {
        for (skip, len) in [(0usize, 700usize), (1, 700), (0, 31), (1, 32), (0, 0), (1, 1), (0, 97), (1, 64)]
        {
            // Lines begin at every place.
            let usual = [(false, 0), (false, 3), (true, 0), (true, 8), (true, 1)];
            let every: Vec<_> = (0..32).flat_map(|start| [(false, start), (true, start)]).collect();
            let starts = if (skip, len) == (0, 97) { &every[..] } else { &usual };
            let blocks = (phase + len).div_ceil(width).max(1);
            let scale: Vec<f32> = (0..blocks).map(|j| special[j % special.len()]).collect();
            let zero: Vec<f32> = (0..blocks).map(|j| [0.0, 7.5, -3.0][j % 3]).collect();
            let own: Vec<[f32; CODES]> = (0..blocks).map(|j| bases[j % 2]).collect();
            for (bases, scale, zero) in [
                (&bases[..1], &scale[..], &[][..]),
                (&own, &scale, &[]),
                (&bases[..1], &scale, &zero),
                (&own, &[], &[]),
            ] {
                let wide: Vec<f32> = (0..len)
                    .map(|i| {
                        let (block, code) = ((phase + i) / width, i + skip);
                        let code = bytes[code / 2] >> (code % 2 * 4) & 15;
                        let base = if bases.len() > 1 { bases[block] } else { bases[0] };
                        let zero = zero.get(block).copied().unwrap_or_default();
                        let v = (base[usize::from(code)] - zero) * scale.get(block).copied().unwrap_or(1.0);
                        let held = held && A::TYPE == crate::element::FloatType::F16 && !v.is_nan();
                        if held { v.clamp(-65504.0, 65504.0) } else { v }
                    })
                    .collect();
                let mut expected = vec![A::default(); len];
                convert(&wide, &mut expected);
                let blocks = Blocks { bases, scale, zero, held };
                for level in available() {
                    for &(stream, start) in starts {
                        let mut out = vec![A::from_f32(9.0); len + 64];
                        let first = out.as_ptr().align_offset(64) + start;
                        let served = with(level, || {
                            decode(
                                &bytes,
                                skip,
                                &blocks,
                                (width, phase),
                                stream,
                                &mut out[first..first + len],
                            )
                        });
                        stream::finish();
                        assert_eq!(served, level >= Level::Avx2);
                        let (before, rest) = out.split_at(first);
                        let (found, behind) = rest.split_at(len);
                        assert!(before.iter().chain(behind).all(|x| x.to_f32() == 9.0));
                        let bits = |x: &[A]| x.iter().map(|x| x.to_f64().to_bits()).collect::<Vec<_>>();
                        assert!(
                            !served || bits(found) == bits(&expected),
                            "{skip} {len} {width} {phase} {start}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn values_are_computed_in_f32_and_rounded_once() {
    for held in [false, true] {
        check::<f16>(held);
        check::<bf16>(held);
    }
}
