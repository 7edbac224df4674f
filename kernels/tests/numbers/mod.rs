//! Formats, tallies and summaries.

mod difference;
mod element;
mod groups;
mod summary;
mod tally;
