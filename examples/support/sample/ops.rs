//! The few tensor operations the network is made of.
//!
//! Every sum is taken in one fixed order, whatever the batch size and the
//! processor, so results have the same bits everywhere.

/// Activations of a batch, in the order channel, row, column, image: images
/// innermost, so that every inner loop is over a contiguous run of them.
#[derive(Clone, Debug)]
pub(crate) struct Planes {
    /// Number of channels.
    pub(crate) channels: usize,
    /// Rows.
    pub(crate) height: usize,
    /// Columns.
    pub(crate) width: usize,
    /// Number of images.
    pub(crate) batch: usize,
    /// The values.
    pub(crate) data: Vec<f32>,
}

impl Planes {
    /// All zero.
    pub(crate) fn zeros(channels: usize, height: usize, width: usize, batch: usize) -> Self {
        Self { channels, height, width, batch, data: vec![0.0; channels * height * width * batch] }
    }

    /// All zero, of the shape of `other`.
    pub(crate) fn zeros_like(other: &Self) -> Self {
        Self::zeros(other.channels, other.height, other.width, other.batch)
    }

    /// Values per channel.
    pub(crate) fn plane(&self) -> usize {
        self.height * self.width * self.batch
    }

    /// Where the run of images at a channel, row and column starts.
    pub(crate) fn at(&self, channel: usize, row: usize, column: usize) -> usize {
        ((channel * self.height + row) * self.width + column) * self.batch
    }
}

/// A read-only row-major matrix, rows `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<'a> {
    /// Values from the first element on.
    pub(crate) data: &'a [f32],
    /// Rows.
    pub(crate) rows: usize,
    /// Columns.
    pub(crate) columns: usize,
    /// Distance between the starts of two rows.
    pub(crate) stride: usize,
}

impl<'a> Mat<'a> {
    /// A matrix whose rows follow each other.
    pub(crate) fn dense(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, stride: columns }
    }
}

/// `c += a b`, where the rows of `c` are `stride` apart.
pub(crate) fn matmul_add(a: Mat<'_>, b: Mat<'_>, c: &mut [f32], stride: usize) {
    assert_eq!(a.columns, b.rows, "inner dimensions");
    let mut column = 0;
    while column + 8 <= b.columns {
        rows::<8>(a, b, c, stride, column);
        column += 8;
    }
    for column in column..b.columns {
        rows::<1>(a, b, c, stride, column);
    }
}

fn rows<const C: usize>(a: Mat<'_>, b: Mat<'_>, c: &mut [f32], stride: usize, column: usize) {
    let mut row = 0;
    while row + 4 <= a.rows {
        block::<4, C>(a, b, c, stride, (row, column));
        row += 4;
    }
    for row in row..a.rows {
        block::<1, C>(a, b, c, stride, (row, column));
    }
}

