//! From values to their positions among the cuts of a map.

/// What is added to products may be so large: sums then differ where positions do.
const OFFSET: f32 = 4_194_304.0;

/// Gives values positions from zero, that of the first cut, to the last one, that of the last cut. They never decrease with
/// the value, however a sum was rounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct PositionScale {
    pub density: f32,
    pub offset: f32,
    pub last: f32,
}

impl PositionScale {
    /// For ascending finite cuts; `None` where the arithmetic cannot tell them apart.
    pub(super) fn new(cuts: &[f32], last: f32) -> Option<Self> {
        let (low, high) = (*cuts.first()?, *cuts.last()?);
        let density = last / (high - low);
        let offset = -low * density;
        let usable = (high - low).is_normal() && density.is_normal() && offset.abs() <= OFFSET;
        (high > low && usable).then_some(Self { density, offset, last })
    }

    /// The lowest for NaN. As loops over vectors find it.
    #[inline(always)]
    pub(super) fn position(&self, v: f32) -> u32 {
        let place = v.mul_add(self.density, self.offset);
        let place = if place > self.last { self.last } else { place };
        place.round_ties_even() as u32
    }
}

/// The cuts that something finite reaches, and the codes around these: behind the others the last level repeats.
pub(super) fn reached<'a>(cuts: &'a [f32], codes: &'a [u16]) -> Option<(&'a [f32], &'a [u16])> {
    let used = cuts.iter().take_while(|cut| cut.is_finite()).count();
    Some((cuts.get(..used)?, codes.get(..=used)?))
}
