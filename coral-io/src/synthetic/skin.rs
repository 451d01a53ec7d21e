//! Colour and fine relief of coral tissue.

use super::{
    canvas::Texel,
    colony::Colony,
    config::GrowthForm,
    geometry::P2,
    noise::{Fractal, cells, cos_turns, gradient, sin_turns, smoothstep, unit, visibility},
};

/// The look of one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skin {
    /// As displayed in air and even light, 0..1 RGB.
    pub(crate) color: [f32; 3],
    /// Fine relief in metres, to be added to the height.
    pub(crate) relief: f32,
}

pub(crate) fn mix(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    let share = share.clamp(0.0, 1.0);
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * share)
}

pub(crate) fn scaled(color: [f32; 3], factor: f32) -> [f32; 3] {
    color.map(|level| level * factor)
}

/// Growing edges and branch tips have little pigment.
const PALE: [f32; 3] = [0.84, 0.80, 0.74];
const DEAD: [f32; 3] = [0.36, 0.36, 0.26];

/// Colour and relief of a colony at `p`.
pub(crate) fn coral(colony: &Colony, texel: &Texel, p: P2, ppm: f32) -> Skin {
    let local = p.sub(colony.centre);
    let blotch = Fractal { frequency: 0.8 / colony.radius, octaves: 4, ppm }.at(local, colony.seed ^ 0x61);
    let fine = Fractal { frequency: 110.0, octaves: 2, ppm }.at(local, colony.seed ^ 0x62);
    let skin = match colony.form {
        GrowthForm::Branching => branching(colony, texel, p),
        GrowthForm::Massive => massive(colony, texel, local, ppm),
        GrowthForm::Tabular => tabular(colony, texel, local, ppm),
        GrowthForm::Encrusting => encrusting(colony, texel, local, ppm),
        GrowthForm::Soft => soft(colony, local, ppm),
    };
    // Patches of dead, overgrown tissue and of paler tissue, as on most colonies.
    let dead = 0.75 * smoothstep(0.62, 0.85, blotch + 0.25 * unit(colony.seed, 0));
    let shift: [f32; 3] = std::array::from_fn(|c| colony.second_color[c] / colony.color[c].max(0.05));
    let toned = std::array::from_fn(|c| skin.color[c] * (1.0 + (shift[c] - 1.0) * smoothstep(-0.2, 0.5, blotch)));
    let color = scaled(mix(toned, DEAD, dead), 1.0 + 0.18 * blotch + 0.15 * fine);
    Skin { color, relief: skin.relief + 0.0009 * fine }
}

fn branching(colony: &Colony, texel: &Texel, p: P2) -> Skin {
    let fleck = gradient(p.scale(150.0), !colony.seed);
    let thicket = colony.variant == 2 && texel.across != 0.0;
    let tip = if thicket {
        let verrucae = gradient(p.scale(1.1 / 0.006), colony.seed);
        0.25 + 0.75 * smoothstep(0.4, 1.0, texel.depth) + 0.15 * verrucae
    } else {
        let branch = colony.branch(p);
        smoothstep(0.75, 0.1, branch.nearest) * (0.8 + 0.4 * unit(branch.id >> 6, 0))
    };
    let shaft = scaled(colony.color, 0.48 + 0.55 * tip + 0.1 * fleck);
    // The growing tip: white, or only a little lighter.
    let pallor = [0.45, 0.2, 0.6][colony.variant as usize] * smoothstep(0.72, 1.0, tip);
    Skin { color: mix(shaft, PALE, pallor), relief: 0.0 }
}

/// Corallites as a honeycomb: pale walls around darker centres. Returns wall (0..1) and whether it shows (0..1).
fn honeycomb(colony: &Colony, local: P2, size: f32, ppm: f32) -> (f32, f32) {
    let cell = cells(local.scale(1.0 / size), colony.seed ^ 0x71);
    (smoothstep(0.45, 0.05, cell.second - cell.nearest), visibility(0.8 * size, ppm))
}