/// An R x C block of the product, kept in registers.
fn block<const R: usize, const C: usize>(
    a: Mat<'_>,
    b: Mat<'_>,
    c: &mut [f32],
    stride: usize,
    (row, column): (usize, usize),
) {
    let lines: [&[f32]; R] = std::array::from_fn(|r| &a.data[(row + r) * a.stride..][..a.columns]);
    let mut sums = [[0.0_f32; C]; R];
    let starts = (column..).step_by(b.stride);
    for (p, start) in starts.take(a.columns).enumerate() {
        let other: &[f32; C] = b.data[start..start + C].try_into().expect("a slice of C elements");
        for (sums, line) in sums.iter_mut().zip(&lines) {
            for (sum, other) in sums.iter_mut().zip(other) {
                *sum += line[p] * other;
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let start = (row + r) * stride + column;
        for (value, sum) in c[start..start + C].iter_mut().zip(sums) {
            *value += sum;
        }
    }
}

/// Geometry of a square convolution, padded with zeros by half its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conv {
    /// Input channels.
    pub(crate) inputs: usize,
    /// Output channels; equal to `inputs` if depthwise.
    pub(crate) outputs: usize,
    /// Odd width and height of the kernel.
    pub(crate) kernel: usize,
    /// Step between output positions.
    pub(crate) stride: usize,
    /// Whether each channel has a kernel of its own and sees no other.
    pub(crate) depthwise: bool,
}

impl Conv {
    /// PyTorch's shape of the weights: outputs, inputs per group, rows, columns.
    pub(crate) fn weight_shape(&self) -> [usize; 4] {
        let inputs = if self.depthwise { 1 } else { self.inputs };
        [self.outputs, inputs, self.kernel, self.kernel]
    }

    /// Output rows (or columns) for this many input rows (or columns).
    pub(crate) fn output_side(&self, side: usize) -> usize {
        (side - 1) / self.stride + 1
    }

    /// The input row (or column) under tap `tap` of output row (or column)
    /// `output`, unless it lies in the padding.
    pub(crate) fn source(&self, output: usize, tap: usize, side: usize) -> Option<usize> {
        (output * self.stride + tap).checked_sub(self.kernel / 2).filter(|&source| source < side)
    }

    /// Whether the input, as it lies, is the matrix to multiply with.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    /// The convolution of `x`.
    pub(crate) fn apply(&self, weight: &[f32], x: &Planes) -> Planes {
        assert_eq!(x.channels, self.inputs, "channels");
        let (height, width) = (self.output_side(x.height), self.output_side(x.width));
        let mut y = Planes::zeros(self.outputs, height, width, x.batch);
        let stride = y.plane();
        if self.depthwise {
            self.apply_depthwise(weight, x, &mut y);
        } else if self.is_pointwise() {
            let a = Mat::dense(weight, self.outputs, self.inputs);
            let b = Mat::dense(&x.data, self.inputs, stride);
            matmul_add(a, b, &mut y.data, stride);
        } else {
            let taps = self.inputs * self.kernel * self.kernel;
            let a = Mat::dense(weight, self.outputs, taps);
            let line = width * x.batch;
            let mut patches = vec![0.0; taps * line];
            for row in 0..height {
                self.gather(x, row, &mut patches);
                let b = Mat::dense(&patches, taps, line);
                matmul_add(a, b, &mut y.data[row * line..], stride);
            }
        }
        y
    }

    /// Under each tap (a row of `patches`), the inputs of one output row.
    pub(crate) fn gather(&self, x: &Planes, row: usize, patches: &mut [f32]) {
        let width = self.output_side(x.width);
        let mut lines = patches.chunks_exact_mut(width * x.batch);
        for channel in 0..self.inputs {
            for ky in 0..self.kernel {
                let source_row = self.source(row, ky, x.height);
                for kx in 0..self.kernel {
                    let line = lines.next().expect("a line per tap");
                    for (column, run) in line.chunks_exact_mut(x.batch).enumerate() {
                        match source_row.zip(self.source(column, kx, x.width)) {
                            Some((row, column)) => {
                                let start = x.at(channel, row, column);
                                run.copy_from_slice(&x.data[start..start + x.batch]);
                            }
                            None => run.fill(0.0),
                        }
                    }
                }
            }
        }
    }

    fn apply_depthwise(&self, weight: &[f32], x: &Planes, y: &mut Planes) {
        let batch = x.batch;
        self.for_each_tap(x, |tap, from, to| {
            let sums = &mut y.data[to..to + batch];
            for (sum, &value) in sums.iter_mut().zip(&x.data[from..from + batch]) {
                *sum += weight[tap] * value;
            }
        });
    }

    /// Calls `visit` with the index of the weight and the starts of the input
    /// and output runs for every tap of a depthwise convolution of `x`.
    pub(crate) fn for_each_tap(&self, x: &Planes, mut visit: impl FnMut(usize, usize, usize)) {
        let mut to = 0;
        for channel in 0..self.outputs {
            for row in 0..self.output_side(x.height) {
                for column in 0..self.output_side(x.width) {
                    for ky in 0..self.kernel {
                        let source_row = self.source(row, ky, x.height);
                        for kx in 0..self.kernel {
                            let source = source_row.zip(self.source(column, kx, x.width));
                            if let Some((row, column)) = source {
                                let tap = (channel * self.kernel + ky) * self.kernel + kx;
                                visit(tap, x.at(channel, row, column), to);
                            }
                        }
                    }
                    to += x.batch;
                }
            }
        }
    }
}

/// Negative values to zero.
pub(crate) fn relu(x: &mut Planes) {
    for value in &mut x.data {
        *value = value.max(0.0);
    }
}

/// The greatest of every 2 x 2 square.
pub(crate) fn max_pool(x: &Planes) -> Planes {
    let mut y = Planes::zeros(x.channels, x.height / 2, x.width / 2, x.batch);
    let mut to = 0;
    for channel in 0..y.channels {
        for row in 0..y.height {
            for column in 0..y.width {
                let [a, b, c, d] = corners(x, channel, row, column);
                for image in 0..x.batch {
                    let top = x.data[a + image].max(x.data[b + image]);
                    let bottom = x.data[c + image].max(x.data[d + image]);
                    y.data[to + image] = top.max(bottom);
                }
                to += x.batch;
            }
        }
    }
    y
}

/// The runs of the 2 x 2 square that pools into a row and column.
pub(crate) fn corners(x: &Planes, channel: usize, row: usize, column: usize) -> [usize; 4] {
    let (row, column) = (2 * row, 2 * column);
    [
        x.at(channel, row, column),
        x.at(channel, row, column + 1),
        x.at(channel, row + 1, column),
        x.at(channel, row + 1, column + 1),
    ]
}

/// The mean over rows and columns.
pub(crate) fn global_pool(x: &Planes) -> Planes {
    let mut y = Planes::zeros(x.channels, 1, 1, x.batch);
    let area = (x.height * x.width) as f32;
    let planes = x.data.chunks_exact(x.plane());
    for (means, plane) in y.data.chunks_exact_mut(x.batch).zip(planes) {
        for run in plane.chunks_exact(x.batch) {
            for (mean, value) in means.iter_mut().zip(run) {
                *mean += value;
            }
        }
        for mean in means {
            *mean /= area;
        }
    }
    y
}
