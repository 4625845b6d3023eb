//! What holds for every built-in method, whatever its representation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "rayon")]
use common::methods::of_vectors;
use common::methods::{self, fits_alone, recipe};
use common::{cast, normal_tensor};
use half::{bf16, f16};
use lowbit::prelude::*;
use lowbit::quantizer::Fit;
use lowbit::tensor::Scheme;
use lowbit::{ParseError, Region, Registry};
use ndarray::{Array2, ArrayD, IxDyn, Slice, s};

/// Blocks of 32, 32 and 16 elements in each of 5 rows, of different spread.
const BLOCKS: &str = "subchannel(32, axis=0)";

fn tensor() -> ArrayD<f32> {
    normal_tensor(&[5, 80], 77)
}

#[test]
fn the_list_has_every_name_that_the_registry_knows() {
    let listed = methods::all();
    let error = Registry::default().parse_quantizer("none").unwrap_err();
    let ParseError::Name { known, .. } = error else { panic!("{error}") };
    for name in known {
        assert!(listed.iter().any(|text| text.split('(').next() == Some(&name)), "{name} is not tested");
    }
    let mut unique = listed.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), listed.len());
}

#[test]
fn texts_come_back_and_their_recipes_do_the_same() {
    let x = tensor();
    for text in methods::all() {
        let first = recipe(&text, BLOCKS);
        let full = first.to_string();
        let again: Recipe = full.parse().unwrap_or_else(|error| panic!("{full}: {error}"));
        assert_eq!(again.to_string(), full);
        assert_eq!(again.scheme().unwrap(), first.scheme().unwrap());
        let q = first.quantize(&x).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(q.recipe(), Some(&*full));
        assert!(q == again.quantize(&x).unwrap(), "{text}");
    }
}

#[test]
fn views_have_the_codes_of_their_copies() {
    let x = tensor();
    let wide = normal_tensor(&[11, 161], 5);
    let transposed = x.t().as_standard_layout().into_owned();
    let mut reversed = x.slice(s![..;-1, ..;-1]).into_dyn().as_standard_layout().into_owned();
    for text in methods::of_widths(3..=4) {
        let recipe = recipe(&text, BLOCKS);
        let expected = recipe.quantize(&x).unwrap();
        let same = |found: QuantizedTensor, what: &str| assert!(found == expected, "{text}: {what}");
        same(recipe.quantize(&transposed.t()).unwrap(), "transposed");
        reversed.slice_each_axis_inplace(|_| Slice::new(0, None, 1));
        same(recipe.quantize(&reversed.slice(s![..;-1, ..;-1])).unwrap(), "reversed");
        let strided = wide.slice(s![..10;2, 1..161;2]);
        let copy = strided.as_standard_layout().into_owned();
        assert!(recipe.quantize(&strided).unwrap() == recipe.quantize(&copy).unwrap(), "{text}: strided");
        let repeated = wide.slice(s![..1, ..80]);
        let repeated = repeated.broadcast((5, 80)).unwrap();
        let copy = repeated.as_standard_layout().into_owned();
        assert!(recipe.quantize(&repeated).unwrap() == recipe.quantize(&copy).unwrap(), "{text}: repeated");
    }
}

#[test]
fn element_types_have_the_codes_of_their_copies() {
    let x = tensor();
    let (half, brain) = (cast::<f16, _, _>(&x), cast::<bf16, _, _>(&x));
    let (from_half, from_brain) = (cast::<f32, _, _>(&half), cast::<f32, _, _>(&brain));
    let (half_t, brain_t) =
        (half.t().as_standard_layout().into_owned(), brain.t().as_standard_layout().into_owned());
    let wide = cast::<f64, _, _>(&x);
    let wide_t = wide.t().as_standard_layout().into_owned();
    for text in methods::of_widths(3..=4) {
        let recipe = recipe(&text, BLOCKS);
        for (found, turned, copy) in [
            (recipe.quantize(&half), recipe.quantize(&half_t.t()), recipe.quantize(&from_half)),
            (recipe.quantize(&brain), recipe.quantize(&brain_t.t()), recipe.quantize(&from_brain)),
        ] {
            let (found, copy) = (found.unwrap(), copy.unwrap());
            assert!(found == turned.unwrap(), "{text}");
            assert!((found.codes(), found.grids()) == (copy.codes(), copy.grids()), "{text}");
        }
        assert!(recipe.quantize(&wide).unwrap() == recipe.quantize(&wide_t.t()).unwrap(), "{text}");
    }
}

