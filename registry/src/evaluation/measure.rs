//! An order, carried out: the code that looks at bytes of strangers, on a thread or in a process of its own.
//!
//! Invariant: what is found depends on the order and the files' bytes only; not on where this runs, and not on what it
//! computes on.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use waag_kernels::language::{LanguageError, ModelSource as _, Options, Precision, Residency};
use waag_schema::ChunkDigest;
use waag_schema::statement::scorecard::Section;

use super::device::Computer;
use super::language::{self, Scored};
use super::line::{Done, Failed, Line, Lineage, Order, Shelf, Work};
use super::lineage::{self, Side};
use super::source::ShelfSource;
use super::speed::{self, Meter};
use super::suite::{self, SuiteError};
use super::weigher::give_way;
use super::{WeighError, Weighed, Weighing};

/// What ends a measurement.
pub(super) enum Stop {
    /// A GPU has failed.
    Gpu(String),
    Failed(Failed),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<WeighError> for Stop {
    fn from(error: WeighError) -> Self {
        match error {
            WeighError::Gpu { error, .. } => Self::Gpu(error.to_string()),
            other => Self::Failed(Failed::Here(other.to_string())),
        }
    }
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Gpu(why) => Self::Here(why),
            Stop::Failed(failed) => failed,
        }
    }
}

impl From<lineage::LineageError> for Stop {
    fn from(error: lineage::LineageError) -> Self {
        Self::Failed(Failed::Here(error.to_string()))
    }
}

/// Takes an order from this socket, carries it out, and says what it found. `confine` is called before the first byte of
/// a file is looked at, when all that this needs of the machine is at hand; `on_hangup` when nobody waits any more.
pub(super) fn attend(
    stream: UnixStream,
    confine: impl FnOnce(&Order, &Computer),
    on_hangup: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    give_way();
    let (line, order) = Line::open(stream, on_hangup)?;
    let outcome = match order.device.open() {
        Err(why) => Err(Failed::Here(why.to_string())),
        Ok(computer) => {
            let pool = rayon::ThreadPoolBuilder::new()
                .thread_name(|at| format!("weigh-{at}"))
                .start_handler(|_| give_way())
                .build();
            // While files can be opened.
            let meter = Meter::find(computer.gpu().map(AsRef::as_ref));
            confine(&order, &computer);
            match pool {
                Ok(pool) => pool.install(|| carry_out(&order, &line, computer, &meter)),
                // Threads are short: this one is there.
                Err(_) => carry_out(&order, &line, computer, &meter),
            }
        }
    };
    line.end(outcome)
}

/// Carries an order out, on the processor if the GPU fails and the processor will do.
fn carry_out(
    order: &Order,
    line: &Line,
    computer: Computer,
    meter: &Result<Meter, String>,
) -> Result<Done, Failed> {
    let (sections, details, computer) = match &order.work {
        Work::Language { bf16, memory_bytes } => {
            let (scored, computer) = language(order, line, &computer, *bf16, *memory_bytes)?;
            let details = scored.details();
            (vec![scored.section], details, computer)
        }
        Work::Speed {
            bf16,
            memory_bytes,
            seconds,
        } => {
            let source = ShelfSource::new(&order.model, line);
            let options = Options {
                precision: precision(*bf16),
                memory_bytes: *memory_bytes,
                cancel: Some(line.cancel()),
                gpu: computer.gpu(),
                ..Options::default()
            };
            let section = match speed::measure(&source, options, Duration::from_secs(*seconds), meter) {
                Ok(section) => section,
                // The store may be better next time; what is wrong with the model stays wrong.
                Err(error @ (LanguageError::Read { .. } | LanguageError::Cancelled)) => {
                    return Err(Failed::Here(error.to_string()));
                }
                Err(error) => Section::not_measured(speed::SECTION, &error.to_string()),
            };
            (vec![section], Vec::new(), computer)
        }
        Work::Weights { why_none, lineage } => {
            let on = |computer: &Computer| weights(order, line, computer, why_none, lineage);
            let (weighed, computer) = match on(&computer) {
                Err(Stop::Gpu(why)) => match computer.without_gpu(&why) {
                    Some(processor) => (on(&processor)?, processor),
                    None => return Err(Failed::Here(why)),
                },
                weighed => (weighed?, computer),
            };
            (weighed.sections, weighed.details, computer)
        }
    };
    Ok(Done {
        device: computer.device(),
        fallback: computer.fallback().map(str::to_owned),
        sections,
        details,
    })
}

