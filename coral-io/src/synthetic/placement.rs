//! Where colonies, seagrass clumps and stones lie. All choices are made in metres, so that the
//! number of pixels changes nothing.

use coral_core::SeededRng;

use super::{
    colony::Colony,
    config::{GrowthForm, SyntheticReefConfig},
    geometry::{P2, View},
    ground::Ground,
};

/// Cover is counted on this many places along each side of the picture.
const SAMPLES: usize = 72;

/// A round patch in which seagrass shoots or a stone lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patch {
    pub(crate) centre: P2,
    pub(crate) radius: f32,
    pub(crate) seed: u32,
}

/// Which parts of the picture are taken.
#[derive(Debug)]
pub(crate) struct Occupancy {
    extent: P2,
    taken: Vec<bool>,
}

impl Occupancy {
    pub(crate) fn new(view: &View) -> Self {
        Self { extent: view.extent(), taken: vec![false; SAMPLES * SAMPLES] }
    }

    fn place(&self, index: usize) -> P2 {
        let along = |i: usize, length: f32| (i as f32 + 0.5) / SAMPLES as f32 * length;
        P2 { x: along(index % SAMPLES, self.extent.x), y: along(index / SAMPLES, self.extent.y) }
    }

    /// Takes every free place that `covers` holds for; returns how many.
    fn take(&mut self, covers: impl Fn(P2) -> bool) -> usize {
        let free: Vec<usize> = (0..self.taken.len()).filter(|&i| !self.taken[i] && covers(self.place(i))).collect();
        free.iter().for_each(|&i| self.taken[i] = true);
        free.len()
    }

    fn is_taken(&self, p: P2) -> bool {
        let cell = |at: f32, length: f32| ((at / length * SAMPLES as f32) as usize).min(SAMPLES - 1);
        self.taken[cell(p.y, self.extent.y) * SAMPLES + cell(p.x, self.extent.x)]
    }
}

/// A place in the picture or up to `margin` metres beside it.
fn anywhere(extent: P2, margin: f32, rng: &mut SeededRng) -> P2 {
    let mut along = |length: f32| rng.range(f64::from(-margin), f64::from(length + margin)) as f32;
    P2 { x: along(extent.x), y: along(extent.y) }
}

/// Many small, few large: a power law of exponent −2 between `low` and `high`.
fn power_law(low: f32, high: f32, rng: &mut SeededRng) -> f32 {
    low / (1.0 - rng.uniform() as f32 * (1.0 - low / high))
}

fn radius_of(form: GrowthForm, rng: &mut SeededRng) -> f32 {
    let (low, high) = match form {
        GrowthForm::Branching => (0.08, 0.30),
        GrowthForm::Massive => (0.06, 0.36),
        GrowthForm::Tabular => (0.10, 0.38),
        GrowthForm::Encrusting => (0.10, 0.34),
        GrowthForm::Soft => (0.07, 0.26),
    };
    power_law(low, high, rng)
}

/// Colonies, in clusters of like forms, until the wanted cover is reached or there is no more room.
pub(crate) fn colonies(
    config: &SyntheticReefConfig,
    ground: &Ground,
    occupancy: &mut Occupancy,
    rng: &mut SeededRng,
) -> Vec<Colony> {
    let forms = &config.growth_forms;
    let target = (f64::from(config.coral_cover) * (SAMPLES * SAMPLES) as f64).round() as usize;
    if forms.is_empty() || target == 0 {
        return Vec::new();
    }
    let extent = occupancy.extent;
    let count = 4 + (extent.x * extent.y * 3.0) as usize;
    let clusters: Vec<_> = (0..count).map(|_| (anywhere(extent, 0.0, rng), rng.below(forms.len()))).collect();
    // No two reefs have the same mixture of forms.
    let shares: Vec<f64> = forms.iter().map(|_| rng.range(0.1, 1.0)).collect();
    let wanted: Vec<f64> = shares.iter().map(|s| s / shares.iter().sum::<f64>()).collect();
    let mut cover = vec![0; forms.len()];
    let mut colonies: Vec<Colony> = Vec::new();
    for attempt in 0..3000 {
        let covered: usize = cover.iter().sum();
        if covered >= target {
            break;
        }
        let mut kind = rng.below(forms.len());
        let (near, kept) = clusters[rng.below(clusters.len())];
        let centre = if rng.chance(0.6) {
            kind = if rng.chance(0.7) { kept } else { kind };
            near.add(P2 { x: rng.range(-0.25, 0.25) as f32, y: rng.range(-0.25, 0.25) as f32 })
        } else {
            anywhere(extent, 0.08, rng)
        };
        // A form that is well ahead of its share gives way to the one that is behind most.
        let ahead = |k: usize| cover[k] as f64 - wanted[k] * (covered + target / 5) as f64;
        if ahead(kind) > 0.0 {
            kind = (0..forms.len()).min_by(|&a, &b| ahead(a).total_cmp(&ahead(b))).unwrap_or(kind);
        }
        let colony = Colony::new(forms[kind], centre, radius_of(forms[kind], rng), rng);
        let on_sediment = ground.rockiness(centre) < 0.0 && rng.chance(0.75) && attempt < 2000;
        let room = 1.5 * (target - covered) as f32 / (SAMPLES * SAMPLES) as f32 * extent.x * extent.y;
        let too_large = 2.5 * colony.radius * colony.radius > room && colony.radius > 0.06;
        if !on_sediment && !too_large && colonies.iter().all(|other| leaves_room(&colony, other)) {
            cover[kind] += occupancy.take(|p| colony.inside(p) > 0.0);
            colonies.push(colony);
        }
    }
    colonies
}

