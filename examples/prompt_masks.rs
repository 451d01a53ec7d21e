//! Clicks and boxes on a photograph to masks, with CoralSCOP or Segment Anything.
//!
//! ```text
//! cargo run --release --example prompt_masks -- --weights vit_b_coralscop.pth --image reef.jpg --out out/masks \
//!     --point 120,80 --background-point 300,200 --box 10,20,200,220
//! cargo run --release --example prompt_masks -- --weights vit_b_coralscop.pth --image reef.jpg --out out/masks \
//!     --prompts prompts.csv --embedding out/reef.embedding
//! ```
//!
//! The points and the box of the command line are one prompt. A prompts file holds many: CSV with a click or a box a
//! line, lines of the same name forming one prompt, in pixels from the top left corner,
//!
//! ```text
//! prompt,kind,x,y,x2,y2
//! brain,foreground,120,80,,
//! brain,background,300,200,,
//! table,box,10,20,200,220
//! ```
//!
//! or JSON (`.json`): `[{"prompt": "brain", "foreground": [[120, 80]], "background": [[300, 200]]}, …]`, boxes as
//! `"box": [10, 20, 200, 220]`.
//!
//! Written are `mask_NAME.png` (1, shown white, inside and 0 outside; with `--multimask-output true` three,
//! numbered from the best) and `overlay.png`, the best masks with their prompts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::image::RgbImage;
use coral_core::{
    BoxPrompt, ClassId, ClassSet, Error, LabelMap, PointLabel, PointPrompt, Prompt, Result, RleMask, Size,
};
use coral_examples::{
    NamedPrompt, NetworkArguments, finish, make_folder, numbers, outline_width, read_prompts, spinner,
};
use coral_io::{
    ColoredMask, draw_contours, draw_points, instance_color, overlay_masks, read_image, write_image,
    write_palette_label_map,
};
use coral_models::{Embedding, Predictor, PredictorConfig};

/// How much of the overlay is the masks' colours.
const OPACITY: f32 = 0.4;
/// What the prompt of the command line is called.
const OWN_NAME: &str = "prompt";

/// Segments what clicks and boxes ask for.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// The photograph (PNG, JPEG, TIFF or BMP).
    #[arg(long)]
    image: PathBuf,
    /// The folder for the results.
    #[arg(long)]
    out: PathBuf,
    /// A pixel inside the object (repeatable).
    #[arg(long, value_name = "X,Y", allow_hyphen_values = true, value_parser = numbers::<2>)]
    point: Vec<[f32; 2]>,
    /// A pixel outside the object (repeatable).
    #[arg(long, value_name = "X,Y", allow_hyphen_values = true, value_parser = numbers::<2>)]
    background_point: Vec<[f32; 2]>,
    /// A box around the object: its left, top, right and bottom edge.
    #[arg(long = "box", value_name = "X,Y,X2,Y2", allow_hyphen_values = true, value_parser = numbers::<4>)]
    rect: Option<[f32; 4]>,
    /// Many prompts: CSV or JSON.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Three masks (whole, part, sub-part) per prompt instead of one.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    multimask_output: bool,
    /// Keeps the embedded image in this file, or takes it from there when it exists: the slow part of the work.
    #[arg(long, value_name = "FILE")]
    embedding: Option<PathBuf>,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    let prompts = prompts(arguments)?;
    let image = read_image(&arguments.image)?;
    let config = PredictorConfig { multimask_output: arguments.multimask_output, ..PredictorConfig::default() };
    let predictor = arguments.network.open()?.with_config(config)?;
    let classes = arguments.network.classes(predictor.sam().config(), None)?;
    let embedding = embed(&predictor, &image, arguments)?;
    let answers = answer(&predictor, &embedding, &prompts)?;
    make_folder(&arguments.out)?;
    write_masks(&arguments.out, &prompts, &answers)?;
    write_image(arguments.out.join("overlay.png"), &picture(&image, &prompts, &answers)?)?;
    Ok(format!("{}\nMasks and overlay.png are in {}\n", table(&prompts, &answers, &classes), arguments.out.display()))
}

