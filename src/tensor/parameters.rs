//! The parameters of a tensor as named arrays, which is how files hold them.

use crate::element::FloatType;
use crate::error::{Error, Result};
use crate::granularity::Tiling;
use crate::kernel::pack::packed_len;

use super::affine::{AffineGrids, ZeroPointRule, ZeroPoints};
use super::arrays::{FloatArray, IntegerArray};
use super::binary_code::BinaryCodeGrids;
use super::codebook::CodebookGrids;
use super::codes::PackedCodes;
use super::grids::Grids;
use super::levels::{LevelGrids, Levels};
use super::piecewise::PiecewiseGrids;
use super::quantized::QuantizedTensor;
use super::scales::{ScaleArray, ScaleStorage};
use super::scheme::Scheme;
use super::two_level::{TwoLevel, TwoLevelScales};
use super::vector_codebook::VectorGrids;

/// The endings of all names that parameters can have.
pub(crate) const NAMES: [&str; 10] = [
    "scales",
    "zero_points",
    "scales.codes",
    "scales.scales",
    "scales.mean",
    "levels",
    "coefficients",
    "vectors",
    "break_points",
    "ends",
];

/// The type of a parameter's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterType {
    Float(FloatType),
    I8,
    U8,
    I16,
    U16,
}

impl From<FloatType> for ParameterType {
    fn from(storage: FloatType) -> Self {
        Self::Float(storage)
    }
}

/// A parameter without its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: ParameterType,
    pub(crate) shape: Vec<usize>,
}