#[test]
fn reused_buffers_hold_what_new_ones_do() {
    let (x, other) = (tensor(), cast::<f64, _, _>(&normal_tensor(&[3, 64], 8)));
    let mut out = Uniform::symmetric(BitWidth::EIGHT).quantize(&normal_tensor(&[700], 3)).unwrap();
    for text in methods::all() {
        let recipe = recipe(&text, BLOCKS);
        // The buffers come from the method before, and from another tensor of this one.
        recipe.quantize_into(&x, &mut out).unwrap();
        let expected = recipe.quantize(&x).unwrap();
        assert!(out == expected, "{text}");
        recipe.quantize_into(&other, &mut out).unwrap();
        recipe.quantize_into(&x, &mut out).unwrap();
        assert!(out == expected && out.notes() == expected.notes(), "{text}");
        let frozen = recipe.freeze_from(&x).unwrap();
        frozen.quantize_into(&other.slice(s![..0, ..]), &mut out).ok();
        frozen.quantize_into(&x, &mut out).unwrap();
        assert!(out == frozen.quantize(&x).unwrap(), "{text}");
        // After an error nothing is left.
        recipe.quantize_into(&ndarray::arr2(&[[f32::NAN, 1.0]]), &mut out).unwrap_err();
        assert!(out.is_empty() && out.grids().is_empty() && out.codes().is_empty(), "{text}");
    }
}

/// A method of which only what must be written is forwarded.
#[derive(Debug)]
struct RegionByRegion(Arc<dyn Quantizer>);

impl Quantizer for RegionByRegion {
    fn scheme(&self) -> lowbit::Result<Scheme> {
        self.0.scheme()
    }

    fn fit(&self, region: &Region<'_>, scheme: &Scheme) -> lowbit::Result<Fit> {
        self.0.fit(region, scheme)
    }
}

impl fmt::Display for RegionByRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[test]
fn regions_fitted_one_by_one_and_all_at_once_have_the_same_grids() {
    let x = tensor();
    let mut few = x.clone();
    few.slice_mut(s![1, ..]).fill(0.0);
    few.slice_mut(s![2, ..]).fill(-3.0);
    few.slice_mut(s![3, 5..]).mapv_inplace(|x| x.signum());
    for text in methods::all().into_iter().filter(|text| fits_alone(text)) {
        for granularity in [BLOCKS, "layer", "channel(axis=0)"] {
            let all = recipe(&text, granularity);
            let single = common::recipe(RegionByRegion(all.quantizer().clone()), granularity);
            for x in [&x, &few] {
                let (a, b) = (all.freeze_from(x), single.freeze_from(x));
                let (a, b) = (a.unwrap_or_else(|error| panic!("{text}: {error}")), b.unwrap());
                assert!(a.grids() == b.grids() && a.notes() == b.notes(), "{text} {granularity}");
            }
            let x = cast::<f64, _, _>(&few);
            let (a, b) = (all.freeze_from(&x).unwrap(), single.freeze_from(&x).unwrap());
            assert!(a.grids() == b.grids() && a.notes() == b.notes(), "{text} {granularity}");
        }
    }
}

#[test]
fn all_ways_to_decode_agree_and_give_finite_numbers() {
    let x = tensor();
    for text in methods::all() {
        let q = recipe(&text, BLOCKS).quantize(&x).unwrap();
        let all = q.dequantize::<f32, IxDyn>().unwrap();
        assert!(all.iter().all(|value| value.is_finite()), "{text}");
        for row in 0..5 {
            let found = q.dequantize_row::<f32>(row).unwrap();
            assert_eq!(found.as_slice(), all.slice(s![row, ..]).as_slice(), "{text}");
        }
        let mut seen = ArrayD::<f32>::from_elem(all.raw_dim(), f32::NAN);
        for region in 0..q.tiling().regions() {
            let values = q.dequantize_region::<f32>(region).unwrap();
            let places = q.tiling().region_runs(region).into_iter().flatten();
            let all = seen.as_slice_mut().unwrap();
            places.zip(values).for_each(|(place, value)| all[place] = value);
        }
        assert_eq!(seen, all, "{text}");
        let mut turned = ArrayD::<f32>::zeros(IxDyn(&[80, 5]));
        q.dequantize_into(&mut turned.view_mut().reversed_axes()).unwrap();
        assert_eq!(turned.reversed_axes(), all, "{text}");
        let halves = q.dequantize::<f16, IxDyn>().unwrap();
        assert_eq!(halves, all.mapv(f16::from_f32), "{text}");
        // Computed in f64: the same but for the rounding of a product or of a sum of eight terms.
        let wide = q.dequantize::<f64, IxDyn>().unwrap();
        for ((place, &a), &b) in wide.indexed_iter().zip(&all) {
            let region = q.tiling().region_of(place[0] * 80 + place[1]);
            let size = q.clipping_range(region).map_or(0.0, |range| range.magnitude()).max(a.abs());
            assert!((a - f64::from(b)).abs() <= 8.0 * 2f64.powi(-24) * size, "{text}: {a} {b}");
        }
        // Codes are those of the scheme.
        assert!(q.codes().iter().all(|code| q.scheme().codes().contains(code)), "{text}");
    }
}