/// Colonies may shade and overgrow each other's rims but not stand on the same spot.
fn leaves_room(new: &Colony, old: &Colony) -> bool {
    // Plates tier over each other and over what stands below them.
    let plates = [new, old].iter().filter(|colony| colony.form == GrowthForm::Tabular).count();
    let share = [0.75, 0.62, 0.55][plates];
    new.centre.sub(old.centre).norm() > share * (new.radius + old.radius)
}

/// Clumps of seagrass on the free sediment (on rock where that does not suffice).
pub(crate) fn seagrass(cover: f32, ground: &Ground, occupancy: &mut Occupancy, rng: &mut SeededRng) -> Vec<Patch> {
    let target = (f64::from(cover) * (SAMPLES * SAMPLES) as f64).round() as usize;
    let mut clumps = Vec::new();
    let (mut covered, mut last) = (0, None);
    for attempt in 0..1500 {
        if covered >= target {
            break;
        }
        let centre = match last {
            Some(P2 { x, y }) if rng.chance(0.7) => {
                P2 { x: x + rng.range(-0.2, 0.2) as f32, y: y + rng.range(-0.2, 0.2) as f32 }
            }
            _ => anywhere(occupancy.extent, 0.05, rng),
        };
        let clump = Patch { centre, radius: power_law(0.06, 0.2, rng), seed: rng.bits() as u32 };
        let unsuitable = ground.rockiness(centre) > -0.03 && attempt < 900;
        if !unsuitable && (attempt > 1200 || !occupancy.is_taken(centre)) {
            covered += occupancy.take(|p| clump.inside(p) > 0.0);
            last = Some(centre);
            clumps.push(clump);
        }
    }
    clumps
}

/// Loose stones, mostly where rubble gathers at the foot of the rock.
pub(crate) fn stones(ground: &Ground, occupancy: &Occupancy, rng: &mut SeededRng) -> Vec<Patch> {
    let extent = occupancy.extent;
    let tries = (extent.x * extent.y * 260.0) as usize + 4;
    (0..tries)
        .filter_map(|_| {
            let stone = Patch {
                centre: anywhere(extent, 0.02, rng),
                radius: power_law(0.007, 0.06, rng),
                seed: rng.bits() as u32,
            };
            let rock = ground.rockiness(stone.centre);
            let likely = if rock > 0.0 {
                0.12
            } else if rock > -0.3 {
                0.75
            } else {
                0.15
            };
            (rng.chance(likely) && !occupancy.is_taken(stone.centre)).then_some(stone)
        })
        .collect()
}

impl Patch {
    /// How deep inside the patch's irregular outline a place is, 1 in the middle, negative outside.
    pub(crate) fn inside(&self, p: P2) -> f32 {
        let local = p.sub(self.centre).scale(1.0 / self.radius);
        let squared = local.dot(local);
        if squared > 4.0 {
            return -1.0;
        }
        1.0 - squared.sqrt() + 0.5 * super::noise::gradient(local.scale(1.3), self.seed)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::Size;

    use super::*;

    #[test]
    fn places_do_not_depend_on_the_pixels() {
        let config = SyntheticReefConfig::default();
        let place = |width, height| {
            let view = View::new(Size { width, height }, 1.5);
            let ground = Ground::new(5, 0.5, view.ppm);
            let mut occupancy = Occupancy::new(&view);
            let colonies = colonies(&config, &ground, &mut occupancy, &mut SeededRng::new(3));
            colonies.iter().map(|c| (c.centre, c.radius)).collect::<Vec<_>>()
        };
        let (small, large) = (place(256, 192), place(1024, 768));
        assert_eq!(small.len(), large.len());
        assert!(small.iter().zip(&large).all(|(a, b)| a.0.sub(b.0).norm() < 1e-4 && a.1 == b.1));
    }

    #[test]
    fn sizes_lie_in_range_and_are_mostly_small() {
        let mut rng = SeededRng::new(1);
        let drawn: Vec<_> = (0..2000).map(|_| power_law(0.05, 0.5, &mut rng)).collect();
        assert!(drawn.iter().all(|r| (0.05..=0.5).contains(r)));
        let small = drawn.iter().filter(|&&r| r < 0.1).count();
        assert!((1000..1300).contains(&small), "{small}");
    }
}
