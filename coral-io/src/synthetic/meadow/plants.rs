//! The plants of a meadow and what lies between them, painted onto the canvas of the reef.

use coral_core::{ClassId, SeededRng};

use super::{config::Seagrass, layout::Meadow};
use crate::synthetic::{
    canvas::{Canvas, Shoot, Stroke, Texel},
    geometry::P2,
    ground::Ground,
    noise::{cos_turns, gradient, sin_turns},
};

/// Texels of plants carry these in place of the reef's classes.
pub(super) const PLANT: ClassId = 100;
/// Texels of the shaded ground between the plants of a clump.
pub(super) const BED: ClassId = 101;
/// Texels of dead leaves that lie about.
pub(super) const DEAD: ClassId = 102;

/// Plants one species where `meadow` has clumps.
pub(super) struct Planter<'a> {
    pub(super) canvas: &'a mut Canvas,
    pub(super) ground: &'a Ground,
    pub(super) rng: &'a mut SeededRng,
}

fn direction(turn: f32) -> P2 {
    P2 { x: cos_turns(turn), y: sin_turns(turn) }
}

impl Planter<'_> {
    fn range(&mut self, low: f32, high: f32) -> f32 {
        self.rng.range(f64::from(low), f64::from(high)) as f32
    }

    /// Fills the clumps with plants.
    pub(super) fn plant(&mut self, species: Seagrass, meadow: &Meadow) {
        let extent = self.canvas.view.extent();
        let middle = extent.scale(0.5);
        // Plants are sparser towards the edge of a clump; long leaves reach over it.
        let edge = match species {
            Seagrass::Ferny => 0.02,
            Seagrass::Rounded => -0.02,
            Seagrass::Strappy => 0.06,
        };
        self.canvas.paint(middle, extent.norm(), |p, current| {
            let depth = meadow.depth(p) - edge - 0.04;
            let height = current.height + 0.002;
            (depth > 0.0).then_some(Texel { class: BED, object: 0, height, depth, across: 0.9, tone: 0.0 })
        });
        // Plants per square metre: about one and a half layers of leaves.
        let density = match species {
            Seagrass::Ferny => 700.0,
            Seagrass::Rounded => 2600.0,
            Seagrass::Strappy => 5200.0,
        };
        // The swell combs a meadow into about one direction.
        let swell = self.rng.uniform() as f32;
        let margin = 0.1;
        let count = density * (extent.x + 2.0 * margin) * (extent.y + 2.0 * margin);
        for _ in 0..count as usize {
            let from = P2 { x: self.range(-margin, extent.x + margin), y: self.range(-margin, extent.y + margin) };
            if meadow.depth(from) < edge + self.range(0.0, 0.12) {
                continue;
            }
            match species {
                Seagrass::Ferny => self.frond(from, swell),
                Seagrass::Rounded => self.leaf_pair(from),
                Seagrass::Strappy => self.ribbon(from, swell),
            }
        }
    }

    /// A long blade with its middle at about `middle`.
    fn ribbon(&mut self, middle: P2, swell: f32) {
        let (turn, length) = (swell + self.range(-0.13, 0.13), self.range(0.07, 0.2));
        let shoot = Shoot {
            from: middle.sub(direction(turn).scale(0.45 * length)),
            turn,
            length,
            width: self.range(0.0017, 0.0036),
            height: self.ground.at(middle).height + self.range(0.004, 0.022),
            tone: self.range(0.0, 1.0),
            class: PLANT,
        };
        let bend = self.range(-0.04, 0.04);
        let object = self.canvas.next_object();
        self.canvas.add_blade(shoot, object, bend);
    }

    /// Two oval leaves that spread from one node.
    fn leaf_pair(&mut self, node: P2) {
        let object = self.canvas.next_object();
        let turn = self.range(0.0, 1.0);
        let spread = self.range(0.09, 0.2);
        let base = self.ground.at(node).height + self.range(0.003, 0.014);
        let tone = self.range(0.0, 1.0);
        let length = self.range(0.007, 0.0135);
        for side in [-1.0, 1.0] {
            let axis = direction(turn + side * spread);
            let stalk = self.range(0.004, 0.016);
            let foot = node.add(axis.scale(stalk));
            let stroke = Stroke {
                from: node,
                to: foot,
                radii: [0.0006; 2],
                heights: [base - 0.004, base],
                along: [0.02, 0.05],
                tone,
            };
            self.canvas.add_stroke(stroke, object, PLANT);
            let leaf = Leaf {
                centre: foot.add(axis.scale(0.95 * length)),
                axis,
                length: length * self.range(0.85, 1.1),
                slender: self.range(0.56, 0.72),
                tilt: self.range(-0.12, 0.22),
                height: base + self.range(0.0, 0.005),
                tone: (tone + self.range(-0.2, 0.2)).clamp(0.0, 1.0),
            };
            self.oval(&leaf, object);
        }
    }

    fn oval(&mut self, leaf: &Leaf, object: u32) {
        self.canvas.paint(leaf.centre, leaf.length, |p, _| {
            let local = p.sub(leaf.centre).along(leaf.axis).scale(1.0 / leaf.length);
            // Wider below the middle, blunt at the tip.
            let across = local.y / (leaf.slender * (1.0 - 0.12 * local.x));
            let squared = local.x * local.x + across * across;
            (squared <= 1.0).then(|| {
                let fold = 0.0012 * across.abs();
                let height = leaf.height + leaf.length * leaf.tilt * local.x + fold + 0.0015 * (1.0 - squared);
                let depth = (0.55 + 0.45 * local.x).max(0.1);
                Texel { class: PLANT, object, height, depth, across, tone: leaf.tone }
            })
        });
    }

    /// A stem with two rows of leaflets.
    fn frond(&mut self, from: P2, swell: f32) {
        const PAIRS: usize = 13;
        let object = self.canvas.next_object();
        let tone = self.range(0.0, 1.0);
        let length = self.range(0.07, 0.15);
        let bend = self.range(-0.09, 0.09) / PAIRS as f32;
        let mut turn = swell + self.range(-0.3, 0.3);
        let mut height = self.ground.at(from).height + self.range(0.003, 0.016);
        let rise = self.range(0.0, 0.015) / PAIRS as f32;
        let leaflet = self.range(0.011, 0.016);
        let mut at = from;
        for pair in 0..PAIRS {
            let along = pair as f32 / PAIRS as f32;
            let next = at.add(direction(turn).scale(length / PAIRS as f32));
            let stem = Stroke {
                from: at,
                to: next,
                radii: [0.0011; 2],
                heights: [height + 0.001, height + 0.001 + rise],
                along: [0.06, 0.09],
                tone,
            };
            self.canvas.add_stroke(stem, object, PLANT);
            // Short at the foot and the tip, longest in the lower half.
            let shape = (0.45 + 2.6 * along * (1.0 - along)) * (1.0 - 0.45 * along);
            for side in [-1.0, 1.0] {
                let lean = side * self.range(0.13, 0.17);
                let to = next.add(direction(turn + lean).scale(leaflet * shape.min(1.0)));
                let blade = Stroke {
                    from: next,
                    to,
                    radii: [0.0023, 0.0012],
                    heights: [height + rise, height + rise + 0.001],
                    along: [0.3, 0.75 + 0.25 * along],
                    tone,
                };
                self.canvas.add_stroke(blade, object, PLANT);
            }
            at = next;
            height += rise;
            turn += bend;
        }
    }

    /// Scatters dead leaves, 0 (none) to 1.
    pub(super) fn scatter_litter(&mut self, litter: f32) {
        let extent = self.canvas.view.extent();
        let seed = self.rng.bits() as u32;
        let count = 420.0 * litter * extent.x * extent.y;
        for _ in 0..count as usize {
            let from = P2 { x: self.range(0.0, extent.x), y: self.range(0.0, extent.y) };
            // The swell heaps them up.
            let heaped = gradient(from.scale(7.0), seed) + self.range(-0.5, 0.5) > 0.1;
            let (turn, bend) = (self.range(0.0, 1.0), self.range(-0.06, 0.06));
            let shoot = Shoot {
                from,
                turn,
                length: self.range(0.015, 0.07),
                width: self.range(0.0012, 0.003),
                height: self.ground.at(from).height + 0.002,
                tone: self.range(0.0, 1.0),
                class: DEAD,
            };
            if heaped {
                let object = self.canvas.next_object();
                self.canvas.add_blade(shoot, object, bend);
            }
        }
    }
}

/// An oval leaf.
struct Leaf {
    centre: P2,
    axis: P2,
    /// Half the length, metres.
    length: f32,
    /// Width by length.
    slender: f32,
    /// Rise of the tip per length.
    tilt: f32,
    height: f32,
    tone: f32,
}