#[test]
fn quantizing_restored_values_on_the_same_grids_changes_nothing() {
    let x = tensor();
    for text in methods::all() {
        for rounding in [Rounding::NearestEven, Rounding::NearestAway] {
            let frozen = recipe(&text, BLOCKS).rounding(rounding).freeze_from(&x).unwrap();
            let once = frozen.quantize(&x).unwrap().dequantize::<f32, IxDyn>().unwrap();
            let twice = frozen.quantize(&once).unwrap().dequantize::<f32, IxDyn>().unwrap();
            assert_eq!(once, twice, "{text} {rounding}");
        }
    }
}

#[test]
fn a_frozen_recipe_gives_the_codes_of_a_dynamic_one() {
    let x = tensor();
    for text in methods::all().into_iter().filter(|text| !text.starts_with("ecsq")) {
        let recipe = recipe(&text, BLOCKS);
        let frozen = recipe.freeze_from(&x).unwrap();
        assert!(frozen.quantize(&x).unwrap() == recipe.quantize(&x).unwrap(), "{text}");
    }
}

#[cfg(feature = "rayon")]
#[test]
fn one_thread_and_many_give_the_same_bits() {
    // More elements than one thread takes.
    let x = normal_tensor(&[9, 8192], 6);
    let turned = x.t();
    let pools: Vec<rayon::ThreadPool> =
        [1, 2, 8].iter().map(|&n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()).collect();
    // One way to store scales each, and one scale mode of each element.
    let some = methods::some().into_iter().filter(|text| {
        text.starts_with("uniform")
            || !(text.contains("scales=") || text.contains("ceil") || text.contains("even"))
    });
    for (i, text) in some.enumerate() {
        let granularity = ["subchannel(64, axis=0)", "channel(axis=0)", "subchannel(1024, axis=0)"][i % 3];
        let mut recipe = recipe(&text, granularity);
        if !of_vectors(&text) && i % 2 == 0 {
            recipe = recipe.rounding(Rounding::Stochastic { seed: i as u64 });
        }
        let mut first = None;
        for pool in &pools {
            let found = pool.install(|| {
                let q = recipe.quantize(&x).unwrap();
                let restored = q.dequantize::<f32, IxDyn>().unwrap();
                (q, restored)
            });
            match &first {
                None => first = Some(found),
                Some(first) => assert!(*first == found, "{recipe}"),
            }
        }
        // Of one layout the other way round, on two threads.
        if i % 8 == 0 && !of_vectors(&text) {
            let copy = turned.as_standard_layout().into_owned();
            let (a, b) = pools[1].install(|| (recipe.quantize(&turned), recipe.quantize(&copy)));
            assert!(a.unwrap() == b.unwrap(), "{recipe}");
        }
    }
}

#[cfg(feature = "serde")]
#[test]
fn everything_comes_back_from_json() {
    let x = normal_tensor(&[3, 48], 4);
    for text in methods::all() {
        let recipe = recipe(&text, BLOCKS);
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap().to_string(), recipe.to_string());
        let q = recipe.quantize(&x).unwrap();
        let json = serde_json::to_string(&q).unwrap();
        let again: QuantizedTensor =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(again == q, "{text}");
        assert_eq!(
            again.dequantize::<f32, IxDyn>().unwrap(),
            q.dequantize::<f32, IxDyn>().unwrap(),
            "{text}"
        );
        let frozen = recipe.freeze_from(&x).unwrap();
        let json = serde_json::to_string(&frozen).unwrap();
        let again: Frozen = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(again.quantize(&x).unwrap() == frozen.quantize(&x).unwrap(), "{text}");
    }
}

#[cfg(feature = "safetensors")]
#[test]
fn everything_comes_back_from_files_as_planned() {
    use lowbit::FloatType;
    use lowbit::io::safetensors::{File, QuantizedInfo, save};

    let x: Array2<f32> = tensor().into_dimensionality().unwrap();
    let all: Vec<(String, Recipe, QuantizedTensor)> = methods::all()
        .into_iter()
        .map(|text| {
            let recipe = recipe(&text, BLOCKS);
            let q = recipe.quantize(&x).unwrap();
            (text, recipe, q)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    save(&path, all.iter().map(|(text, _, q)| (text.as_str(), q.into()))).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = File::new(&bytes).unwrap();
    for (text, recipe, q) in &all {
        let again = file.quantized(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(again == *q, "{text}");
        assert_eq!(
            again.dequantize::<f32, IxDyn>().unwrap(),
            q.dequantize::<f32, IxDyn>().unwrap(),
            "{text}"
        );
        let planned = QuantizedInfo::planned(recipe, x.shape(), FloatType::F32).unwrap();
        assert_eq!(file.info(text).unwrap(), planned, "{text}");
        assert_eq!(QuantizedInfo::of(q), planned, "{text}");
    }
}
