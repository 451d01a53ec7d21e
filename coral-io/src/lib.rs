#![doc = include_str!("../README.md")]

mod synthetic;

pub use synthetic::{GrowthForm, SyntheticReef, SyntheticReefConfig, SyntheticReefDataset, SyntheticScene};
