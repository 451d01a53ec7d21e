use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;

use super::jobs::parts_of_products;
use super::linear::column_sums;
use super::product::{Matrix, Output, product};
use super::real::{Real, by_type, is_native, real_values, with_values};
use super::{gelu, linear, products_with_transposed};

/// The end of Segment Anything's mask decoder. The `layer` (weight and bias) turns each of B×(2h·2w)×D tokens, the four
/// children of a token next to each other, into its own four children of C values, which after a GELU are multiplied by each
/// mask's weights, B×M×C: B×M×4h×4w pixels.
///
/// Between the tokens and the pixels lie the largest tensors of a training; none of them is kept for the gradients.
pub(crate) fn draw_masks(tokens: &Tensor, layer: [&Tensor; 2], masks: &Tensor, grid: (usize, usize)) -> Result<Tensor> {
    let sizes = Sizes::of(tokens.shape(), layer[0].shape(), masks.shape(), grid)?;
    if layer[1].dims() != [sizes.width()] {
        candle_core::bail!("a bias of {:?} for {} values", layer[1].dims(), sizes.width());
    }
    let arguments = [tokens, layer[0], layer[1], masks];
    let tracked = arguments.iter().any(|argument| argument.track_op());
    if !tracked || !is_native(&arguments) || arguments.iter().any(|argument| argument.elem_count() == 0) {
        return composed(tokens, layer, masks, sizes);
    }
    let parameters = Tensor::cat(&[layer[0].flatten_all()?, layer[1].flatten_all()?], 0)?;
    tokens.contiguous()?.apply_op3(&parameters, &masks.contiguous()?, Drawing { grid })
}

/// The same from single operations; only the finished masks are brought into the order of pixels.
fn composed(tokens: &Tensor, [weight, bias]: [&Tensor; 2], masks: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let Sizes { batch, count, channels, grid: (height, width), .. } = sizes;
    let x = gelu(&linear(tokens, weight, Some(bias))?)?.reshape((batch, sizes.pixels(), channels))?;
    products_with_transposed(masks, &x)?
        .reshape(&[batch * count, height, width, 2, 2, 2, 2][..])?
        .permute(&[0, 1, 3, 5, 2, 4, 6][..])?
        .contiguous()?
        .reshape((batch, count, 4 * height, 4 * width))
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    /// Tokens of an image, four times h·w.
    tokens: usize,
    /// D.
    inner: usize,
    /// M.
    count: usize,
    /// C.
    channels: usize,
    /// h and w.
    grid: (usize, usize),
}

/// What lies between the tokens and the pixels of one image.
struct Between<T> {
    /// Children before and after the GELU, 16h·w×C.
    before: Vec<T>,
    after: Vec<T>,
    /// M×16h·w, children in the order of tokens.
    planes: Vec<T>,
}

impl Sizes {
    fn of(tokens: &Shape, weight: &Shape, masks: &Shape, grid: (usize, usize)) -> Result<Self> {
        let ((batch, tokens, inner), (width, other_inner)) = (tokens.dims3()?, weight.dims2()?);
        let (other_batch, count, channels) = masks.dims3()?;
        let fits = batch == other_batch && inner == other_inner && width == 4 * channels;
        if !fits || tokens != 4 * grid.0 * grid.1 {
            candle_core::bail!("masks {masks:?} of {batch}x{tokens}x{inner} tokens by {weight:?} on {grid:?}");
        }
        Ok(Self { batch, tokens, inner, count, channels, grid })
    }

    /// Of a mask.
    fn pixels(&self) -> usize {
        4 * self.tokens
    }

    fn width(&self) -> usize {
        4 * self.channels
    }

    /// Multiplications of an image.
    fn work(&self) -> usize {
        self.pixels() * self.channels * (self.inner + self.count)
    }

