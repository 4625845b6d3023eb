use super::super::vector::vectorized;
use super::*;
use crate::kernel::forced::available;

vectorized! {
    fn written<V>[A: Lanes](v, x: &[f32; 32], fit: bool) -> [A; 32] {
        #[repr(align(64))]
        struct Places<A>([A; 32]);
        let (mut out, mut streamed) = (Places([A::default(); 32]), Places([A::default(); 32]));
        for at in (0..32).step_by(V::LANES) {
            // SAFETY: as many numbers and places, of which the second begin a line; the caller has asked whether
            // they fit.
            unsafe {
                let numbers = v.load(x.as_ptr().add(at));
                v.put::<A, false>(out.0.as_mut_ptr().add(at), numbers, fit);
                v.put::<A, true>(streamed.0.as_mut_ptr().add(at), numbers, fit);
            }
        }
        let (mut two, mut two_streamed) = (Places([A::default(); 32]), Places([A::default(); 32]));
        for at in (0..32).step_by(2 * V::LANES) {
            let (second, step) = if A::READ_IN_TURNS { (1, 2) } else { (V::LANES, 1) };
            let mut numbers = [[0.0; 16]; 2];
            for i in 0..V::LANES {
                numbers[0][i] = x[at + i * step];
                numbers[1][i] = x[at + i * step + second];
            }
            // SAFETY: as above.
            unsafe {
                let numbers = [v.load(numbers[0].as_ptr()), v.load(numbers[1].as_ptr())];
                v.put_two::<A, false>(two.0.as_mut_ptr().add(at), numbers, fit);
                v.put_two::<A, true>(two_streamed.0.as_mut_ptr().add(at), numbers, fit);
                // And as they are read.
                let [a, b] = v.load_two(two.0.as_ptr().add(at));
                let mut read = [[0.0f32; 16]; 2];
                v.put::<f32, false>(read[0].as_mut_ptr(), a, true);
                v.put::<f32, false>(read[1].as_mut_ptr(), b, true);
                let [a, b] = &read;
                for (i, (a, b)) in a.iter().zip(b).take(V::LANES).enumerate() {
                    let here = at + i * step;
                    assert_eq!(a.to_bits(), two.0[here].to_f32().to_bits());
                    assert_eq!(b.to_bits(), two.0[here + second].to_f32().to_bits());
                }
            }
        }
        stream::finish();
        for others in [&streamed, &two, &two_streamed] {
            for (out, other) in out.0.iter().zip(&others.0) {
                assert_eq!(out.to_f32().to_bits(), other.to_f32().to_bits());
            }
        }
        out.0
    }
}

/// Asserts that numbers are written as they are rounded elsewhere.
fn check<A: Lanes>(x: &[f32; 32]) {
    let magnitudes = || x.iter().map(|x| x.abs());
    let most = magnitudes().fold(0.0, f32::max);
    let least = magnitudes().filter(|&x| x > 0.0).fold(f32::INFINITY, f32::min);
    for level in available() {
        crate::kernel::forced::with(level, || {
            for fit in [false, A::fit(least, most)] {
                let Some(out) = written::<A>(level, x, fit) else { continue };
                for (out, &x) in out.iter().zip(x) {
                    let expected = A::from_f32(x).to_f32();
                    let held = expected.is_infinite()
                        && !x.is_infinite()
                        && A::from_f32(65_520.0).to_f32().is_infinite();
                    let expected = if held { 65_504f32.copysign(x) } else { expected };
                    assert_eq!(out.to_f32().to_bits(), expected.to_bits(), "{x:e} {level} {fit}");
                }
            }
        });
    }
}

#[test]
fn numbers_that_fit_are_written_as_others_are() {
    // Upper halves, with lower halves at, below and above the ties of both types.
    let lower = [0u32, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001];
    for upper in (0..0x7F80u32).step_by(4) {
        let number = |i: usize| {
            let (sign, upper) = ((i as u32 & 1) << 31, upper + (i as u32 >> 3));
            f32::from_bits(sign | upper << 16 | lower[i % 8])
        };
        let x: [f32; 32] = core::array::from_fn(number);
        check::<bf16>(&x);
        check::<f16>(&x);
        check::<f32>(&x);
    }
    assert!(!f16::fit(1.0, 65_505.0) && f16::fit(0.0, 65_504.0) && !f16::fit(0.0, f32::NAN));
    assert!(!bf16::fit(f32::from_bits(1), 1.0));
}