/// The prompt of the command line, then those of the file.
fn prompts(arguments: &Arguments) -> Result<Vec<NamedPrompt>> {
    let Arguments { point, background_point, rect, prompts, .. } = arguments;
    let click = |foreground| move |&[x, y]: &[f32; 2]| PointPrompt { x, y, foreground };
    let points: Vec<_> = point.iter().map(click(true)).chain(background_point.iter().map(click(false))).collect();
    let rect = rect.map(|[x_min, y_min, x_max, y_max]| BoxPrompt { x_min, y_min, x_max, y_max });
    let mut all = Vec::new();
    if !points.is_empty() || rect.is_some() {
        all.push(NamedPrompt { name: OWN_NAME.into(), prompt: Prompt { points, rect, mask_logits: None } });
    }
    if let Some(path) = prompts {
        let more = read_prompts(path)?;
        if !all.is_empty() && more.iter().any(|one| one.name.eq_ignore_ascii_case(OWN_NAME)) {
            let reason = format!("`{OWN_NAME}` is the name of the prompt of the command line, expected another");
            return Err(Error::format(path, None, reason));
        }
        all.extend(more);
    }
    if all.is_empty() {
        return Err(Error::parameter("prompts", "expected --point, --background-point, --box or --prompts"));
    }
    Ok(all)
}

/// The embedded image, from the file when there is one.
fn embed(predictor: &Predictor, image: &RgbImage, arguments: &Arguments) -> Result<Embedding> {
    let size = Size::of(image);
    if let Some(path) = arguments.embedding.as_deref().filter(|path| path.exists()) {
        let embedding = Embedding::load(path, predictor.sam().device())?;
        if embedding.original_size() != size {
            let (found, image) = (embedding.original_size(), arguments.image.display());
            let reason = format!("it belongs to an image of {found}, but {image} has {size}; name another file");
            return Err(Error::format(path, None, reason));
        }
        return Ok(embedding);
    }
    let spinner = spinner("embedding the image");
    let embedding = predictor.embed(image)?;
    spinner.finish_and_clear();
    if let Some(path) = &arguments.embedding {
        embedding.save(path)?;
    }
    Ok(embedding)
}

/// A mask of a prompt.
struct Answer {
    mask: RleMask,
    predicted_iou: f32,
    class: Option<ClassId>,
}

/// The masks of each prompt, best first. Only runs are kept: whole masks of many prompts would fill the memory.
fn answer(predictor: &Predictor, embedding: &Embedding, prompts: &[NamedPrompt]) -> Result<Vec<Vec<Answer>>> {
    let mut answers = Vec::with_capacity(prompts.len());
    for batch in prompts.chunks(predictor.config().prompts_per_batch) {
        let asked: Vec<_> = batch.iter().map(|one| one.prompt.clone()).collect();
        let masks = predictor.predict_batch(embedding, &asked).map_err(|error| with_name(error, batch))?;
        let compact = |masks: Vec<coral_core::ScoredMask>| {
            let answer = |one: coral_core::ScoredMask| Answer {
                mask: RleMask::encode(&one.mask),
                predicted_iou: one.predicted_iou,
                class: one.class,
            };
            masks.into_iter().map(answer).collect()
        };
        answers.extend(masks.into_iter().map(compact));
    }
    Ok(answers)
}

/// Says the name of the prompt at fault instead of its position.
fn with_name(error: Error, prompts: &[NamedPrompt]) -> Error {
    let Error::InvalidInput { what, reason } = error else { return error };
    let at_fault = (0..prompts.len()).find(|at| what == format!("prompts[{at}]"));
    Error::input(at_fault.map_or(what, |at| format!("prompt {}", prompts[at].name)), reason)
}

