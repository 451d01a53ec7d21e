//! Which object each pixel shows and how high it stands: the geometry of the scene before light.

use coral_core::{ClassId, SeededRng};
use ndarray::Array2;

use super::{
    classes::{BRANCHING, RUBBLE, SEAGRASS},
    colony::Colony,
    geometry::{P2, View},
    ground::Ground,
    noise::{cos_turns, gradient, sin_turns, smoothstep, unit},
    placement::Patch,
};

/// What one pixel shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texel {
    pub(crate) class: ClassId,
    /// 0 for the ground, else one more than the object's index.
    pub(crate) object: u32,
    /// Metres above the mean sand level.
    pub(crate) height: f32,
    /// How deep inside its outline (0 edge, 1 middle), or how far along its blade or branch (0 foot, 1 tip).
    pub(crate) depth: f32,
    /// Side-to-side position on a blade or branch, −1..1; 0 elsewhere.
    pub(crate) across: f32,
    /// A number that differs between blades, 0..1; 0 elsewhere.
    pub(crate) tone: f32,
}

/// A texel per pixel.
#[derive(Debug)]
pub(crate) struct Canvas {
    pub(crate) view: View,
    pub(crate) texels: Array2<Texel>,
    objects: u32,
}

/// A straight, tapered piece of a blade or branch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    pub(crate) from: P2,
    pub(crate) to: P2,
    /// Half the width at either end, metres.
    pub(crate) radii: [f32; 2],
    /// Height at either end, metres.
    pub(crate) heights: [f32; 2],
    /// Position along the whole blade at either end, 0..1.
    pub(crate) along: [f32; 2],
    pub(crate) tone: f32,
}

impl Canvas {
    /// The bare ground.
    pub(crate) fn new(view: View, ground: &Ground) -> Self {
        let texels = Array2::from_shape_fn(view.size.shape(), |(y, x)| {
            let floor = ground.at(view.place(x, y));
            Texel { class: floor.class, object: 0, height: floor.height, depth: 0.0, across: 0.0, tone: 0.0 }
        });
        Self { view, texels, objects: 0 }
    }

    /// The name of the next object.
    pub(crate) fn next_object(&mut self) -> u32 {
        self.objects += 1;
        self.objects
    }

    /// Puts `texel(place, current)` wherever it is higher than what is there.
    pub(crate) fn paint(&mut self, centre: P2, reach: f32, texel: impl Fn(P2, &Texel) -> Option<Texel>) {
        let (columns, rows) = self.view.window(centre, reach);
        for y in rows {
            for x in columns.clone() {
                let current = &mut self.texels[[y, x]];
                if let Some(new) = texel(self.view.place(x, y), current)
                    && new.height > current.height
                {
                    *current = new;
                }
            }
        }
    }

    /// Adds a coral colony.
    pub(crate) fn add_colony(&mut self, colony: &Colony, ground: &Ground) {
        let object = self.next_object();
        let foot = ground.at(colony.centre).height;
        let crust = colony.form == super::GrowthForm::Encrusting;
        self.paint(colony.centre, colony.reach(), |p, current| {
            let depth = colony.inside(p);
            (depth > 0.0).then(|| {
                // Crusts follow the ground; everything else stands on it.
                let base = if crust { current.height + 0.003 } else { foot.max(0.6 * foot + 0.4 * current.height) };
                let height = base + colony.profile(p, depth);
                Texel { class: colony.form.class(), object, height, depth, across: 0.0, tone: 0.0 }
            })
        });
        if colony.form.class() == BRANCHING && colony.variant == 2 {
            self.add_thicket(colony, foot, object);
        }
    }

    /// Forked branches that rise from a colony and reach over its edge.
    fn add_thicket(&mut self, colony: &Colony, foot: f32, object: u32) {
        let mut rng = SeededRng::new(u64::from(colony.seed));
        let stems = 9 + (colony.radius * 60.0) as usize;
        for stem in 0..stems {
            let turn = (stem as f32 + rng.uniform() as f32) / stems as f32;
            let start = rng.range(0.0, 0.5) as f32 * colony.radius;
            let from = colony.centre.add(P2 { x: cos_turns(turn), y: sin_turns(turn) }.scale(start));
            let shoot = Shoot {
                from,
                turn: turn + rng.range(-0.06, 0.06) as f32,
                length: colony.radius * rng.range(0.5, 0.8) as f32,
                width: 0.5 * colony.grain,
                height: foot + 0.5 * colony.radius,
                tone: 0.0,
                class: BRANCHING,
            };
            self.add_branch(shoot, object, 2, &mut rng);
        }
    }

    fn add_branch(&mut self, shoot: Shoot, object: u32, forks: u32, rng: &mut SeededRng) {
        let direction = P2 { x: cos_turns(shoot.turn), y: sin_turns(shoot.turn) };
        let to = shoot.from.add(direction.scale(shoot.length * 0.6));
        let rise = shoot.height + 0.25 * shoot.length;
        let tip = if forks == 0 { 1.0 } else { 0.5 };
        let stroke = Stroke {
            from: shoot.from,
            to,
            radii: [shoot.width, 0.8 * shoot.width],
            heights: [shoot.height, rise],
            along: [tip - 0.5, tip],
            tone: 0.0,
        };
        self.add_stroke(stroke, object, shoot.class);
        if forks > 0 {
            for side in [-1.0, 1.0] {
                let turn = shoot.turn + side * rng.range(0.05, 0.13) as f32;
                let length = shoot.length * rng.range(0.55, 0.85) as f32;
                let width = 0.85 * shoot.width;
                let fork = Shoot { from: to, turn, length, width, height: rise, ..shoot };
                self.add_branch(fork, object, forks - 1, rng);
            }
        }
    }