/// The numbers of a parameter.
#[derive(Debug)]
pub(crate) enum Numbers<'a> {
    Float(&'a FloatArray),
    Integer(&'a IntegerArray),
    Bytes(&'a [u8]),
    Exponents(&'a [i16]),
    One(f32),
}

/// Numbers that were read.
#[derive(Debug)]
pub(crate) enum OwnedNumbers {
    Float(FloatArray),
    Integer(IntegerArray),
}

impl OwnedNumbers {
    fn floats(self) -> FloatArray {
        match self {
            Self::Float(values) => values,
            Self::Integer(_) => FloatArray::new(FloatType::F32),
        }
    }

    fn integers(self) -> IntegerArray {
        match self {
            Self::Integer(values) => values,
            Self::Float(_) => IntegerArray::U8(Vec::new()),
        }
    }
}

impl Scheme {
    /// The parameters that a tensor cut by `tiling` has.
    pub(crate) fn parameters(&self, tiling: &Tiling) -> Result<Vec<Parameter>> {
        let regions = tiling.region_shape();
        let with = |more: usize| regions.iter().copied().chain([more]).collect::<Vec<_>>();
        let one = |name, kind: FloatType, shape| vec![Parameter { name, kind: kind.into(), shape }];
        Ok(match self {
            Self::Affine(scheme) => {
                let mut parameters = scale_parameters(scheme.scales(), tiling.regions(), &regions)?;
                let kind = match scheme.zero_point() {
                    ZeroPointRule::Fixed(_) => None,
                    ZeroPointRule::Integer => Some(match IntegerArray::new(scheme.codes()) {
                        IntegerArray::I8(_) => ParameterType::I8,
                        IntegerArray::U8(_) => ParameterType::U8,
                        IntegerArray::I16(_) => ParameterType::I16,
                        IntegerArray::U16(_) => ParameterType::U16,
                    }),
                    ZeroPointRule::Real => Some(scheme.zero_point_storage().into()),
                };
                let zero_points = kind.map(|kind| Parameter { name: "zero_points", kind, shape: regions });
                parameters.extend(zero_points);
                parameters
            }
            Self::Levels(scheme) => {
                let mut parameters = scale_parameters(scheme.scales(), tiling.regions(), &regions)?;
                if let Levels::Learned(storage) = scheme.levels() {
                    parameters.extend(one("levels", *storage, vec![scheme.bits().levels() as usize]));
                }
                parameters
            }
            Self::Codebook(scheme) => one("levels", scheme.storage(), with(scheme.bits().levels() as usize)),
            Self::BinaryCode(scheme) => {
                one("coefficients", scheme.storage(), with(scheme.bits().get() as usize))
            }
            Self::PiecewiseAffine(scheme) => ["break_points", "ends"]
                .into_iter()
                .flat_map(|name| one(name, scheme.storage(), regions.clone()))
                .collect(),
            Self::VectorCodebook(scheme) => {
                let mut shape = with(scheme.bits().levels() as usize);
                shape.push(scheme.dimension());
                one("vectors", scheme.storage(), shape)
            }
        })
    }
}

fn scale_parameters(storage: ScaleStorage, count: usize, regions: &[usize]) -> Result<Vec<Parameter>> {
    let scales = |kind| Parameter { name: "scales", kind, shape: regions.to_vec() };
    Ok(match storage {
        ScaleStorage::Float(storage) => vec![scales(storage.into())],
        ScaleStorage::Power(_) => vec![scales(ParameterType::I16)],
        ScaleStorage::Minifloat(format) if format.bits() <= 8 => vec![scales(ParameterType::U8)],
        ScaleStorage::Minifloat(_) => vec![scales(ParameterType::U16)],
        ScaleStorage::TwoLevel(rule) => {
            let bytes = packed_len(count, rule.bits().get()).unwrap_or(usize::MAX);
            let blocks = rule.tiling(count)?.regions();
            let mut parameters = vec![
                Parameter { name: "scales.codes", kind: ParameterType::U8, shape: vec![bytes] },
                Parameter { name: "scales.scales", kind: rule.outer_storage().into(), shape: vec![blocks] },
            ];
            if rule.is_centered() {
                parameters.push(Parameter {
                    name: "scales.mean",
                    kind: FloatType::F32.into(),
                    shape: vec![1],
                });
            }
            parameters
        }
    })
}

impl Grids {
    /// The numbers of all parameters, in the order of [`Scheme::parameters`].
    pub(crate) fn numbers(&self) -> Vec<Numbers<'_>> {
        match self {
            Self::Affine(grids) => {
                let mut numbers = scale_numbers(grids.scales());
                match grids.zero_points() {
                    ZeroPoints::Fixed(_) => {}
                    ZeroPoints::Integer(values) => numbers.push(Numbers::Integer(values)),
                    ZeroPoints::Real(values) => numbers.push(Numbers::Float(values)),
                }
                numbers
            }
            Self::Levels(grids) => {
                let mut numbers = scale_numbers(grids.scales());
                numbers.extend(grids.levels().map(Numbers::Float));
                numbers
            }
            Self::Codebook(grids) => vec![Numbers::Float(grids.levels())],
            Self::BinaryCode(grids) => vec![Numbers::Float(grids.coefficients())],
            Self::PiecewiseAffine(grids) => {
                vec![Numbers::Float(grids.break_points()), Numbers::Float(grids.ends())]
            }
            Self::VectorCodebook(grids) => vec![Numbers::Float(grids.vectors())],
        }
    }

    /// The grids of a tensor from its parameters, which `read` gives one by one, in the declared type and number.
    pub(crate) fn from_numbers<E: From<Error>>(
        scheme: &Scheme,
        tiling: &Tiling,
        mut read: impl FnMut(&Parameter) -> Result<OwnedNumbers, E>,
    ) -> Result<Self, E> {
        let parameters = scheme.parameters(tiling)?;
        let mut numbers = parameters.iter().map(&mut read);
        let mut next = || numbers.next().unwrap_or(Ok(OwnedNumbers::Float(FloatArray::new(FloatType::F32))));
        let grids = match scheme {
            Scheme::Affine(scheme) => {
                let scales = read_scales(scheme.scales(), tiling.regions(), &mut next)?;
                let zero_points = match scheme.zero_point() {
                    ZeroPointRule::Fixed(zero) => ZeroPoints::Fixed(zero),
                    ZeroPointRule::Integer => ZeroPoints::Integer(next()?.integers()),
                    ZeroPointRule::Real => ZeroPoints::Real(next()?.floats()),
                };
                AffineGrids::from_arrays(scales, zero_points).into()
            }
            Scheme::Levels(scheme) => {
                let scales = read_scales(scheme.scales(), tiling.regions(), &mut next)?;
                let levels = match scheme.levels() {
                    Levels::Table(_) => None,
                    Levels::Learned(_) => Some(next()?.floats()),
                };
                LevelGrids::from_arrays(scales, levels).into()
            }
            Scheme::Codebook(scheme) => {
                CodebookGrids::from_arrays(scheme.bits().levels() as usize, next()?.floats()).into()
            }
            Scheme::BinaryCode(scheme) => {
                BinaryCodeGrids::from_arrays(scheme.bits(), next()?.floats()).into()
            }
            Scheme::PiecewiseAffine(_) => {
                PiecewiseGrids::from_arrays(next()?.floats(), next()?.floats()).into()
            }
            Scheme::VectorCodebook(scheme) => VectorGrids::from_arrays(scheme, next()?.floats()).into(),
        };
        Ok(grids)
    }
}

fn scale_numbers(scales: &ScaleArray) -> Vec<Numbers<'_>> {
    match scales {
        ScaleArray::Float(values) => vec![Numbers::Float(values)],
        ScaleArray::Power { exponents, .. } => vec![Numbers::Exponents(exponents)],
        ScaleArray::Minifloat { codes, .. } => vec![Numbers::Integer(codes)],
        ScaleArray::TwoLevel(scales) => {
            let codes = scales.codes();
            let outer = codes.and_then(|codes| match codes.grids() {
                Grids::Affine(grids) => grids.scales().as_float(),
                Grids::Levels(grids) => grids.scales().as_float(),
                _ => None,
            });
            let bytes = codes.map_or(&[][..], |codes| codes.codes().as_bytes());
            let mut numbers = vec![Numbers::Bytes(bytes)];
            numbers.extend(outer.map(Numbers::Float));
            if scales.rule().is_centered() {
                numbers.push(Numbers::One(scales.mean()));
            }
            numbers
        }
    }
}

fn read_scales<E: From<Error>>(
    storage: ScaleStorage,
    count: usize,
    next: &mut impl FnMut() -> Result<OwnedNumbers, E>,
) -> Result<ScaleArray, E> {
    Ok(match storage {
        ScaleStorage::Float(_) => next()?.floats().into(),
        ScaleStorage::Power(base) => {
            let IntegerArray::I16(exponents) = next()?.integers() else {
                return Ok(ScaleArray::Power { base, exponents: Vec::new() });
            };
            ScaleArray::Power { base, exponents }
        }
        ScaleStorage::Minifloat(format) => ScaleArray::Minifloat { format, codes: next()?.integers() },
        ScaleStorage::TwoLevel(rule) => {
            let IntegerArray::U8(codes) = next()?.integers() else {
                return Ok(ScaleArray::new(storage));
            };
            let outer = next()?.floats();
            let mean = if rule.is_centered() { next()?.floats().get(0).unwrap_or(0.0) as f32 } else { 0.0 };
            ScaleArray::TwoLevel(two_level(rule, count, codes, outer, mean)?)
        }
    })
}

/// Two-level scales from the bytes of their codes, and their outer scales.
fn two_level(
    rule: TwoLevel,
    count: usize,
    codes: Vec<u8>,
    outer: FloatArray,
    mean: f32,
) -> Result<TwoLevelScales> {
    let (scheme, tiling) = (rule.scheme()?, rule.tiling(count)?);
    let codes = PackedCodes::from_bytes(scheme.bits(), scheme.codes(), count, codes)?;
    let grids: Grids = match &scheme {
        Scheme::Affine(_) => AffineGrids::from_arrays(outer, ZeroPoints::Fixed(0.0)).into(),
        _ => LevelGrids::from_arrays(outer, None).into(),
    };
    let quantized = QuantizedTensor::new(scheme, tiling, grids, codes, FloatType::F32, None)?;
    TwoLevelScales::from_codes(rule, mean, quantized)
}
