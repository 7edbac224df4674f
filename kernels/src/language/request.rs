//! From texts to what the forward pass is asked, with the windows of lm-evaluation-harness.
//!
//! Requests that share an input share a forward pass: the four letters of a multiple choice cost one.

use std::collections::{BTreeMap, HashMap};

use super::error::Stop;
use super::forward::{Answer, Sequence};
use super::template::is_space;
use super::tokens::Tokens;

/// A part of a request: tokens at the end of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    sequence: usize,
    /// The position after which the first token is asked for.
    first: usize,
    tokens: Vec<u32>,
}

/// One number that a task needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pieces: Vec<Piece>,
    /// Whether some context did not fit.
    pub(crate) truncated: bool,
}

/// What a model says to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reply {
    pub(crate) loglikelihood: f64,
    /// Whether every token was the likeliest.
    pub(crate) greedy: bool,
    pub(crate) tokens: usize,
}

/// Collects the sequences of all requests.
pub(crate) struct Requests<'a> {
    tokens: &'a Tokens,
    length_max: usize,
    known: HashMap<Vec<u32>, usize>,
    asked: Vec<BTreeMap<usize, Vec<u32>>>,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(tokens: &'a Tokens, length_max: usize) -> Self {
        Self {
            tokens,
            length_max,
            known: HashMap::new(),
            asked: Vec::new(),
        }
    }

    /// Asks how likely a continuation is.
    pub(crate) fn continuation(
        &mut self,
        context: &str,
        continuation: &str,
    ) -> Result<Result<Request, String>, Stop> {
        let (context, continuation) = if context.is_empty() {
            let tokens = self.tokens.plainly(continuation)?;
            match tokens.split_first() {
                Some((first, rest)) if *first == self.tokens.prefix => (vec![*first], rest.to_vec()),
                _ => (vec![self.tokens.prefix], tokens),
            }
        } else {
            // White space at the end of the context belongs to the continuation, as words begin with it.
            let kept = context.trim_end_matches(is_space);
            let whole = self.tokens.of(&format!("{context}{continuation}"))?;
            let mut context = self.tokens.of(kept)?;
            let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
            context = whole[..whole.len() - continuation.len()].to_vec();
            if context.is_empty() {
                context.push(self.tokens.prefix);
            }
            (context, continuation)
        };
        if continuation.is_empty() {
            return Ok(Err("its continuation has no tokens".to_owned()));
        }
        if continuation.len() > self.length_max {
            let problem = format!(
                "its continuation has {} tokens, an input at most {}",
                continuation.len(),
                self.length_max
            );
            return Ok(Err(problem));
        }
        let mut request = Request::default();
        self.piece(&mut request, context, continuation);
        Ok(Ok(request))
    }

    /// Asks how likely a whole text is, in windows that each see at least one token before.
    pub(crate) fn rolling(&mut self, text: &str) -> Result<Request, Stop> {
        let tokens = self.tokens.of(text)?;
        let mut request = Request::default();
        let mut done = 0;
        while done < tokens.len() {
            let count = self.length_max.min(tokens.len() - done);
            let end = done + count;
            let context = if done == 0 {
                vec![self.tokens.prefix]
            } else {
                // A window is as long as can be: a short last one looks further back.
                tokens[end - self.length_max - 1..done].to_vec()
            };
            self.piece(&mut request, context, tokens[done..end].to_vec());
            done = end;
        }
        Ok(request)
    }

    /// Adds a piece: context and continuation, cut from the left so that the input fits.
    fn piece(&mut self, request: &mut Request, context: Vec<u32>, continuation: Vec<u32>) {
        let mut input = context;
        input.extend_from_slice(&continuation);
        input.pop();
        if let Some(excess) = input.len().checked_sub(self.length_max).filter(|n| *n > 0) {
            input.drain(..excess);
            request.truncated = true;
        }
        let first = input.len() - continuation.len();
        let next = self.asked.len();
        let sequence = *self.known.entry(input).or_insert(next);
        if sequence == next {
            self.asked.push(BTreeMap::new());
        }
        for (at, token) in continuation.iter().enumerate() {
            let targets = self.asked[sequence].entry(first + at).or_default();
            if !targets.contains(token) {
                targets.push(*token);
            }
        }
        request.pieces.push(Piece {
            sequence,
            first,
            tokens: continuation,
        });
    }

    /// Returns the sequences that answer all requests.
    pub(crate) fn sequences(self) -> Vec<Sequence> {
        let mut sequences = vec![Sequence::default(); self.asked.len()];
        for (tokens, at) in self.known {
            sequences[at].tokens = tokens;
        }
        for (sequence, asked) in sequences.iter_mut().zip(self.asked) {
            sequence.asked = asked.into_iter().collect();
        }
        sequences
    }
}

impl Request {
    /// Reads a request's reply from the answers to all sequences. Sums run in the order of tokens.
    pub(crate) fn reply(&self, sequences: &[Sequence], answers: &[Vec<Answer>]) -> Reply {
        let mut reply = Reply {
            loglikelihood: 0.0,
            greedy: true,
            tokens: 0,
        };
        for piece in &self.pieces {
            let (asked, answers) = (&sequences[piece.sequence].asked, &answers[piece.sequence]);
            let start = asked.partition_point(|(position, _)| *position < piece.first);
            for (at, token) in piece.tokens.iter().enumerate() {
                let ((_, targets), answer) = (&asked[start + at], &answers[start + at]);
                let target = targets.iter().position(|target| target == token);
                let log = target.and_then(|at| answer.log_probabilities.get(at));
                reply.loglikelihood += log.copied().unwrap_or(f64::NAN);
                reply.greedy &= answer.best == *token;
            }
            reply.tokens += piece.tokens.len();
        }
        reply
    }
}
