//! What a pull writes: outputs, each of them paths and ordered segments.
//!
//! ```text
//! output  = paths | key | digest? | segment...
//! segment = bytes that are known here | a range of a content (a layer's blob, by its recipe)
//! ```
//! A whole file is one segment; a file packed in an archive is one range of that; a subset of tensors is a
//! header made here and ranges. Invariant: a content's recipe is the one that the publisher signed, so every
//! byte of a range is part of a chunk whose digest is known.

use std::ops::Range;

use waag_schema::content::Recipe;
use waag_schema::{ChunkDigest, FilePath, Sha256};

/// Names of files in a message, at most; an archive holds thousands.
const SHOWN_MAX: usize = 5;

/// Bytes that a site has: one blob of the release, with its recipe.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// What chunks are asked for through.
    pub(crate) sha256: Sha256,
    /// How it is made of chunks, checked against what was signed.
    pub(crate) recipe: Recipe,
}

/// A stretch of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Bytes that were made here.
    Literal(Vec<u8>),
    /// Bytes of a content.
    Range {
        /// Which, by its place in [`Wanted::contents`].
        content: usize,
        /// Which of its bytes; within its size.
        range: Range<u64>,
    },
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Literal(bytes) => bytes.len() as u64,
            Self::Range { range, .. } => range.end - range.start,
        }
    }
}

/// A file to be written, under one name or several.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// What it is called while it is built: the same segments have the same key in every attempt.
    pub(crate) key: Sha256,
    /// Its SHA-256, where somebody signed it or an earlier pull kept it.
    pub(crate) digest: Option<Sha256>,
    /// The file of the release that it is made of, if it is not that file.
    pub(crate) from: Option<Sha256>,
    /// At least one.
    pub(crate) paths: Vec<FilePath>,
    /// In their order; none for an empty file.
    pub(crate) segments: Vec<Segment>,
}

impl Output {
    /// A file whose digest was signed, which is this range of a content.
    pub(crate) fn signed(digest: Sha256, paths: Vec<FilePath>, content: usize, range: Range<u64>) -> Self {
        let segments = if range.is_empty() {
            Vec::new()
        } else {
            vec![Segment::Range { content, range }]
        };
        Self {
            key: digest,
            digest: Some(digest),
            from: None,
            paths,
            segments,
        }
    }

    /// Returns how many bytes it has.
    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(Segment::length).sum()
    }

    /// Says whether only its own digest tells that it is the file that was signed: the digests of its chunks tell
    /// it of a whole content, not of a part that somebody listed.
    pub(crate) fn is_listed(&self, contents: &[Content]) -> bool {
        let whole = match self.segments.as_slice() {
            [Segment::Range { content, range }] => *range == (0..contents[*content].recipe.size()),
            _ => false,
        };
        self.digest.is_some() && !whole
    }

    /// Returns what it is made of, piece by piece, in order.
    pub(crate) fn spans<'a>(&'a self, contents: &'a [Content]) -> impl Iterator<Item = Span<'a>> + 'a {
        let mut end = 0;
        self.segments.iter().flat_map(move |segment| {
            let start = end;
            end += segment.length();
            spans_of(segment, start, contents)
        })
    }
}

/// A stretch of an output that has one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    /// Where in the output.
    pub(crate) offset: u64,
    /// Where its bytes come from.
    pub(crate) source: Source<'a>,
}

/// Where the bytes of a span come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// They are these.
    Literal(&'a [u8]),
    /// They are bytes of a chunk.
    Chunk {
        /// The chunk.
        chunk: ChunkDigest,
        /// The content through which it is asked for.
        content: usize,
        /// Which of its bytes.
        within: Range<u32>,
        /// How long the chunk is at least.
        length: u32,
        /// Whether these are, as far as the recipe says, all of it: then they have a digest of their own.
        whole: bool,
    },
}

