use std::fs;

use coral_core::image::{DynamicImage, ImageBuffer, Rgba};
use coral_io::read_label_map;

use super::*;

#[path = "reef_case.rs"]
mod reef_case;
use reef_case::ReefCase;

fn ask(reef: &ReefCase, more: &str) -> Result<String> {
    let flags = reef.flags("prompt_masks", &reef.photo("reef.png"), more);
    run(&Arguments::try_parse_from(flags).unwrap())
}

fn refuse(reef: &ReefCase, more: &str) -> String {
    ask(reef, more).unwrap_err().to_string()
}

/// The click of a mask of the reference.
fn click(reef: &ReefCase) -> (String, [f32; 2]) {
    let [x, y] = [0, 1].map(|at| reef.case.number(&format!("/annotations/0/point_coords/0/{at}")).unwrap() as f32);
    (format!("--point {x},{y}"), [x, y])
}

#[test]
fn a_click_gives_the_masks_of_the_predictor() {
    let reef = ReefCase::new();
    let (flag, [x, y]) = click(&reef);
    let report = ask(&reef, &format!("{flag} --background-point 0,0")).unwrap();
    let network = NetworkArguments {
        weights: Some(reef.weights()),
        decoder_heads: Some(reef.heads().parse().unwrap()),
        ..NetworkArguments::default()
    };
    let points = vec![PointPrompt { x, y, foreground: true }, PointPrompt { x: 0.0, y: 0.0, foreground: false }];
    let prompt = Prompt { points, ..Prompt::default() };
    for multimask_output in [false, true] {
        let config = PredictorConfig { multimask_output, ..PredictorConfig::default() };
        let predictor = network.open().unwrap().with_config(config).unwrap();
        let masks = predictor.predict(&predictor.embed(&reef.image()).unwrap(), &prompt).unwrap();
        if multimask_output {
            ask(&reef, &format!("{flag} --background-point 0,0 --multimask-output true")).unwrap();
        }
        assert_eq!(masks.len(), if multimask_output { 3 } else { 1 });
        for (number, mask) in (1..).zip(&masks) {
            let name = if multimask_output { format!("mask_prompt_{number}.png") } else { "mask_prompt.png".into() };
            assert_eq!(read_label_map(reef.at("out").join(name)).unwrap(), mask.mask.mapv(u8::from));
        }
        if !multimask_output {
            let line = report.lines().nth(1).unwrap();
            let area = masks[0].mask.iter().filter(|&&inside| inside).count();
            let percent = 100.0 * area as f64 / masks[0].mask.len() as f64;
            let class = ["background", "coral"][usize::from(masks[0].class.unwrap())];
            let expected = format!("{:>13.4} {area:>11} {percent:>7.2} %  {class}", masks[0].predicted_iou);
            assert_eq!(line, format!("prompt    {expected}"));
        }
    }
    let overlay = read_image(reef.at("out/overlay.png")).unwrap();
    assert_eq!(Size::of(&overlay), reef.size());
    assert_eq!(overlay.get_pixel(x as u32, y as u32).0, [30, 200, 30]);
    assert_eq!(overlay.get_pixel(0, 0).0, [230, 30, 30]);
}

#[test]
fn a_file_of_prompts_and_a_box() {
    let reef = ReefCase::new();
    let Size { width, height } = reef.size();
    let mut text = "prompt,kind,x,y,x2,y2\n".to_owned();
    for at in 0..11 {
        text += &format!("p{at},foreground,{},{},,\n", width * (at + 1) / 13, height * (at + 1) / 13);
    }
    text += &format!("all,box,0,0,{width},{height}\np3,background,{width},{height}\n");
    fs::write(reef.at("prompts.csv"), text).unwrap();
    let file = reef.at("prompts.csv").display().to_string();
    let [left, top, right, bottom] = [width / 8, height / 5, width / 2, height * 2 / 3];
    let rect = format!("--box {left},{top},{right}.5,{bottom}");
    let report = ask(&reef, &format!("{rect} --prompts {file}")).unwrap();
    let first: Vec<_> = report.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first[..4], ["prompt", "prompt", "p0", "p1"]);
    for name in ["prompt", "p0", "p10", "all"] {
        let map = read_label_map(reef.at("out").join(format!("mask_{name}.png"))).unwrap();
        assert_eq!(Size::of_map(&map), reef.size());
        assert!(map.iter().all(|&id| id <= 1));
    }
    // The outline of the box lies in its first and last pixels.
    ask(&reef, &rect).unwrap();
    let overlay = read_image(reef.at("out/overlay.png")).unwrap();
    let (x, y) = ((left + right) / 2, (top + bottom) / 2);
    for (x, y) in [(left, y), (right, y), (x, top), (x, bottom - 1)] {
        assert_eq!(overlay.get_pixel(x, y).0, [255; 3], "({x}, {y})");
    }
    assert_ne!(overlay.get_pixel(left - 1, y).0, [255; 3]);

    fs::write(reef.at("prompts.csv"), "prompt,kind,x,y\na,foreground,1,2\nPrompt,background,3,4\n").unwrap();
    let text = refuse(&reef, &format!("--point 3,3 --prompts {file}"));
    assert!(text.contains("prompts.csv: `prompt` is the name of the prompt of the command line"), "{text}");
    fs::write(reef.at("prompts.csv"), "prompt,kind,x,y\na,foreground,1,2\nb,foreground,1,\n").unwrap();
    assert!(refuse(&reef, &format!("--prompts {file}")).contains("prompts.csv:3: expected a number in `y`, got ``"));
}

