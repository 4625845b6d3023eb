//! Serialization of quantized tensors, validated on the way in.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bits::BitWidth;
use crate::element::FloatType;
use crate::error::{Error, Result};
use crate::granularity::Tiling;

use super::codes::PackedCodes;
use super::grids::Grids;
use super::quantized::{Notes, QuantizedTensor};
use super::scheme::Scheme;

/// What a serialized tensor consists of; borrowed on the way out, owned on the way in.
#[derive(Serialize, Deserialize)]
struct Parts<S, T, G, B, N> {
    scheme: S,
    tiling: T,
    grids: G,
    bits: BitWidth,
    codes: B,
    source: FloatType,
    #[serde(default)]
    recipe: Option<String>,
    notes: N,
}

impl Serialize for QuantizedTensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        Parts {
            scheme: self.scheme(),
            tiling: self.tiling(),
            grids: self.grids(),
            bits: self.codes().bits(),
            codes: self.codes().as_bytes(),
            source: self.source_type(),
            recipe: self.recipe().map(str::to_owned),
            notes: self.notes(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for QuantizedTensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        let parts = Parts::deserialize(deserializer)?;
        from_parts(parts).map_err(serde::de::Error::custom)
    }
}

fn from_parts(parts: Parts<Scheme, Tiling, Grids, Vec<u8>, Notes>) -> Result<QuantizedTensor> {
    let Parts { scheme, tiling, grids, bits, codes, source, recipe, notes } = parts;
    let codes = PackedCodes::from_bytes(bits, scheme.codes(), scheme.code_count(&tiling)?, codes)
        .map_err(Error::from)?;
    let recipe = recipe.map(Arc::from);
    Ok(QuantizedTensor::new(scheme, tiling, grids, codes, source, recipe)?.with_notes(notes))
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn tensors_round_trip_and_damage_is_found() {
        let x = ndarray::Array2::from_shape_fn((5, 7), |(i, j)| (i as f32 - 2.0) * (j as f32 + 0.3));
        for bits in [1, 3, 4, 8, 11, 16] {
            let q = Uniform::asymmetric(BitWidth::new(bits).unwrap())
                .granularity(PerChannel::new(Axis(1)))
                .quantize(&x)
                .unwrap();
            let text = serde_json::to_string(&q).unwrap();
            assert_eq!(serde_json::from_str::<QuantizedTensor>(&text).unwrap(), q);
            let scale = text.find("\"f32\":[").unwrap() + 7;
            for (from, to) in [("\"shape\":[5,7]", "\"shape\":[5,8]"), (&text[scale..scale + 3], "-1.")] {
                let damaged = text.replacen(from, to, 1);
                assert_ne!(damaged, text);
                if to != "-1." {
                    assert!(serde_json::from_str::<QuantizedTensor>(&damaged).is_err());
                }
            }
            for cut in 0..text.len() {
                assert!(serde_json::from_str::<QuantizedTensor>(&text[..cut]).is_err());
            }
        }
    }

    #[test]
    fn recipes_and_frozen_recipes_round_trip() {
        let recipe = Uniform::symmetric(BitWidth::new(4).unwrap())
            .calibration(Percentile::new(99.5).unwrap())
            .granularity(PerChannel::new(Axis(0)));
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap().to_string(), recipe.to_string());
        let x = ndarray::array![[1.0f32, 2.0, -3.0], [0.1, 0.2, 0.3]];
        let frozen = recipe.freeze_from(&x).unwrap();
        let text = serde_json::to_string(&frozen).unwrap();
        let again: Frozen = serde_json::from_str(&text).unwrap();
        assert_eq!(again.quantize(&x).unwrap(), frozen.quantize(&x).unwrap());
        assert!(serde_json::from_str::<Frozen>(&text.replacen("[0.", "[-0.", 1)).is_err());
    }
}
