use std::fmt;
use std::ops::AddAssign;

use coral_core::{
    Error, ImageRaster, ImageWindow, LabelMap, LabelSink, PatchGrid, ProbMap, Progress, Rect, Result, Segmenter, Size,
    UNLABELED,
};
use ndarray::{Array2, Zip};

use super::band::Band;
use super::image_band::ImageBand;
use super::{Fusion, RasterMapConfig};
use crate::parallel;
use crate::sliding_window::probable_labels;

/// Makes class maps of rasters that are larger than memory: overlapping tiles, from the top row of tiles to the bottom,
/// fused as `config` says.
///
/// A sink that holds rows already is continued: the result is the same as without the interruption.
/// Pixels without data are [`UNLABELED`]; tiles without any are skipped. Of equally supported classes the first wins.
/// Memory: one row of tiles with a score for each class and pixel, and twice `tiles_in_flight` tiles.
///
/// # Examples
/// ```
/// use coral_core::{LabelMap, NoProgress, Size, image::RgbImage};
/// use coral_weak::{ConstantClassifier, RasterMapConfig, RasterMapper, SlidingWindow, SlidingWindowConfig};
/// let side = |side| Size { width: side, height: side };
/// let windows = SlidingWindowConfig { patch: side(4), stride: side(4), ..Default::default() };
/// let segmenter = SlidingWindow::new(ConstantClassifier::new(1, 3)?, windows)?;
/// let config = RasterMapConfig { tile: side(8), stride: side(4), ..Default::default() };
/// let raster = RgbImage::new(21, 10);
/// let mut map = LabelMap::default((0, 0));
/// RasterMapper { raster: &raster, config: &config, progress: &NoProgress }.segment(&segmenter, &mut map)?;
/// assert_eq!(map, LabelMap::from_elem((10, 21), 1));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Contini et al., *The point is the mask* (2025), inference; their vote gives wrong class ids when a class is never
/// predicted and leaves the right and bottom remainders out. Golden case `coarse_map` (`vote/*`), exact.
#[derive(Clone, Copy)]
pub struct RasterMapper<'a> {
    /// What is mapped.
    pub raster: &'a dyn ImageRaster,
    /// Tiles, and how they agree.
    pub config: &'a RasterMapConfig,
    /// Hears of the tiles.
    pub progress: &'a dyn Progress,
}

impl fmt::Debug for RasterMapper<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RasterMapper").field("config", self.config).finish_non_exhaustive()
    }
}

