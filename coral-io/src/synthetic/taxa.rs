//! Genera and species of the synthetic reef's corals: a genus is a texture, a species a colour of it.

use coral_core::{Class, ClassId, ClassSentences, ClassSet, Result, default_color};

use super::{
    classes,
    colony::Colony,
    config::GrowthForm,
    noise::unit,
    skin::{mix, scaled},
};

/// Colonies of a growth form that look alike but for their colour.
struct Genus {
    form: GrowthForm,
    /// Which variants of the form belong to it.
    variants: &'static [u32],
    name: &'static str,
    /// What it looks like, to follow "with" in a sentence.
    look: &'static str,
    species: [Species; 2],
}

/// The word for a colour, and the colour as displayed in air, 0..1 RGB.
struct Species(&'static str, [f32; 3]);

use GrowthForm::{Branching, Encrusting, Massive, Soft, Tabular};

#[rustfmt::skip]
const GENERA: [Genus; 10] = [
    Genus { form: Branching, variants: &[0, 1], name: "finger coral", look: "short fingers in a tight cluster",
        species: [Species("golden", [0.78, 0.56, 0.22]), Species("violet", [0.56, 0.38, 0.66])] },
    Genus { form: Branching, variants: &[2], name: "thicket coral", look: "thin forked branches like antlers",
        species: [Species("tan", [0.74, 0.60, 0.44]), Species("blue", [0.36, 0.44, 0.70])] },
    Genus { form: Massive, variants: &[0], name: "boulder coral", look: "a smooth and lumpy surface",
        species: [Species("mustard", [0.68, 0.60, 0.20]), Species("green", [0.36, 0.56, 0.32])] },
    Genus { form: Massive, variants: &[1], name: "brain coral", look: "winding ridges like a brain",
        species: [Species("olive", [0.46, 0.47, 0.22]), Species("rusty", [0.66, 0.34, 0.20])] },
    Genus { form: Massive, variants: &[2], name: "honeycomb coral", look: "cups like the cells of a honeycomb",
        species: [Species("lime", [0.62, 0.70, 0.30]), Species("brown", [0.42, 0.29, 0.20])] },
    Genus { form: Tabular, variants: &[0], name: "leaf coral", look: "fine ribs on a thin flat plate",
        species: [Species("pink", [0.80, 0.48, 0.50]), Species("grey", [0.52, 0.52, 0.52])] },
    Genus { form: Tabular, variants: &[1, 2], name: "table coral", look: "a flat top of little upright twigs",
        species: [Species("sandy", [0.80, 0.70, 0.48]), Species("turquoise", [0.30, 0.60, 0.60])] },
    Genus { form: Encrusting, variants: &[0], name: "rimmed crust coral", look: "a pale rim around a thin crust",
        species: [Species("orange", [0.80, 0.45, 0.20]), Species("purple", [0.46, 0.28, 0.50])] },
    Genus { form: Encrusting, variants: &[1, 2], name: "dotted crust coral", look: "dark dots all over a thin crust",
        species: [Species("red", [0.66, 0.24, 0.26]), Species("mint", [0.50, 0.68, 0.55])] },
    Genus { form: Soft, variants: &[0, 1, 2], name: "leather coral", look: "soft folds under a fuzz of polyps",
        species: [Species("yellow", [0.78, 0.70, 0.30]), Species("mauve", [0.62, 0.48, 0.58])] },
];

const SPECIES_PER_GENUS: usize = 2;

fn genus_class(genus: usize) -> ClassId {
    classes::COUNT + genus as ClassId
}

fn species_class(genus: usize, species: usize) -> ClassId {
    classes::COUNT + (GENERA.len() + genus * SPECIES_PER_GENUS + species) as ClassId
}

/// What a colony is: its genus, and which species of it.
struct Taxon {
    genus: usize,
    species: usize,
}

impl Taxon {
    fn of(colony: &Colony) -> Self {
        let is_of = |genus: &Genus| genus.form == colony.form && genus.variants.contains(&colony.variant);
        // The tests check that every colony has a genus; the first stands in for the impossible.
        let genus = GENERA.iter().position(is_of).unwrap_or(0);
        Self { genus, species: (colony.seed >> 7) as usize % SPECIES_PER_GENUS }
    }
}

/// The class of a colony's species, or of its genus alone.
pub(crate) fn class_of(colony: &Colony, with_species: bool) -> ClassId {
    let Taxon { genus, species } = Taxon::of(colony);
    if with_species { species_class(genus, species) } else { genus_class(genus) }
}

/// Gives a colony the colour of its species, a little lighter or darker from colony to colony.
pub(crate) fn dress(colony: &mut Colony) {
    let Taxon { genus, species } = Taxon::of(colony);
    let Species(_, color) = GENERA[genus].species[species];
    colony.color = scaled(color, 0.88 + 0.24 * unit(colony.seed, 1));
    colony.second_color = mix(colony.color, scaled(color, 0.7), 0.6);
}

/// The classes of the reef, and below the growth forms genera and below these species.
pub(crate) fn class_set() -> Result<ClassSet> {
    let mut all: Vec<Class> = classes::class_set()?.into();
    for (at, genus) in GENERA.iter().enumerate() {
        let (id, parent) = (genus_class(at), Some(genus.form.class()));
        all.push(Class { id, name: genus.name.into(), color: default_color(id), parent });
        for (nth, Species(tone, color)) in genus.species.iter().enumerate() {
            let (id, color) = (species_class(at, nth), color.map(|level| (255.0 * level).round() as u8));
            all.push(Class { id, name: format!("{tone} {}", genus.name), color, parent: Some(genus_class(at)) });
        }
    }
    ClassSet::new(all)
}

/// Five sentences about every species.
pub(crate) fn sentences() -> Result<ClassSentences> {
    let names = classes::class_set()?;
    let mut all = Vec::new();
    for (at, Genus { form, name, look, species, .. }) in GENERA.iter().enumerate() {
        let form = names.name(form.class());
        for (nth, Species(tone, _)) in species.iter().enumerate() {
            let five = [
                format!("a photo of {tone} {name}"),
                format!("{tone} {name} seen from above"),
                format!("{form} of {tone} colour with {look}"),
                format!("a {tone} colony with {look}"),
                format!("{name}, {tone} in colour, under water"),
            ];
            all.push((species_class(at, nth), five.to_vec()));
        }
    }
    ClassSentences::new(all)
}

#[cfg(test)]
mod tests {
    use coral_core::SeededRng;

    use super::super::geometry::P2;
    use super::*;

    #[test]
    fn every_colony_has_one_genus() {
        for form in GrowthForm::ALL {
            for variant in 0..3 {
                let of = |genus: &&Genus| genus.form == form && genus.variants.contains(&variant);
                assert_eq!(GENERA.iter().filter(of).count(), 1, "{form:?} {variant}");
            }
        }
    }

    #[test]
    fn the_hierarchy_has_four_levels() {
        let set = class_set().unwrap();
        let coral = set.id("coral").unwrap();
        for (level, count) in [(0, 1), (1, 5), (2, 10), (3, 20)] {
            let (objects, _) = set.objects_at_level(coral, level).unwrap();
            assert_eq!(objects.len(), 1 + count);
        }
        let species = set.id("rusty brain coral").unwrap();
        let above: Vec<_> = set.ancestors(species).into_iter().map(|id| set.name(id)).collect();
        assert_eq!(above, ["brain coral", "massive coral", "coral"]);
        let sentences = sentences().unwrap();
        sentences.expect_known(&set).unwrap();
        assert!(sentences.iter().all(|(class, five)| five.len() == 5 && set.ancestors(class).len() == 3));
        assert_eq!((sentences.classes().count(), sentences.len()), (20, 100));
    }

    #[test]
    fn both_species_of_a_genus_occur_and_have_its_class() {
        let mut rng = SeededRng::new(2);
        let mut counts = [0; 256];
        for at in 0..600 {
            let colony = Colony::new(GrowthForm::ALL[at % 5], P2 { x: 0.0, y: 0.0 }, 0.1, &mut rng);
            let set = class_set().unwrap();
            let (species, genus) = (class_of(&colony, true), class_of(&colony, false));
            assert_eq!(set.ancestors(species)[..2], [genus, colony.form.class()]);
            counts[usize::from(species)] += 1;
        }
        assert!(counts[23..43].iter().all(|&count| count > 10), "{:?}", &counts[23..43]);
    }
}