#[test]
fn an_embedding_is_kept_for_images_of_its_size() {
    let reef = ReefCase::new();
    let (flag, _) = click(&reef);
    let file = reef.at("reef.embedding");
    let flags = format!("{flag} --embedding {}", file.display());
    let first = ask(&reef, &flags).unwrap();
    let mask = || fs::read(reef.at("out/mask_prompt.png")).unwrap();
    let (saved, drawn) = (fs::read(&file).unwrap(), mask());
    assert_eq!(ask(&reef, &flags).unwrap(), first);
    assert_eq!((fs::read(&file).unwrap(), mask()), (saved.clone(), drawn.clone()));

    // Another photograph of the size: the mask of the first one shows that the file was used.
    let Size { width, height } = reef.size();
    write_image(reef.photo("reef.png"), &RgbImage::new(width, height)).unwrap();
    ask(&reef, &flags).unwrap();
    assert_eq!(mask(), drawn);
    write_image(reef.photo("reef.png"), &RgbImage::new(width + 1, height)).unwrap();
    let text = refuse(&reef, &flags);
    let expected = format!("reef.embedding: it belongs to an image of {width}x{height}, but ");
    assert!(text.contains(&expected) && text.contains(&format!("has {}x{height}", width + 1)), "{text}");
    fs::write(&file, &saved[..saved.len() / 2]).unwrap();
    assert!(refuse(&reef, &flags).contains("reef.embedding: not a saved embedding"));
}

#[test]
fn images_of_any_depth_are_read() {
    let reef = ReefCase::new();
    let deep = ImageBuffer::from_fn(50, 31, |x, y| Rgba([x as u16 * 1000, y as u16 * 2000, 9, 3]));
    DynamicImage::from(deep).save(reef.photo("reef.png")).unwrap();
    // The right and lower edges belong to the image.
    ask(&reef, "--point 50,31").unwrap();
    assert_eq!(read_label_map(reef.at("out/mask_prompt.png")).unwrap().dim(), (31, 50));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let reef = ReefCase::new();
    let Size { width, height } = reef.size();
    let outside = format!("prompt prompt`: point (3, {}) lies outside the {width}x{height} image", height + 1);
    let cases = [
        (String::new(), "`prompts`: expected --point, --background-point, --box or --prompts"),
        (format!("--point 3,{}", height + 1), outside.as_str()),
        ("--point -1,4".into(), "point (-1, 4) lies outside the"),
        ("--box 9,9,4,20".into(), "box (9, 9) to (4, 20) is empty"),
        ("--point 1,1 --prompts gone.csv".into(), "gone.csv: No such file"),
        ("--point 1,1 --image-size 101".into(), "`image_size`: expected a multiple of "),
    ];
    for (flags, expected) in cases {
        let text = refuse(&reef, &flags);
        assert!(text.contains(expected), "{text}");
    }
    fs::write(reef.photo("reef.png"), "").unwrap();
    assert!(
        refuse(&reef, "--point 1,1").ends_with("photos/reef.png: not an image: expected a PNG, JPEG, TIFF or BMP file")
    );
    assert!(!reef.at("out").exists());
    for flags in ["--point 1", "--point 1,2,3", "--box 1,2,x,4", "--multimask-output maybe"] {
        assert!(Arguments::try_parse_from(reef.flags("prompt_masks", &reef.photo("reef.png"), flags)).is_err());
    }
    let bare = ["prompt_masks", "--image", "a.png", "--out", "out", "--point", "1,1"];
    assert!(run(&Arguments::try_parse_from(bare).unwrap()).unwrap_err().to_string().starts_with("a.png: No such file"));
}