    /// The pixel of each child in the order of tokens.
    fn places(&self) -> Vec<usize> {
        let columns = self.grid.1;
        let place = |index: usize| {
            let (token, child, grandchild) = (index / 16, index / 4 % 4, index % 4);
            let y = 4 * (token / columns) + 2 * (child / 2) + grandchild / 2;
            let x = 4 * (token % columns) + 2 * (child % 2) + grandchild % 2;
            y * 4 * columns + x
        };
        (0..self.pixels()).map(place).collect()
    }

    fn scratch<T: Real>(&self) -> Between<T> {
        let zeros = |len: usize| vec![T::zero(); len];
        let values = self.pixels() * self.channels;
        Between { before: zeros(values), after: zeros(values), planes: zeros(self.count * self.pixels()) }
    }

    /// One image's part of a tensor.
    fn part<'a, T>(&self, values: &'a [T], image: usize) -> &'a [T] {
        let len = values.len() / self.batch;
        &values[image * len..][..len]
    }

    fn raise<T: Real>(&self, tokens: &[T], parameters: &[T], between: &mut Between<T>) {
        let (weight, bias) = parameters.split_at(self.width() * self.inner);
        between.before.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias));
        let tokens = Matrix::new(tokens, self.tokens, self.inner, self.inner);
        let weight = Matrix::new(weight, self.width(), self.inner, self.inner).transposed();
        let out = Output { data: &mut between.before, row_stride: self.width(), accumulate: true };
        product(tokens, weight, T::one(), out, 1);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || between.after.iter_mut().zip(&between.before).for_each(|(after, before)| *after = before.gelu()),
        );
    }

    fn forward<T: Real>(&self, [tokens, parameters, masks]: [&[T]; 3]) -> Vec<T> {
        let (pixels, channels, places) = (self.pixels(), self.channels, self.places());
        let mut out = vec![T::zero(); self.batch * self.count * pixels];
        let images = parts_of_products(out.par_chunks_exact_mut(self.count * pixels), self.work());
        images.enumerate().for_each_init(
            || self.scratch(),
            |between, (image, out)| {
                self.raise(self.part(tokens, image), parameters, between);
                let masks = Matrix::new(self.part(masks, image), self.count, channels, channels);
                let after = Matrix::new(&between.after, pixels, channels, channels);
                let planes = Output { data: &mut between.planes, row_stride: pixels, accumulate: false };
                product(masks, after.transposed(), T::one(), planes, 1);
                for (out, plane) in out.chunks_exact_mut(pixels).zip(between.planes.chunks_exact(pixels)) {
                    places.iter().zip(plane).for_each(|(&place, &value)| out[place] = value);
                }
            },
        );
        out
    }

    /// Gradients of tokens, parameters and masks.
    fn backward<T: Real>(&self, [tokens, parameters, masks, gradient]: [&[T]; 4]) -> [Vec<T>; 3] {
        let places = self.places();
        let mut of_tokens = vec![T::zero(); tokens.len()];
        let mut of_masks = vec![T::zero(); masks.len()];
        let images = of_tokens
            .par_chunks_exact_mut(self.tokens * self.inner)
            .zip(of_masks.par_chunks_exact_mut(self.count * self.channels));
        let of_image = |between: &mut Between<T>, (image, (of_tokens, of_masks)): (usize, (&mut [T], &mut [T]))| {
            let tokens = self.part(tokens, image);
            self.raise(tokens, parameters, between);
            let slopes = self.part(gradient, image).chunks_exact(self.pixels());
            for (plane, slopes) in between.planes.chunks_exact_mut(self.pixels()).zip(slopes) {
                places.iter().zip(plane).for_each(|(&place, value)| *value = slopes[place]);
            }
            self.lower([tokens, parameters, self.part(masks, image)], between, of_tokens, of_masks)
        };
        let images = parts_of_products(images, 3 * self.work()).enumerate();
        let of_parameters: Vec<Vec<T>> = images.map_init(|| self.scratch(), of_image).collect();
        // In the order of images, so that the sum does not depend on the threads.
        let total = |at: usize| T::from_f64(of_parameters.iter().map(|part| WithDType::to_f64(part[at])).sum());
        let total = (0..parameters.len()).map(total).collect();
        [of_tokens, total, of_masks]
    }

    /// From the slopes in the planes of an image to those in its tokens and masks, and the parameters' share.
    fn lower<T: Real>(
        &self,
        [tokens, parameters, masks]: [&[T]; 3],
        between: &mut Between<T>,
        of_tokens: &mut [T],
        of_masks: &mut [T],
    ) -> Vec<T> {
        let (pixels, channels, width, inner) = (self.pixels(), self.channels, self.width(), self.inner);
        let planes = Matrix::new(&between.planes, self.count, pixels, pixels);
        let out = Output { data: of_masks, row_stride: channels, accumulate: false };
        product(planes, Matrix::new(&between.after, pixels, channels, channels), T::one(), out, 1);
        // What came after the GELU is not needed any more.
        let slopes = &mut between.after;
        let masks = Matrix::new(masks, self.count, channels, channels);
        let out = Output { data: slopes, row_stride: channels, accumulate: false };
        product(planes.transposed(), masks, T::one(), out, 1);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || slopes.iter_mut().zip(&between.before).for_each(|(slope, before)| *slope *= before.gelu_slope()),
        );
        let rows = Matrix::new(slopes, self.tokens, width, width);
        let weight = Matrix::new(&parameters[..width * inner], width, inner, inner);
        product(rows, weight, T::one(), Output { data: of_tokens, row_stride: inner, accumulate: false }, 1);
        let mut of_parameters = vec![T::zero(); width * inner];
        let out = Output { data: &mut of_parameters, row_stride: inner, accumulate: false };
        product(rows.transposed(), Matrix::new(tokens, self.tokens, inner, inner), T::one(), out, 1);
        of_parameters.extend(column_sums(slopes, width));
        of_parameters
    }
}