fn spans_of<'a>(
    segment: &'a Segment,
    start: u64,
    contents: &'a [Content],
) -> impl Iterator<Item = Span<'a>> + 'a {
    let (literal, range) = match segment {
        Segment::Literal(bytes) => (Some(bytes.as_slice()), None),
        Segment::Range { content, range } => (None, Some((*content, range.clone()))),
    };
    let literal = literal.map(|bytes| Span {
        offset: start,
        source: Source::Literal(bytes),
    });
    let mut offset = start;
    let pieces = range.into_iter().flat_map(move |(content, range)| {
        let recipe = &contents[content].recipe;
        let parts = recipe.pieces_for(range);
        parts.map(move |part| {
            let piece = recipe.pieces()[part.index];
            let whole = piece.offset == 0 && part.within == (0..piece.length);
            (content, part, piece.offset + piece.length, whole)
        })
    });
    let pieces = pieces.map(move |(content, part, length, whole)| {
        let at = offset;
        offset += u64::from(part.within.end - part.within.start);
        Span {
            offset: at,
            source: Source::Chunk {
                chunk: part.chunk,
                content,
                within: part.within,
                length,
                whole,
            },
        }
    });
    literal.into_iter().chain(pieces)
}

/// Everything that one pull writes.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// What bytes come from; each blob once.
    pub(crate) contents: Vec<Content>,
    /// What is written; each key once, each path once.
    pub(crate) outputs: Vec<Output>,
}

impl Wanted {
    /// Returns how many bytes the outputs have, each once for every name.
    pub(crate) fn bytes(&self) -> u64 {
        let named = |output: &Output| output.size().saturating_mul(output.paths.len() as u64);
        self.outputs.iter().map(named).fold(0, u64::saturating_add)
    }

    /// Returns how many files the outputs are.
    pub(crate) fn files(&self) -> u64 {
        self.outputs.iter().map(|output| output.paths.len() as u64).sum()
    }

    /// Names the files that take bytes from a content, for a message.
    pub(crate) fn shown(&self, sha256: &Sha256) -> String {
        let takes = |output: &&Output| {
            output.segments.iter().any(|segment| match segment {
                Segment::Literal(_) => false,
                Segment::Range { content, .. } => self.contents[*content].sha256 == *sha256,
            })
        };
        let mut paths = self.outputs.iter().filter(takes).flat_map(|o| &o.paths);
        let mut names: Vec<&str> = paths.by_ref().take(SHOWN_MAX).map(FilePath::as_str).collect();
        if paths.next().is_some() {
            names.push("...");
        }
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use waag_schema::content::{Piece, PlannerId, RecipeBuilder};

    use super::*;

    fn content(lengths: &[u32]) -> Content {
        let mut builder = RecipeBuilder::new(PlannerId::FastCdc1);
        for (i, length) in lengths.iter().enumerate() {
            let chunk = ChunkDigest::of(&[i as u8]);
            let piece = Piece {
                chunk,
                offset: 0,
                length: *length,
            };
            builder.push(piece).unwrap();
        }
        Content {
            sha256: Sha256::of(b"content"),
            recipe: builder.finish(),
        }
    }

    #[test]
    fn the_spans_of_an_output_cover_it_in_order() {
        let wanted = Wanted {
            contents: vec![content(&[10, 20, 30])],
            outputs: vec![Output {
                key: Sha256::of(b"key"),
                digest: None,
                from: None,
                paths: vec!["a".parse().unwrap()],
                segments: vec![
                    Segment::Literal(b"head".to_vec()),
                    Segment::Range {
                        content: 0,
                        range: 5..35,
                    },
                    Segment::Range {
                        content: 0,
                        range: 30..60,
                    },
                ],
            }],
        };
        let output = &wanted.outputs[0];
        let spans: Vec<_> = output
            .spans(&wanted.contents)
            .map(|span| match span.source {
                Source::Literal(bytes) => (span.offset, bytes.len() as u32, 0, false),
                Source::Chunk { within, whole, .. } => {
                    (span.offset, within.end - within.start, within.start, whole)
                }
            })
            .collect();
        assert_eq!(
            spans,
            [
                (0, 4, 0, false),
                (4, 5, 5, false),
                (9, 20, 0, true),
                (29, 5, 0, false),
                (34, 30, 0, true)
            ]
        );
        assert_eq!(output.size(), 64);
    }

    #[test]
    fn an_empty_file_has_no_spans() {
        let output = Output::signed(Sha256::of(b""), vec!["a".parse().unwrap()], 0, 0..0);
        assert_eq!((output.size(), output.spans(&[]).count()), (0, 0));
    }
}
