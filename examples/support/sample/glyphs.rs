//! The task: tell twenty glyphs apart, drawn as wobbly strokes with random
//! placement, slant, thickness, clutter and noise.
//!
//! Only additions, multiplications, divisions and square roots are used, which
//! every IEEE platform rounds alike, so an image has the same bits everywhere.

use std::ops::Range;

use ndarray::Array4;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Width and height of an image, in pixels.
pub(crate) const SIDE: usize = 20;

/// Names of the classes, by label.
pub(crate) const LABELS: [&str; 20] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "D", "E", "F", "G", "P", "Q", "S", "Z"];

type Point = (f32, f32);

/// One stroke of a glyph, in a unit box with y pointing down.
enum Stroke {
    /// Straight lines from point to point.
    Line(&'static [Point]),
    /// A quadratic B-spline that starts at the first point and ends at the last.
    Curve(&'static [Point]),
}

use Stroke::{Curve, Line};

const OVAL: &[Point] = &[(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.0)];

/// The strokes of every class, in the order of [`LABELS`].
const STROKES: [&[Stroke]; LABELS.len()] = [
    // 0
    &[Curve(OVAL)],
    // 1
    &[Line(&[(0.2, 0.25), (0.55, 0.0), (0.55, 1.0)])],
    // 2
    &[
        Curve(&[(0.05, 0.3), (0.05, 0.0), (0.95, 0.0), (0.95, 0.45), (0.0, 1.0)]),
        Line(&[(0.0, 1.0), (1.0, 1.0)]),
    ],
    // 3
    &[
        Curve(&[(0.05, 0.1), (0.5, -0.08), (0.95, 0.05), (0.95, 0.45), (0.4, 0.47)]),
        Curve(&[(0.4, 0.47), (1.0, 0.5), (1.0, 1.0), (0.5, 1.05), (0.0, 0.88)]),
    ],
    // 4
    &[Line(&[(0.7, 1.0), (0.7, 0.0), (0.0, 0.65), (1.0, 0.65)])],
    // 5
    &[
        Line(&[(0.95, 0.0), (0.15, 0.0), (0.1, 0.45)]),
        Curve(&[(0.1, 0.45), (0.5, 0.3), (1.0, 0.4), (1.0, 1.0), (0.5, 1.03), (0.0, 0.9)]),
    ],
    // 6
    &[Curve(&[
        (0.85, 0.05),
        (0.3, 0.0),
        (0.0, 0.4),
        (0.0, 1.0),
        (1.0, 1.0),
        (1.0, 0.42),
        (0.3, 0.4),
        (0.03, 0.65),
    ])],
    // 7
    &[Line(&[(0.0, 0.0), (1.0, 0.0), (0.35, 1.0)])],
    // 8
    &[
        Curve(&[(0.5, 0.0), (0.95, 0.0), (0.95, 0.47), (0.05, 0.47), (0.05, 0.0), (0.5, 0.0)]),
        Curve(&[(0.5, 0.47), (1.0, 0.47), (1.0, 1.0), (0.0, 1.0), (0.0, 0.47), (0.5, 0.47)]),
    ],
    // 9: the 6 turned by half a turn
    &[Curve(&[
        (0.15, 0.95),
        (0.7, 1.0),
        (1.0, 0.6),
        (1.0, 0.0),
        (0.0, 0.0),
        (0.0, 0.58),
        (0.7, 0.6),
        (0.97, 0.35),
    ])],
    // A
    &[Line(&[(0.0, 1.0), (0.5, 0.0), (1.0, 1.0)]), Line(&[(0.2, 0.65), (0.8, 0.65)])],
    // B
    &[
        Line(&[(0.5, 1.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.0)]),
        Curve(&[(0.5, 0.0), (1.0, 0.0), (1.0, 0.47), (0.5, 0.47)]),
        Line(&[(0.0, 0.47), (0.5, 0.47)]),
        Curve(&[(0.5, 0.47), (1.05, 0.47), (1.05, 1.0), (0.5, 1.0)]),
    ],
    // D
    &[
        Line(&[(0.4, 1.0), (0.0, 1.0), (0.0, 0.0), (0.4, 0.0)]),
        Curve(&[(0.4, 0.0), (1.0, 0.0), (1.0, 1.0), (0.4, 1.0)]),
    ],
    // E
    &[Line(&[(1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]), Line(&[(0.0, 0.5), (0.8, 0.5)])],
    // F
    &[Line(&[(1.0, 0.0), (0.0, 0.0), (0.0, 1.0)]), Line(&[(0.0, 0.5), (0.8, 0.5)])],
    // G
    &[
        Curve(&[(0.95, 0.15), (0.8, 0.0), (0.0, -0.05), (0.0, 1.05), (1.0, 1.0), (1.0, 0.55)]),
        Line(&[(1.0, 0.55), (0.55, 0.55)]),
    ],
    // P
    &[
        Line(&[(0.0, 1.0), (0.0, 0.0), (0.5, 0.0)]),
        Curve(&[(0.5, 0.0), (1.0, 0.0), (1.0, 0.52), (0.5, 0.52)]),
        Line(&[(0.0, 0.52), (0.5, 0.52)]),
    ],
    // Q
    &[Curve(OVAL), Line(&[(0.6, 0.7), (1.0, 1.05)])],
    // S
    &[Curve(&[
        (0.95, 0.12),
        (0.7, -0.05),
        (0.0, -0.02),
        (0.0, 0.45),
        (1.0, 0.5),
        (1.0, 1.02),
        (0.3, 1.05),
        (0.02, 0.88),
    ])],
    // Z
    &[Line(&[(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])],
];

/// Straight pieces a spline segment is drawn with.
const PIECES: usize = 6;

/// An endless, indexable set of labelled glyph images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glyphs {
    seed: u64,
}

impl Glyphs {
    /// The set drawn from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Images (batch, 1, [`SIDE`], [`SIDE`]) in [0, 1] and their labels. Each
    /// is a function of the seed and its index alone.
    pub(crate) fn batch(&self, range: Range<u64>) -> (Array4<f32>, Vec<usize>) {
        let mut pixels = Vec::new();
        let mut labels = Vec::new();
        for index in range {
            let (image, label) = self.image(index);
            pixels.extend(image);
            labels.push(label);
        }
        let images = Array4::from_shape_vec((labels.len(), 1, SIDE, SIDE), pixels)
            .expect("every image has SIDE x SIDE pixels");
        (images, labels)
    }

    fn image(&self, index: u64) -> ([f32; SIDE * SIDE], usize) {
        let mut rng = ChaCha8Rng::from_seed(key(self.seed));
        rng.set_stream(index);
        let label = ((u64::from(rng.next_u32()) * LABELS.len() as u64) >> 32) as usize;
        let mut draw = |low: f32, high: f32| low + (high - low) * unit(&mut rng);

        let pose = Pose::draw(&mut draw);
        let thickness = draw(0.55, 1.15);
        let mut ink = [0.0_f32; SIDE * SIDE];
        for stroke in STROKES[label] {
            let (Line(points) | Curve(points)) = stroke;
            // The hand shakes: every control point is off by a little.
            let points: Vec<Point> = points
                .iter()
                .map(|&(x, y)| (x + draw(-WOBBLE, WOBBLE), y + draw(-WOBBLE, WOBBLE)))
                .map(|point| pose.apply(point))
                .collect();
            let path = match stroke {
                Line(_) => points,
                Curve(_) => flatten(&points),
            };
            paint(&mut ink, &path, thickness);
        }
        // Clutter: a scratch that belongs to no glyph.
        let edge = SIDE as f32;
        let (x, y) = (draw(0.0, edge), draw(0.0, edge));
        let end = (x + draw(-CLUTTER, CLUTTER), y + draw(-CLUTTER, CLUTTER));
        paint(&mut ink, &[(x, y), end], draw(0.3, 0.7));

        let paper = draw(0.0, 0.3);
        let contrast = draw(0.3, 0.7);
        let noise = draw(NOISE.0, NOISE.1);
        for pixel in &mut ink {
            // Four uniform draws are close enough to a normal one.
            let sum: f32 = (0..4).map(|_| draw(-1.0, 1.0)).sum();
            *pixel = (paper + contrast * *pixel + noise * sum).clamp(0.0, 1.0);
        }
        (ink, label)
    }
}

/// Furthest a control point strays, in glyph heights.
const WOBBLE: f32 = 0.08;
/// Longest extent of the scratch along an axis, in pixels.
const CLUTTER: f32 = 9.0;
/// Least and greatest noise amplitude.
const NOISE: (f32, f32) = (0.04, 0.16);

/// Where and how a glyph stands: an affine map from the unit box to pixels.
struct Pose {
    matrix: [f32; 4],
    centre: Point,
}

impl Pose {
    fn draw(draw: &mut impl FnMut(f32, f32) -> f32) -> Self {
        let height = draw(10.0, 14.5);
        let width = height * draw(0.5, 0.85);
        let slant = draw(-0.3, 0.3);
        // The tangent of half the angle: up to 16 degrees, with no sine needed.
        let half = draw(-0.14, 0.14);
        let scale = 1.0 / (1.0 + half * half);
        let (cos, sin) = ((1.0 - half * half) * scale, 2.0 * half * scale);
        let middle = SIDE as f32 / 2.0;
        let centre = (middle + draw(-2.5, 2.5), middle + draw(-2.5, 2.5));
        // Rotation after shear after scale.
        let (xx, xy, yy) = (width, -slant * height, height);
        Self { matrix: [cos * xx, cos * xy - sin * yy, sin * xx, sin * xy + cos * yy], centre }
    }

    fn apply(&self, (x, y): Point) -> Point {
        let (x, y) = (x - 0.5, y - 0.5);
        let [a, b, c, d] = self.matrix;
        (self.centre.0 + (a * x + b * y), self.centre.1 + (c * x + d * y))
    }
}

/// A quadratic B-spline as a chain of short lines.
fn flatten(points: &[Point]) -> Vec<Point> {
    let middle = |a: Point, b: Point| ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0);
    let last = points.len() - 2;
    let mut from = points[0];
    let mut path = vec![from];
    for i in 1..=last {
        let control = points[i];
        let to = if i == last { points[i + 1] } else { middle(control, points[i + 1]) };
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let (a, b, c) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
            path.push((a * from.0 + b * control.0 + c * to.0, a * from.1 + b * control.1 + c * to.1));
        }
        from = to;
    }
    path
}

/// Inks a chain of lines, `thickness` on each side, with one pixel of blur.
fn paint(ink: &mut [f32; SIDE * SIDE], path: &[Point], thickness: f32) {
    let reach = thickness + 0.5;
    // Pixel p covers [p, p + 1]; those whose centre may be within reach.
    let span = |a: f32, b: f32| {
        let low = (a.min(b) - reach - 0.5).max(0.0) as usize;
        let high = (a.max(b) + reach + 0.5).clamp(0.0, SIDE as f32) as usize;
        low..high
    };
    for pair in path.windows(2) {
        let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
        let (dx, dy) = (bx - ax, by - ay);
        let squared = (dx * dx + dy * dy).max(1e-6);
        for row in span(ay, by) {
            for column in span(ax, bx) {
                let (px, py) = (column as f32 + 0.5 - ax, row as f32 + 0.5 - ay);
                let along = ((px * dx + py * dy) / squared).clamp(0.0, 1.0);
                let (ex, ey) = (px - along * dx, py - along * dy);
                let distance = (ex * ex + ey * ey).sqrt();
                let shade = (reach - distance).clamp(0.0, 1.0);
                let pixel = &mut ink[row * SIDE + column];
                *pixel = pixel.max(shade);
            }
        }
    }
}

/// The ChaCha key of a seed: its bytes, so that it depends on no version of a
/// seed-expanding function.
pub(crate) fn key(seed: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key
}

/// A uniform draw from the multiples of 2^-24 in [0, 1).
pub(crate) fn unit(rng: &mut impl Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}
