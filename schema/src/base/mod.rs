//! The small values everything else is made of. Each is parsed once, at the door; from then on its type
//! says that its rules hold.

pub mod bytes;
pub mod digest;
pub mod hours;
pub mod json;
pub mod key;
pub mod name;
pub(crate) mod text;
pub mod time;