/// The file of mask `number` of a prompt with `count` masks.
fn file_name(prompt: &str, number: usize, count: usize) -> String {
    if count == 1 { format!("mask_{prompt}.png") } else { format!("mask_{prompt}_{number}.png") }
}

fn write_masks(out: &Path, prompts: &[NamedPrompt], answers: &[Vec<Answer>]) -> Result<()> {
    let mut classes = ClassSet::from_names(["outside", "inside"])?;
    classes.set_color(0, [0; 3])?;
    classes.set_color(1, [255; 3])?;
    for (one, masks) in prompts.iter().zip(answers) {
        for (number, answer) in (1..).zip(masks) {
            let labels: LabelMap = answer.mask.decode().mapv(u8::from);
            write_palette_label_map(out.join(file_name(&one.name, number, masks.len())), &labels, &classes)?;
        }
    }
    Ok(())
}

/// The best mask of each prompt in a colour of its own, boxes white, foreground clicks green, background clicks red.
fn picture(image: &RgbImage, prompts: &[NamedPrompt], answers: &[Vec<Answer>]) -> Result<RgbImage> {
    let size = Size::of(image);
    let best = answers.iter().enumerate().filter_map(|(at, masks)| Some((at, masks.first()?)));
    let masks: Vec<_> =
        best.map(|(at, answer)| ColoredMask { mask: &answer.mask, color: instance_color(at) }).collect();
    let boxes: Vec<_> = prompts.iter().filter_map(|one| Some(box_mask(&one.prompt.rect?, size))).collect();
    let boxes: Vec<_> = boxes.iter().map(|mask| ColoredMask { mask, color: [255; 3] }).collect();
    let width = outline_width(size);
    let picture = draw_contours(&overlay_masks(image, &masks, OPACITY)?, &masks, width)?;
    let picture = draw_contours(&picture, &boxes, width)?;
    let mut kinds = ClassSet::from_names(["background", "foreground"])?;
    kinds.set_color(0, [230, 30, 30])?;
    kinds.set_color(1, [30, 200, 30])?;
    let clicks: Vec<_> = prompts
        .iter()
        .flat_map(|one| &one.prompt.points)
        .map(|point| PointLabel {
            // A click on the right or lower edge belongs to the last pixel.
            x: (point.x as u32).min(size.width - 1),
            y: (point.y as u32).min(size.height - 1),
            class: point.foreground.into(),
        })
        .collect();
    draw_points(&picture, &clicks, &kinds)
}

/// The pixels that a box holds at least in part.
fn box_mask(rect: &BoxPrompt, size: Size) -> RleMask {
    let inside = |pixel: u32, min: f32, max: f32| (pixel as f32 + 1.0) > min && (pixel as f32) < max;
    RleMask::from_fn(size, |x, y| inside(x, rect.x_min, rect.x_max) && inside(y, rect.y_min, rect.y_max))
}

fn table(prompts: &[NamedPrompt], answers: &[Vec<Answer>], classes: &ClassSet) -> String {
    let chars = |one: &NamedPrompt| one.name.chars().count() + 2;
    let wide = prompts.iter().map(chars).max().unwrap_or_default().max(8);
    let mut text = format!("{:wide$}  predicted IoU   area (px)  of image  class\n", "prompt");
    for (one, masks) in prompts.iter().zip(answers) {
        for (number, Answer { mask, predicted_iou, class }) in (1..).zip(masks) {
            let name = if masks.len() == 1 { one.name.clone() } else { format!("{} {number}", one.name) };
            let class = class.map_or_else(|| "-".into(), |id| classes.name(id));
            let percent = 100.0 * mask.area() as f64 / mask.size().pixels() as f64;
            let area = mask.area();
            text += &format!("{name:wide$}  {predicted_iou:>13.4} {area:>11} {percent:>7.2} %  {class}\n");
        }
    }
    text
}

#[cfg(test)]
#[path = "tests/prompt_masks.rs"]
mod tests;