impl RasterMapper<'_> {
    /// The map by a segmenter.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field of the config; [`Error::ShapeMismatch`] when the segmenter answers in
    /// another size; the errors of the raster, the segmenter and the sink.
    pub fn segment(&self, segmenter: &dyn Segmenter, sink: &mut dyn LabelSink) -> Result<()> {
        let classes = segmenter.num_classes();
        let segment = |window: &ImageWindow| probabilities(segmenter, window);
        let add =
            |band: &mut Band<f32>, at, (scores, valid): (ProbMap, Array2<bool>)| band.add(at, scores.view(), &valid);
        match self.config.fusion {
            Fusion::Votes => self.vote(classes, &|window| probable_labels(&segment(window)?, 0.0), sink),
            Fusion::Probabilities => self.fuse(classes, |window| Ok((segment(&window)?, window.valid)), add, sink),
            Fusion::Logits => {
                // Logits differ from the logarithms by a number that is the same for all classes of a pixel.
                let log = |probability: f32| probability.max(f32::MIN_POSITIVE).ln();
                self.fuse(classes, |window| Ok((segment(&window)?.mapv_into(log), window.valid)), add, sink)
            }
        }
    }

    /// The map by any way to label a tile: each tile votes for its labels, [`UNLABELED`] for none.
    ///
    /// # Errors
    /// Those of [`segment`](Self::segment); [`Error::UnknownClass`] for a label past `num_classes`.
    pub fn vote(
        &self,
        num_classes: usize,
        label: &(dyn Fn(&ImageWindow) -> Result<LabelMap> + Sync),
        sink: &mut dyn LabelSink,
    ) -> Result<()> {
        let votes = |window: ImageWindow| {
            let mut labels = label(&window)?;
            Size::of(&window.image).expect("the tile's labels", Size::of_map(&labels))?;
            Zip::from(&mut labels).and(&window.valid).for_each(|label, &valid| {
                if !valid {
                    *label = UNLABELED;
                }
            });
            match labels.iter().find(|&&label| label != UNLABELED && usize::from(label) >= num_classes) {
                Some(label) => Err(Error::UnknownClass {
                    class: label.to_string(),
                    expected: format!("an id below {num_classes}"),
                }),
                None => Ok(labels),
            }
        };
        self.fuse(num_classes, votes, |band: &mut Band<u16>, at, labels| band.vote(at, &labels, 1), sink)
    }

    /// Answers tiles in parallel, adds the answers in the order of the tiles, and hands over rows when they are complete.
    fn fuse<T, A>(
        &self,
        classes: usize,
        answer: impl Fn(ImageWindow) -> Result<A> + Sync + Send,
        add: impl Fn(&mut Band<T>, Rect, A),
        sink: &mut dyn LabelSink,
    ) -> Result<()>
    where
        T: Copy + Default + PartialOrd + AddAssign + Send + Sync,
        A: Send,
    {
        self.config.validate()?;
        if !(1..=usize::from(UNLABELED)).contains(&classes) {
            return Err(Error::parameter("num_classes", format!("expected 1 to {UNLABELED}, got {classes}")));
        }
        let size = self.raster.size();
        let inside = |side: Size| Size { width: side.width.min(size.width), height: side.height.min(size.height) };
        let patch = inside(self.config.tile);
        let windows = PatchGrid::Stride { patch, stride: inside(self.config.stride) }.patches(size)?;
        let done = sink.rows_written();
        if done >= size.height {
            return Ok(());
        }
        // Tiles above the first open row say nothing that is not written yet.
        let windows: Vec<Rect> = windows.into_iter().filter(|window| window.y + window.height > done).collect();
        self.progress.start(windows.len() as u64, "tiles");
        let mut image = ImageBand::new(self.raster);
        let mut band = Band::new(size.width as usize, patch.height as usize, classes, done as usize);
        let mut answered = Vec::new();
        for row in windows.chunk_by(|a, b| a.y == b.y) {
            let top = row[0].y;
            image.move_to(top, top + patch.height)?;
            for tiles in row.chunks(self.config.tiles_in_flight) {
                let of_tile = |tile| image.cut(tile).map(|window| answer(window).map(|answer| (tile, answer)));
                // Meanwhile the tiles before these are added and what they complete is written: no core waits for that.
                let (answers, written) = parallel::map_beside(tiles.to_vec(), of_tile, || {
                    answered.drain(..).for_each(|(tile, answer)| add(&mut band, tile, answer));
                    write(sink, &band.close(top as usize))
                });
                written?;
                answered = answers.into_iter().flatten().collect::<Result<_>>()?;
                self.progress.advance(tiles.len() as u64);
            }
        }
        answered.drain(..).for_each(|(tile, answer)| add(&mut band, tile, answer));
        write(sink, &band.close(size.height as usize))?;
        self.progress.finish();
        Ok(())
    }
}

/// What the segmenter says of a tile, checked.
fn probabilities(segmenter: &dyn Segmenter, window: &ImageWindow) -> Result<ProbMap> {
    const WHAT: &str = "the segmenter's probabilities";
    let probabilities = segmenter.segment(&window.image)?;
    let text = |(classes, height, width)| format!("{classes}x{height}x{width}");
    let (height, width) = Size::of(&window.image).shape();
    let expected = (segmenter.num_classes(), height, width);
    if probabilities.dim() != expected {
        return Err(Error::shape(WHAT, text(expected), text(probabilities.dim())));
    }
    if probabilities.iter().any(|probability| probability.is_nan()) {
        return Err(Error::input(WHAT, "expected numbers, got NaN"));
    }
    Ok(probabilities)
}

