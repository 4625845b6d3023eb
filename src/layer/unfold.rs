//! Images as the columns of a matrix, so that a convolution is a product, and back.
//!
//! Chellapilla, Puri and Simard 2006, *High performance convolutional neural networks for document processing*. Images lie
//! in memory as [channel, image, row, column], and so do the products: those of one layer are the images of the next.

use core::ops::Range;

use crate::error::{Result, ShapeError};

use super::patches::Patches;

/// Some images of which a convolution sees patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfold {
    patches: Patches,
    images: usize,
    /// Height and width of an image.
    sides: [usize; 2],
    /// Patches down and across.
    places: [usize; 2],
}

/// A row of patches under one element of the kernel.
struct Line {
    /// Where it begins in the columns.
    start: usize,
    /// The patches whose element is within the image.
    inside: Range<usize>,
    /// Where the element of the first of these is.
    source: usize,
}

impl Unfold {
    pub(super) fn new(patches: Patches, images: usize, sides: [usize; 2]) -> Result<Self> {
        let [down, across] = [patches.places(0, sides[0])?, patches.places(1, sides[1])?];
        let count = down.checked_mul(across).and_then(|places| places.checked_mul(images));
        count.ok_or(ShapeError::TooLarge { shape: vec![images, down, across] })?;
        Ok(Self { patches, images, sides, places: [down, across] })
    }

    /// Patches down and across.
    pub(super) const fn places(&self) -> [usize; 2] {
        self.places
    }

    /// Patches of all images.
    pub(super) const fn count(&self) -> usize {
        self.images * self.places[0] * self.places[1]
    }

    /// Writes the patches of `channels` into `columns`, one in each: [inputs of an output, patches].
    pub(super) fn gather(&self, channels: &[f32], columns: &mut [f32]) {
        let stride = self.patches.strides()[1];
        self.for_each_line(channels.len(), |Line { start, inside, source }| {
            let Some(line) = columns.get_mut(start..start + self.places[1]) else { return };
            line[..inside.start].fill(0.0);
            line[inside.end..].fill(0.0);
            let (line, source) = (&mut line[inside], channels.get(source..).unwrap_or_default());
            if stride == 1 {
                line.iter_mut().zip(source).for_each(|(to, &from)| *to = from);
            } else {
                line.iter_mut().zip(source.iter().step_by(stride)).for_each(|(to, &from)| *to = from);
            }
        });
    }

    /// The transpose of [`gather`](Self::gather): adds every element of a patch to where it came from.
    pub(super) fn scatter(&self, columns: &[f32], channels: &mut [f32]) {
        let stride = self.patches.strides()[1];
        self.for_each_line(channels.len(), |Line { start, inside, source }| {
            let line = columns.get(start + inside.start..start + inside.end).unwrap_or_default();
            let target = channels.get_mut(source..).unwrap_or_default();
            if stride == 1 {
                target.iter_mut().zip(line).for_each(|(to, &from)| *to += from);
            } else {
                target.iter_mut().step_by(stride).zip(line).for_each(|(to, &from)| *to += from);
            }
        });
    }

    /// Every line of channels of `len` elements, in the order of the columns.
    fn for_each_line(&self, len: usize, mut visit: impl FnMut(Line)) {
        let ([kernel_height, kernel_width], [height, width]) = (self.patches.kernel(), self.sides);
        let [down, across] = self.places;
        let mut start = 0;
        for channel in 0..len.checked_div(self.images * height * width).unwrap_or_default() {
            for row in 0..kernel_height {
                let rows = self.patches.inside(0, row, height, down);
                for column in 0..kernel_width {
                    let columns = self.patches.inside(1, column, width, across);
                    for image in 0..self.images {
                        let first = (channel * self.images + image) * height;
                        for place in 0..down {
                            let line = if rows.contains(&place) && !columns.is_empty() {
                                let row = self.patches.source(0, row, place);
                                let column = self.patches.source(1, column, columns.start);
                                Line {
                                    start,
                                    inside: columns.clone(),
                                    source: (first + row) * width + column,
                                }
                            } else {
                                Line { start, inside: 0..0, source: 0 }
                            };
                            visit(line);
                            start += across;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is at a place of an image, zero around it.
    fn at(x: &[f32], image: usize, row: isize, column: isize, sides: [usize; 2]) -> f32 {
        let [height, width] = sides;
        let inside = (0..height as isize).contains(&row) && (0..width as isize).contains(&column);
        if inside { x[(image * height + row as usize) * width + column as usize] } else { 0.0 }
    }

    #[test]
    fn columns_are_patches_and_scattering_is_the_transpose() {
        let forms = [
            ([1, 1], [1, 1], [0, 0], [1, 1]),
            ([3, 3], [1, 1], [1, 1], [1, 1]),
            ([3, 2], [2, 3], [1, 4], [1, 2]),
            ([2, 5], [1, 2], [3, 0], [4, 1]),
        ];
        for (kernel, stride, padding, dilation) in forms {
            let (channels, images, sides) = (3, 2, [6, 7]);
            let patches = Patches::new(kernel).stride(stride).padding(padding).dilation(dilation);
            let unfold = Unfold::new(patches, images, sides).unwrap();
            let x: Vec<f32> = (0..channels * images * 42).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let mut columns = vec![f32::NAN; channels * kernel[0] * kernel[1] * unfold.count()];
            unfold.gather(&x, &mut columns);
            let [down, across] = unfold.places();
            let mut found = columns.iter();
            for channel in 0..channels {
                let x = &x[channel * images * 42..];
                for (row, column) in (0..kernel[0]).flat_map(|row| (0..kernel[1]).map(move |c| (row, c))) {
                    for (image, place) in
                        (0..images).flat_map(|image| (0..down * across).map(move |p| (image, p)))
                    {
                        let along = |axis: usize, place: usize, element: usize| {
                            (place * stride[axis] + element * dilation[axis]) as isize
                                - padding[axis] as isize
                        };
                        let expected = at(
                            x,
                            image,
                            along(0, place / across, row),
                            along(1, place % across, column),
                            sides,
                        );
                        assert_eq!(*found.next().unwrap(), expected);
                    }
                }
            }
            // ⟨gather(x), y⟩ = ⟨x, scatter(y)⟩, in whole numbers.
            let y: Vec<f32> = (0..columns.len()).map(|i| ((i * 29) % 13) as f32 - 6.0).collect();
            let mut scattered = vec![0.0; x.len()];
            unfold.scatter(&y, &mut scattered);
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            assert_eq!(product(&columns, &y), product(&x, &scattered));
        }
    }
}