struct Drawing {
    grid: (usize, usize),
}

impl Drawing {
    /// The sizes that the arguments' shapes say, which [`draw_masks`] checked.
    fn sizes(&self, tokens: &Shape, masks: &Shape) -> Result<Sizes> {
        let ((batch, tokens, inner), (_, count, channels)) = (tokens.dims3()?, masks.dims3()?);
        Ok(Sizes { batch, tokens, inner, count, channels, grid: self.grid })
    }
}

impl CustomOp3 for Drawing {
    fn name(&self) -> &'static str {
        "draw_masks"
    }

    fn cpu_fwd(
        &self,
        tokens: &CpuStorage,
        tokens_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
        masks: &CpuStorage,
        masks_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(sizes: Sizes, arguments: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
            let [tokens, parameters, masks] = arguments.map(|(storage, layout)| real_values::<T>(storage, layout));
            Ok(T::to_cpu_storage_owned(sizes.forward([tokens?, parameters?, masks?])))
        }
        let sizes = self.sizes(tokens_layout.shape(), masks_layout.shape())?;
        let arguments = [(tokens, tokens_layout), (parameters, parameters_layout), (masks, masks_layout)];
        let shape = (sizes.batch, sizes.count, 4 * self.grid.0, 4 * self.grid.1);
        Ok((by_type!(tokens.dtype(), compute(sizes, arguments))?, shape.into()))
    }

    fn bwd(
        &self,
        tokens: &Tensor,
        parameters: &Tensor,
        masks: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn compute<T: Real>(sizes: Sizes, tensors: [&Tensor; 4]) -> Result<[Option<Tensor>; 3]> {
            let [of_tokens, of_parameters, of_masks] = with_values(tensors, |values| sizes.backward::<T>(values))?;
            let tensor = |list: Vec<T>, like: &Tensor| match like.track_op() {
                true => Tensor::from_vec(list, like.shape(), like.device()).map(Some),
                false => Ok(None),
            };
            Ok([tensor(of_tokens, tensors[0])?, tensor(of_parameters, tensors[1])?, tensor(of_masks, tensors[2])?])
        }
        let sizes = self.sizes(tokens.shape(), masks.shape())?;
        let tensors = [tokens, parameters, masks, &gradient.contiguous()?];
        let [of_tokens, of_parameters, of_masks] = by_type!(tokens.dtype(), compute(sizes, tensors))?;
        Ok((of_tokens, of_parameters, of_masks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    /// Batch, masks, channels, inner size, rows and columns of the grid.
    const SHAPES: [[usize; 6]; 4] = [[1, 1, 1, 1, 1, 1], [2, 3, 2, 5, 2, 3], [3, 1, 3, 2, 1, 4], [1, 4, 5, 7, 3, 2]];

    /// Tokens, weight, bias and masks.
    fn arguments([batch, count, channels, inner, rows, columns]: [usize; 6]) -> [Tensor; 4] {
        [
            random(&[batch, 4 * rows * columns, inner], 1),
            random(&[4 * channels, inner], 2),
            random(&[4 * channels], 3),
            random(&[batch, count, channels], 4),
        ]
    }

    #[test]
    fn masks_and_gradients_agree_with_their_composition() {
        for shape in SHAPES.into_iter().chain([[3, 2, 8, 16, 9, 11]]) {
            let grid = (shape[4], shape[5]);
            let all = arguments(shape).map(|argument| tracked(&argument));
            let [tokens, weight, bias, masks] = &all;
            let sizes = Sizes::of(tokens.shape(), weight.shape(), masks.shape(), grid).unwrap();
            let ours = draw_masks(tokens, [weight, bias], masks, grid).unwrap();
            let expected = composed(tokens, [weight, bias], masks, sizes).unwrap();
            assert_close(&ours.detach(), &expected.detach(), 1e-5);
            let gradients = |y: &Tensor| (y * random(y.dims(), 9)).unwrap().sum_all().unwrap().backward().unwrap();
            let (ours, expected) = (gradients(&ours), gradients(&expected));
            for variable in &all {
                assert_close(ours.get(variable).unwrap(), expected.get(variable).unwrap(), 2e-4);
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for shape in SHAPES {
            let grid = (shape[4], shape[5]);
            let [tokens, weight, bias, masks] = arguments(shape).map(|t| t.to_dtype(DType::F64).unwrap());
            assert_gradients(&[&tokens, &weight, &bias, &masks], |v| draw_masks(&v[0], [&v[1], &v[2]], &v[3], grid));
            // Only some are variables.
            assert_gradients(&[&tokens], |v| draw_masks(&v[0], [&weight, &bias], &masks, grid));
            assert_gradients(&[&bias, &masks], |v| draw_masks(&tokens, [&weight, &v[0]], &v[1], grid));
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let all = arguments([5, 3, 16, 32, 8, 9]).map(|argument| tracked(&argument));
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let [tokens, weight, bias, masks] = &all;
                let y = draw_masks(tokens, [weight, bias], masks, (8, 9)).unwrap();
                let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                all.each_ref().map(|v| gradients.get(v).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap())
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn misfits_are_errors_and_nothing_gives_nothing() {
        let [tokens, weight, bias, masks] = arguments(SHAPES[1]).map(|argument| tracked(&argument));
        assert!(draw_masks(&tokens, [&weight, &bias], &masks, (3, 3)).is_err());
        assert!(draw_masks(&tokens, [&tokens, &bias], &masks, (2, 3)).is_err());
        assert!(draw_masks(&tokens, [&weight, &bias.narrow(0, 0, 3).unwrap()], &masks, (2, 3)).is_err());
        let [tokens, weight, bias, masks] = arguments([0, 3, 2, 5, 2, 3]).map(|argument| tracked(&argument));
        assert_eq!(draw_masks(&tokens, [&weight, &bias], &masks, (2, 3)).unwrap().dims(), [0, 3, 8, 12]);
    }
}
