//! What the program promises.

use clap::Parser;

use crate::methods::candidates;
use crate::options::Options;

#[test]
fn every_recipe_can_be_read_and_has_the_width_that_it_says() {
    let options = Options::parse_from(["compare", "--bits", "1,2,3,4,5,6,7,8"]);
    let candidates = candidates(&options);
    for candidate in &candidates {
        let recipe = candidate.recipe().unwrap();
        assert!(crate::methods::FAMILIES.contains(&candidate.family));
        let bits = recipe.scheme().unwrap().bits().get();
        // Codes of vectors stand for several elements.
        assert!(bits == candidate.bits.get() || candidate.name.contains("vectors"), "{}", candidate.text);
    }
    let mut names: Vec<_> = candidates.iter().map(|candidate| candidate.label()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), candidates.len());
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    for arguments in [
        &["--bits", "9"][..],
        &["--bits", "0"],
        &["--granularity", "row"],
        &["--granularity", "subchannel=0"],
    ] {
        assert!(Options::try_parse_from([&["compare"], arguments].concat()).is_err(), "{arguments:?}");
    }
    let same = Options::parse_from(["compare", "--output", "a.svg", "--report", "a.svg"]);
    assert!(same.check().is_err());
}
