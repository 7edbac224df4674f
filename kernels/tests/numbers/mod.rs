//! Formats, tallies and summaries.

mod element;
mod groups;
mod summary;
mod tally;
