//! The ledger's mathematics and bytes.

mod entries;
mod hostile;
mod merkle;
mod notes;
mod proofs;
mod submissions;
mod tiles;
mod world;
