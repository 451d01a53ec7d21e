use coral_core::{Error, Prompt, Result, Size};

use super::prompt_encoder::{PointKind, Token};

/// What prompts must have in common to be decoded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature {
    points: usize,
    rect: bool,
    mask: bool,
}

impl Signature {
    pub(crate) fn of(prompt: &Prompt) -> Self {
        Self { points: prompt.points.len(), rect: prompt.rect.is_some(), mask: prompt.mask_logits.is_some() }
    }
}

/// Checks prompt number `index` against the image and the size of the network's low-resolution masks.
pub(crate) fn check_prompt(prompt: &Prompt, index: usize, image: Size, low_res: Size) -> Result<()> {
    let what = format!("prompts[{index}]");
    let fail = |reason: String| Err(Error::input(&what, reason));
    if prompt.points.is_empty() && prompt.rect.is_none() && prompt.mask_logits.is_none() {
        return fail("expected a point, a box or mask logits, got none".into());
    }
    let (width, height) = (image.width as f32, image.height as f32);
    let inside = |x: f32, y: f32| (0.0..=width).contains(&x) && (0.0..=height).contains(&y);
    for p in &prompt.points {
        if !inside(p.x, p.y) {
            return fail(format!("point ({}, {}) lies outside the {image} image", p.x, p.y));
        }
    }
    if let Some(b) = &prompt.rect {
        let text = format!("box ({}, {}) to ({}, {})", b.x_min, b.y_min, b.x_max, b.y_max);
        if !inside(b.x_min, b.y_min) || !inside(b.x_max, b.y_max) {
            return fail(format!("{text} lies outside the {image} image"));
        }
        if b.x_min >= b.x_max || b.y_min >= b.y_max {
            return fail(format!("{text} is empty"));
        }
    }
    if let Some(mask) = &prompt.mask_logits {
        low_res.expect(&format!("{what}.mask_logits"), Size::of_map(mask))?;
        if let Some(value) = mask.iter().find(|v| !v.is_finite()) {
            return fail(format!("mask logits must be finite, got {value}"));
        }
    }
    Ok(())
}

/// The tokens of a prompt on an image of size `original` in pixels of the resized image, of size `input`, in the order of
/// the published program.
pub(crate) fn tokens(prompt: &Prompt, original: Size, input: Size) -> Vec<Token> {
    let scale_x = f64::from(input.width) / f64::from(original.width);
    let scale_y = f64::from(input.height) / f64::from(original.height);
    let token = |x: f32, y: f32, kind: PointKind| Token {
        x: (f64::from(x) * scale_x) as f32,
        y: (f64::from(y) * scale_y) as f32,
        kind,
    };
    let mut tokens: Vec<Token> = prompt
        .points
        .iter()
        .map(|p| token(p.x, p.y, if p.foreground { PointKind::Foreground } else { PointKind::Background }))
        .collect();
    match &prompt.rect {
        Some(b) => {
            tokens.push(token(b.x_min, b.y_min, PointKind::TopLeft));
            tokens.push(token(b.x_max, b.y_max, PointKind::BottomRight));
        }
        // Points without a box get an empty one in its place.
        None if !tokens.is_empty() => tokens.push(Token { x: 0.0, y: 0.0, kind: PointKind::Padding }),
        None => (),
    }
    tokens
}
