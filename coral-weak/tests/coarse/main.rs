//! Training from one label per photograph, on a made-up seabed.

mod sea_clip;
mod sea_feats;
mod seagrass;
