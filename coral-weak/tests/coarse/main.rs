//! Training from one label per photograph, on a made-up seabed.

mod conformance;
mod sea_clip;
mod sea_feats;
mod seagrass;
