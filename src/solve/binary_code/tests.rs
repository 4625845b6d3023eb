use super::super::magnitudes::densities::{Gaussian, Laplace};
use super::*;

#[test]
fn explore() {
    fn show(moments: &impl Moments, name: &str) {
        for bits in 1..=8 {
            let (pieces, alpha) = greedy(moments, bits, false);
            let g = pieces.squared_error(bits, &alpha);
            let (pieces, alpha) = greedy(moments, bits, true);
            let r = pieces.squared_error(bits, &alpha);
            let start = std::time::Instant::now();
            let [a, b] = search::candidates(moments, bits);
            let took = start.elapsed();
            let mut pieces = Pieces::whole(moments);
            println!("{name} {bits} greedy {g} refined {r} alt {} best {} {:?} {took:?}", pieces.nearest_error(moments, bits, &a), pieces.nearest_error(moments, bits, &b), descending(b));
        }
    }
    show(&Gaussian, "gaussian");
    show(&Laplace, "laplace");
}
