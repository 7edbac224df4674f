//! Formats, tallies and summaries.

mod element;
mod summary;
mod tally;