    /// Adds a clump of seagrass: a shaded bed in the middle, and blades that reach over it.
    pub(crate) fn add_seagrass(&mut self, clump: &Patch, ground: &Ground) {
        let object = self.next_object();
        self.paint(clump.centre, 2.0 * clump.radius, |p, current| {
            let bed = clump.inside(p) > 0.12 && current.class < SEAGRASS;
            bed.then_some(Texel {
                class: SEAGRASS,
                object,
                height: current.height + 0.004,
                depth: 0.0,
                across: 0.9,
                tone: 0.0,
            })
        });
        let mut rng = SeededRng::new(u64::from(clump.seed));
        let shoots = (clump.radius * clump.radius * 5200.0) as usize + 5;
        // The swell combs all blades of a clump into about one direction.
        let swell = rng.uniform() as f32;
        for _ in 0..shoots {
            let mut offset = || rng.range(-1.0, 1.0) as f32 * clump.radius;
            let from = clump.centre.add(P2 { x: offset(), y: offset() });
            if clump.inside(from) < 0.0 {
                continue;
            }
            let shoot = Shoot {
                from,
                turn: swell + rng.range(-0.16, 0.16) as f32,
                length: rng.range(0.06, 0.19) as f32,
                width: rng.range(0.0022, 0.0052) as f32,
                height: ground.at(from).height + rng.range(0.01, 0.035) as f32,
                tone: rng.uniform() as f32,
                class: SEAGRASS,
            };
            self.add_blade(shoot, object, rng.range(-0.05, 0.05) as f32);
        }
    }

    /// A ribbon that bends by `bend` turns from piece to piece.
    pub(crate) fn add_blade(&mut self, shoot: Shoot, object: u32, bend: f32) {
        const PIECES: u32 = 4;
        let (mut from, mut turn) = (shoot.from, shoot.turn);
        for piece in 0..PIECES {
            let share = |i: u32| i as f32 / PIECES as f32;
            let to = from.add(P2 { x: cos_turns(turn), y: sin_turns(turn) }.scale(shoot.length / PIECES as f32));
            let width = |t: f32| shoot.width * (1.0 - 0.5 * t * t);
            let height = |t: f32| shoot.height + 0.03 * t * (1.6 - t);
            let (a, b) = (share(piece), share(piece + 1));
            let stroke = Stroke {
                from,
                to,
                radii: [width(a), width(b)],
                heights: [height(a), height(b)],
                along: [a, b],
                tone: shoot.tone,
            };
            self.add_stroke(stroke, object, shoot.class);
            (from, turn) = (to, turn + bend);
        }
    }

    /// Adds a loose stone.
    pub(crate) fn add_stone(&mut self, stone: &Patch) {
        let object = self.next_object();
        let turn = unit(stone.seed, 0);
        let axis = P2 { x: cos_turns(turn), y: sin_turns(turn) };
        let slender = 1.0 + 3.0 * unit(stone.seed, 1) * unit(stone.seed, 1);
        self.paint(stone.centre, 2.0 * stone.radius, |p, current| {
            let local = p.sub(stone.centre).along(axis);
            let depth = stone.inside(stone.centre.add(P2 { x: local.x, y: local.y * slender }));
            let chips = 0.25 * gradient(local.scale(3.2 / stone.radius), stone.seed ^ 0x99);
            let depth = depth + chips - 0.2;
            (depth > 0.0).then(|| {
                let height = current.height + stone.radius * (0.1 + 0.5 * smoothstep(-0.2, 0.7, depth));
                Texel { class: RUBBLE, object, height, depth, across: 0.0, tone: 0.0 }
            })
        });
    }

    pub(crate) fn add_stroke(&mut self, stroke: Stroke, object: u32, class: ClassId) {
        // Blades thinner than a pixel would show as dots.
        let thinnest = 0.45 / self.view.ppm;
        let radii = stroke.radii.map(|r| r.max(thinnest));
        let span = stroke.to.sub(stroke.from);
        let middle = stroke.from.add(span.scale(0.5));
        let squared = span.dot(span).max(1e-12);
        self.paint(middle, 0.5 * span.norm() + radii[0].max(radii[1]), |p, _| {
            let local = p.sub(stroke.from);
            let t = (local.dot(span) / squared).clamp(0.0, 1.0);
            let mix = |ends: [f32; 2]| ends[0] + (ends[1] - ends[0]) * t;
            let aside = local.sub(span.scale(t));
            let side = if span.x * local.y - span.y * local.x < 0.0 { -1.0 } else { 1.0 };
            let across = side * aside.norm() / mix(radii);
            (across.abs() <= 1.0).then(|| {
                let height = mix(stroke.heights) + mix(radii) * (1.0 - across * across).sqrt();
                Texel { class, object, height, depth: mix(stroke.along), across, tone: stroke.tone }
            })
        });
    }
}

/// Where a blade or branch starts and how it grows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shoot {
    pub(crate) from: P2,
    pub(crate) turn: f32,
    pub(crate) length: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
    pub(crate) tone: f32,
    pub(crate) class: ClassId,
}
