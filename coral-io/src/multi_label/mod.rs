//! Photographs with several labels each: a table of files and classes.

mod dataset;
pub(crate) mod table;

pub use dataset::MultiLabelDataset;
pub use table::{MultiLabelConfig, MultiLabelTable, read_multi_labels};

#[cfg(test)]
mod tests;