fn weights(
    order: &Order,
    line: &Line,
    computer: &Computer,
    why_none: &str,
    lineage: &Lineage,
) -> Result<Weighed, Stop> {
    let mut weighing = Weighing::on(computer);
    for (path, recipe) in &order.model {
        if weighing.is_refused() {
            break;
        }
        weighing.begin(path, recipe.size());
        let chunks: Vec<ChunkDigest> = recipe.pieces().iter().map(|piece| piece.chunk).collect();
        let mut pieces = recipe.pieces().iter();
        line.each(&chunks, |raw| {
            let short = || Stop::from(io::Error::from(io::ErrorKind::UnexpectedEof));
            let piece = pieces.next().ok_or_else(short)?;
            let own = raw.get(piece.offset as usize..piece.offset as usize + piece.length as usize);
            weighing.take(own.ok_or_else(short)?)?;
            line.passed(u64::from(piece.length));
            Ok::<_, Stop>(())
        })?;
        weighing.end()?;
    }
    let (section, changed) = match lineage {
        Lineage::None(why) => lineage::none(why),
        Lineage::Base { tokenizer_equal } => {
            let (ours, theirs) = (
                ShelfSource::new(&order.model, line),
                ShelfSource::new(&order.other, line),
            );
            let side = |source, shelf| Side::stored(source, shelf);
            let (ours, theirs) = (side(&ours, &order.model), side(&theirs, &order.other));
            lineage::of(ours, theirs, *tokenizer_equal, &weighing)?
        }
    };
    Ok(weighing.finish_with(why_none, section, &changed))
}

fn language(
    order: &Order,
    line: &Line,
    computer: &Computer,
    bf16: bool,
    memory_bytes: u64,
) -> Result<(Scored, Computer), Failed> {
    let questions = suite::of_files(&documents(&order.other, line)?).map_err(|e| no_suite(&e))?;
    let source = ShelfSource::new(&order.model, line);
    let options = Options {
        precision: precision(bf16),
        residency: Residency::Streaming,
        memory_bytes,
        cancel: Some(line.cancel()),
        ..Options::default()
    };
    match language::score_on(computer, &source, &questions, options) {
        // The store may be better next time, or the GPU; what is wrong with the model stays wrong.
        Err(error @ (LanguageError::Read { .. } | LanguageError::Cancelled | LanguageError::Gpu(_))) => {
            Err(Failed::Here(error.to_string()))
        }
        Err(error) => Ok((Scored::none(&error.to_string()), computer.clone())),
        scored => scored.map_err(|error| Failed::Here(error.to_string())),
    }
}

const fn precision(bf16: bool) -> Precision {
    if bf16 { Precision::Bf16 } else { Precision::F32 }
}

fn no_suite(error: &SuiteError) -> Failed {
    Failed::Suite(error.to_string())
}

/// Reads the files of a suite.
fn documents(shelf: &Shelf, line: &Line) -> Result<BTreeMap<String, Vec<u8>>, Failed> {
    let sizes = shelf.iter().map(|(path, recipe)| (path.as_str(), recipe.size()));
    let source = ShelfSource::new(shelf, line);
    let mut held = BTreeMap::new();
    for (path, size) in suite::parts(sizes).map_err(|e| no_suite(&e))? {
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        source.read(path, 0, &mut bytes)?;
        held.insert(path.to_owned(), bytes);
    }
    Ok(held)
}
