/// Turns logits into probabilities; `-inf` becomes 0. Logits that are all `-inf`, or of which one is NaN or `+inf`,
/// have none and become NaN.
pub(crate) fn softmax<'a>(logits: impl IntoIterator<Item = &'a mut f32>) {
    let mut logits: Vec<&mut f32> = logits.into_iter().collect();
    let highest = logits.iter().fold(f32::NEG_INFINITY, |highest, logit| highest.max(**logit));
    // In double precision: the probabilities of a thousand prompts have to sum to 1.
    let exponentials: Vec<f64> = logits.iter().map(|logit| f64::from(**logit - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    logits.iter_mut().zip(exponentials).for_each(|(logit, exponential)| **logit = (exponential / sum) as f32);
}

#[cfg(test)]
mod tests {
    use super::softmax;

    #[test]
    fn large_and_absent_logits_are_fine() {
        let mut logits = [1000.0, f32::NEG_INFINITY, 1000.0 + std::f32::consts::LN_2];
        softmax(&mut logits);
        assert!((logits[0] - 1.0 / 3.0).abs() < 1e-4 && logits[1] == 0.0 && (logits[2] - 2.0 / 3.0).abs() < 1e-4);
        let mut none = [f32::NEG_INFINITY; 2];
        softmax(&mut none);
        assert!(none[0].is_nan());
    }
}