fn write(sink: &mut dyn LabelSink, rows: &LabelMap) -> Result<()> {
    if rows.is_empty() { Ok(()) } else { sink.write_rows(rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::{Rgb, RgbImage};
    use coral_core::{CountingProgress, NoProgress, SeededRng};
    use ndarray::s;

    const CLASSES: usize = 3;

    /// Class probabilities that depend on a pixel's colour and on its place in the tile.
    struct Colors;

    impl Segmenter for Colors {
        fn num_classes(&self) -> usize {
            CLASSES
        }

        fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
            let (height, width) = Size::of(image).shape();
            let mut map = ProbMap::from_shape_fn((CLASSES, height, width), |(class, y, x)| {
                let color = image.get_pixel(x as u32, y as u32).0[class];
                1.0 + f32::from(color) + ((x * 7 + y * 3 + class * 11) % 19) as f32
            });
            let sums = map.sum_axis(ndarray::Axis(0));
            map.outer_iter_mut().for_each(|mut plane| plane /= &sums);
            Ok(map)
        }
    }

    /// An image with a hole.
    struct Holed(RgbImage);

    impl Holed {
        fn holds(x: u32, y: u32) -> bool {
            !((5..17).contains(&x) && (3..14).contains(&y))
        }
    }

    impl ImageRaster for Holed {
        fn size(&self) -> Size {
            Size::of(&self.0)
        }

        fn read_image(&self, window: Rect) -> Result<ImageWindow> {
            let mut answer = self.0.read_image(window)?;
            for ((y, x), valid) in answer.valid.indexed_iter_mut() {
                *valid = Self::holds(window.x + x as u32, window.y + y as u32);
            }
            Ok(answer)
        }
    }

    fn picture(width: u32, height: u32) -> RgbImage {
        let mut random = SeededRng::new(9);
        RgbImage::from_fn(width, height, |_, _| Rgb([0; 3].map(|_: u8| random.range(0.0, 30.0) as u8)))
    }

    /// All tiles at once, in memory.
    fn naive(raster: &RgbImage, config: &RasterMapConfig, holds: fn(u32, u32) -> bool) -> LabelMap {
        let size = Size::of(raster);
        let (height, width) = size.shape();
        let mut scores = ndarray::Array3::<f64>::zeros((CLASSES, height, width));
        for tile in (PatchGrid::Stride { patch: config.tile, stride: config.stride }).patches(size).unwrap() {
            let map = Colors.segment(&tile.crop(raster)).unwrap();
            for ((y, x), _) in map.index_axis(ndarray::Axis(0), 0).indexed_iter() {
                let cell = map.slice(s![.., y, x]);
                let best = (0..CLASSES).rev().max_by(|&a, &b| cell[a].total_cmp(&cell[b])).unwrap();
                for class in 0..CLASSES {
                    scores[[class, tile.y as usize + y, tile.x as usize + x]] += match config.fusion {
                        Fusion::Votes => f64::from(u8::from(class == best)),
                        Fusion::Probabilities => f64::from(cell[class]),
                        Fusion::Logits => f64::from(cell[class].ln()),
                    };
                }
            }
        }
        LabelMap::from_shape_fn((height, width), |(y, x)| {
            let cell = scores.slice(s![.., y, x]);
            let best = (0..CLASSES).rev().max_by(|&a, &b| cell[a].total_cmp(&cell[b])).unwrap();
            if holds(x as u32, y as u32) { best as u8 } else { UNLABELED }
        })
    }

    #[test]
    fn streaming_equals_all_at_once() {
        for (width, height) in [(40, 31), (17, 50), (12, 9)] {
            let image = picture(width, height);
            for fusion in [Fusion::Votes, Fusion::Logits, Fusion::Probabilities] {
                let tile = Size { width: 12, height: 9 };
                for stride in [Size { width: 5, height: 4 }, tile] {
                    let config = RasterMapConfig { tile, stride, fusion, tiles_in_flight: 3 };
                    let mut map = LabelMap::default((0, 0));
                    RasterMapper { raster: &Holed(image.clone()), config: &config, progress: &NoProgress }
                        .segment(&Colors, &mut map)
                        .unwrap();
                    assert_eq!(map, naive(&image, &config, Holed::holds), "{width}x{height}, {fusion:?}, {stride}");
                }
            }
        }
    }

    #[test]
    fn an_interrupted_map_goes_on() {
        let image = picture(30, 41);
        let (tile, stride) = (Size { width: 12, height: 9 }, Size { width: 7, height: 4 });
        for fusion in [Fusion::Votes, Fusion::Logits] {
            let config = RasterMapConfig { tile, stride, fusion, ..Default::default() };
            let map = |mut map: LabelMap| {
                RasterMapper { raster: &Holed(image.clone()), config: &config, progress: &NoProgress }
                    .segment(&Colors, &mut map)
                    .unwrap();
                map
            };
            let whole = map(LabelMap::default((0, 0)));
            for rows in [1, 4, 9, 13, 38, 40, 41] {
                assert_eq!(map(whole.slice(s![..rows, ..]).to_owned()), whole, "{rows} rows, {fusion:?}");
            }
        }
    }

    #[test]
    fn small_rasters_are_one_tile() {
        let image = picture(7, 5);
        let config = RasterMapConfig::default();
        let (mut map, progress) = (LabelMap::default((0, 0)), CountingProgress::default());
        RasterMapper { raster: &image, config: &config, progress: &progress }.segment(&Colors, &mut map).unwrap();
        let side = Size { width: 7, height: 5 };
        assert_eq!(map, naive(&image, &RasterMapConfig { tile: side, stride: side, ..config }, |_, _| true));
        assert_eq!(progress.done(), 1);
    }

    /// Answers that are not probabilities of the image.
    struct Wrong(ProbMap);

    impl Segmenter for Wrong {
        fn num_classes(&self) -> usize {
            CLASSES
        }

        fn segment(&self, _: &RgbImage) -> Result<ProbMap> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn bad_probabilities_are_named() {
        let text = |map: ProbMap, fusion| {
            let (config, mut sink) = (RasterMapConfig { fusion, ..Default::default() }, LabelMap::default((0, 0)));
            let mapper = RasterMapper { raster: &picture(7, 5), config: &config, progress: &NoProgress };
            mapper.segment(&Wrong(map), &mut sink).unwrap_err().to_string()
        };
        for fusion in [Fusion::Votes, Fusion::Logits, Fusion::Probabilities] {
            let transposed = text(ProbMap::zeros((CLASSES, 7, 5)), fusion);
            assert_eq!(transposed, "the segmenter's probabilities: expected shape 3x5x7, got 3x7x5");
            assert!(text(ProbMap::from_elem((CLASSES, 5, 7), f32::NAN), fusion).contains("expected numbers, got NaN"));
        }
    }

    #[test]
    fn bad_answers_are_named() {
        let image = picture(7, 5);
        let run = |config: &RasterMapConfig, label: &(dyn Fn(&ImageWindow) -> Result<LabelMap> + Sync)| {
            let mut map = LabelMap::default((0, 0));
            RasterMapper { raster: &image, config, progress: &NoProgress }
                .vote(CLASSES, label, &mut map)
                .unwrap_err()
                .to_string()
        };
        let config = RasterMapConfig::default();
        let fill = |class| move |window: &ImageWindow| Ok(LabelMap::from_elem(window.valid.dim(), class));
        assert!(run(&config, &fill(3)).contains("an id below 3"));
        assert!(run(&config, &|_| Ok(LabelMap::zeros((2, 2)))).contains("the tile's labels"));
        assert!(run(&config, &|_| Err(Error::input("tile", "broken"))).contains("broken"));
        let stride = Size { width: 0, height: 1 };
        assert!(run(&RasterMapConfig { stride, ..config }, &fill(0)).contains("stride"));
        let stride = Size { width: 2, height: 2 };
        assert!(run(&RasterMapConfig { stride, ..config }, &fill(0)).contains("more than 4096"));
        assert!(run(&RasterMapConfig { tiles_in_flight: 0, ..config }, &fill(0)).contains("tiles_in_flight"));
    }
}