fn massive(colony: &Colony, texel: &Texel, local: P2, ppm: f32) -> Skin {
    match colony.variant {
        0 => {
            // Smooth boulders with tiny corallites and a few bore holes.
            let (wall, shows) = honeycomb(colony, local, colony.grain, ppm);
            let hole = cells(local.scale(1.0 / 0.035), colony.seed ^ 0x72);
            let size = 0.25 * (unit(hole.id >> 3, 0) - 0.8).max(0.0) / 0.2;
            let bored = smoothstep(size, 0.4 * size - 0.02, hole.nearest);
            let color = scaled(colony.color, (1.0 + 0.16 * (wall - 0.4) * shows) * (1.0 - 0.65 * bored));
            Skin { color, relief: 0.0012 * wall * shows - 0.006 * bored }
        }
        1 => {
            // Meandering ridges and valleys.
            let wavelength = 1.7 * colony.grain;
            let ridge = smoothstep(-0.3, 0.3, colony.meander(local, wavelength));
            let shows = visibility(wavelength, ppm);
            let valley = mix(scaled(colony.color, 0.72), [0.44, 0.44, 0.36], 0.25);
            let color = mix(valley, scaled(colony.color, 1.12), 0.5 + (ridge - 0.5) * shows);
            Skin { color, relief: 0.0038 * ridge * shows * (0.4 + 0.6 * texel.depth) }
        }
        _ => {
            let (wall, shows) = honeycomb(colony, local, 1.3 * colony.grain, ppm);
            let color = mix(scaled(colony.color, 0.70), mix(colony.color, PALE, 0.25), 0.4 + (wall - 0.4) * shows);
            Skin { color, relief: 0.0032 * wall * shows }
        }
    }
}

fn tabular(colony: &Colony, texel: &Texel, local: P2, ppm: f32) -> Skin {
    let wobble = 0.05 * gradient(local.scale(14.0), colony.seed ^ 0x81);
    // Rings follow the outline: what was once the rim.
    let ring = cos_turns((texel.depth + wobble) * (3.5 + 4.0 * colony.radius / 0.2));
    let rim = smoothstep(0.22, 0.0, texel.depth + wobble);
    let (texture, relief) = if colony.variant == 0 {
        // A leaf: fine ribs from the middle to the rim.
        let far = local.norm().max(1e-4);
        let turn = gradient(local.scale(3.0 / far), colony.seed) + gradient(local.scale(9.0 / far), colony.seed ^ 5);
        let rib = sin_turns(3.0 * turn + 0.4 * wobble);
        (0.06 * rib, 0.0008 * rib)
    } else {
        // A table of little upright branchlets.
        let size = 1.15 * colony.grain;
        let tip = cells(local.scale(1.0 / size), colony.seed ^ 0x82);
        let knob = smoothstep(0.75, 0.15, tip.nearest);
        let shows = visibility(size, ppm);
        (0.62 * (knob - 0.55) * shows, 0.008 * knob * shows)
    };
    let color = scaled(colony.color, 1.0 + 0.10 * ring + texture);
    Skin { color: mix(color, PALE, 0.30 * rim + 0.25 * texture.max(0.0)), relief: relief + 0.0016 * ring }
}

fn encrusting(colony: &Colony, texel: &Texel, local: P2, ppm: f32) -> Skin {
    let (wall, shows) = honeycomb(colony, local, 1.2 * colony.grain, ppm);
    let bump = gradient(local.scale(38.0), colony.seed ^ 0x91);
    let rim = smoothstep(0.09, 0.0, texel.depth) * if colony.variant == 0 { 0.6 } else { 0.15 };
    let contrast = [0.16, 0.40, 0.26][colony.variant as usize];
    let color = scaled(colony.color, 0.95 + contrast * (0.4 - wall) * shows + 0.16 * bump);
    Skin { color: mix(color, PALE, rim), relief: 0.004 * bump + 0.0015 * wall * shows }
}

fn soft(colony: &Colony, local: P2, ppm: f32) -> Skin {
    let fold = colony.fold(local);
    let size = 0.009;
    let polyp = cells(local.scale(1.0 / size), colony.seed ^ 0xA1);
    let star = smoothstep(0.5, 0.15, polyp.nearest) * visibility(size, ppm);
    let open = star * smoothstep(-0.5, 0.3, fold + 0.6 * unit(polyp.id, 0) - 0.3);
    let color = scaled(colony.color, 0.92 + 0.13 * fold);
    Skin { color: mix(color, PALE, 0.42 * open), relief: 0.002 * open }
}
