//! One zstd frame (RFC 8878) around bytes of known length.
//!
//! A frame is accepted only when it states its content's length, that is the length we expect, and it fills
//! the bytes that it came in. So nothing is decoded before its size is known, nothing larger than expected is
//! allocated, and no second or skippable frame hides behind the first. Decoding goes straight into a buffer of
//! that length: whatever window a frame asks for, no memory is set aside for it. There are no dictionaries.

use zstd_safe::{CCtx, CParameter, DCtx, ParamSwitch};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Repetitions of words: text, JSON, tables.
    Text,
    /// Long repetitions, quickly: planes that hardly ever change.
    Runs,
    /// Only that some values are more frequent than others: exponents. Repetitions among them are chance, and
    /// looking for them costs both time and bytes.
    Literals,
}

impl Mode {
    const fn level(self) -> i32 {
        match self {
            Self::Text => 3,
            Self::Runs => 1,
            // Looks for a repetition every thousandth byte, so that runs of one value still are found.
            Self::Literals => -1000,
        }
    }
}

/// Compresses bytes; none when there is no memory for it.
pub(super) fn compress(bytes: &[u8], mode: Mode) -> Option<Vec<u8>> {
    let mut context = CCtx::try_create()?;
    context
        .set_parameter(CParameter::CompressionLevel(mode.level()))
        .ok()?;
    if mode == Mode::Literals {
        // Negative levels leave literals as they are unless they are told not to.
        let forced = CParameter::LiteralCompressionMode(ParamSwitch::Enable);
        context.set_parameter(forced).ok()?;
    }
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut frame, bytes).ok()?;
    Some(frame)
}

/// Decompresses a frame that must hold exactly `length` bytes.
pub(super) fn decompress(frame: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
    match zstd_safe::get_frame_content_size(frame) {
        Ok(Some(found)) if found == length as u64 => {}
        Ok(Some(_)) => return Err("its zstd frame states another length"),
        Ok(None) => return Err("its zstd frame does not state its length"),
        Err(_) => return Err("there is no zstd frame"),
    }
    let named = zstd_safe::get_error_name;
    if zstd_safe::find_frame_compressed_size(frame).map_err(named)? != frame.len() {
        return Err("bytes follow its zstd frame");
    }
    let mut bytes = Vec::with_capacity(length);
    let mut context = DCtx::try_create().ok_or("there is no memory to decode it")?;
    let found = context.decompress(&mut bytes, frame).map_err(named)?;
    if found != length {
        return Err("its zstd frame holds another length than it states");
    }
    Ok(bytes)
}
