//! What a site and its weigher say to each other over a socket: lines of JSON, some with the bytes that they count.
//!
//! ```text
//! site     {"order": {...}} bytes                          once: what to measure, and the recipes of its files
//! weigher  {"get": {"chunks": [...], "passed": n}}         as often as it likes; two may be open
//! site     {"chunk": {"bytes": n}} bytes                   one for each chunk, in order, as it is stored
//!          {"failed": {"why": "..."}}                      or this
//! weigher  {"done": {...}} bytes  |  {"failed": {...}}     once: the sections and their details, or why not
//! ```
//!
//! The weigher's end is here, blocking; the site's end is the bench. Invariant: the weigher sees chunks of the files that
//! it was ordered to measure, each checked against its digest, and nothing else of the site.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waag_schema::ChunkDigest;
use waag_schema::content::recipe::Recipe;
use waag_schema::statement::scorecard::{Device, Section};

use super::device::DeviceChoice;
use crate::content::{Content, ContentError};

/// The most bytes of a line: all sections that a scorecard may have.
pub(super) const LINE_BYTES_MAX: u64 = 16 << 20;
/// The most chunks that are asked for in one line.
pub(super) const BATCH: usize = 8;
/// Lines that are asked before the first is answered: so that the site reads while the weigher measures.
const OPEN_MAX: usize = 2;
/// Chunks that have come and were not looked at yet, of 4 MiB at most.
const AHEAD: usize = 2;
/// The most bytes of a stored chunk: what its encoding adds is little.
const STORED_BYTES_MAX: u64 = 8 << 20;

/// The files of a release, by path.
pub(super) type Shelf = BTreeMap<String, Recipe>;

/// What to measure.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) work: Work,
    pub(super) device: DeviceChoice,
    /// How much memory the weigher may take in all, where it is a process of its own.
    pub(super) limit_bytes: u64,
    pub(super) model: Shelf,
    /// The files of the base, or of the suite.
    pub(super) other: Shelf,
}

/// What is to be done with the files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Measure the weights, and compare them with the base.
    Weights {
        /// Why there is none to measure, if there is none.
        why_none: String,
        lineage: Lineage,
    },
    /// Ask the model a suite.
    Language {
        bf16: bool,
        /// How much memory its rows may take.
        memory_bytes: u64,
    },
    /// Measure how fast the model is.
    Speed {
        bf16: bool,
        /// How much memory its weights may take.
        memory_bytes: u64,
        /// How long rounds are begun.
        seconds: u64,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Lineage {
    /// There is no base to compare with, and why.
    None(String),
    Base {
        tokenizer_equal: bool,
    },
}

/// An order as its line has it: behind it come the recipes, one after the other.
#[derive(Serialize, Deserialize)]
struct OrderLine {
    work: Work,
    device: DeviceChoice,
    limit_bytes: u64,
    model: Vec<(String, u64)>,
    other: Vec<(String, u64)>,
}

/// What the site says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromSite {
    Order(OrderLine),
    Chunk { bytes: u64 },
    Failed { why: String },
}

/// What the weigher says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromWeigher {
    Get {
        chunks: Vec<ChunkDigest>,
        /// How many bytes were measured since the last time.
        passed: u64,
    },
    /// Behind it come the details.
    Done(DoneLine),
    Failed(Failed),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DoneLine {
    pub(super) device: Device,
    pub(super) fallback: Option<String>,
    pub(super) sections: Vec<Section>,
    /// How many bytes were measured since the last question.
    pub(super) passed: u64,
    /// Of details.
    pub(super) bytes: u64,
}

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) device: Device,
    /// Why it was not computed on a GPU, where that would have been taken.
    pub(super) fallback: Option<String>,
    pub(super) sections: Vec<Section>,
    pub(super) details: Vec<u8>,
}

/// Why nothing was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failed {
    /// The suite is none that can be asked, and stays so.
    Suite(String),
    /// It may go better the next time.
    Here(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Here(error.to_string())
    }
}

/// Returns a line and its end.
fn line_of(said: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(said).expect("text, numbers and lists always serialise");
    line.push(b'\n');
    line
}

/// Returns what a chunk is announced with, or what is said in its stead.
pub(super) fn answer_line(chunk: Result<&Bytes, &ContentError>) -> Vec<u8> {
    line_of(&match chunk {
        Ok(stored) => FromSite::Chunk {
            bytes: stored.len() as u64,
        },
        Err(error) => FromSite::Failed {
            why: error.to_string(),
        },
    })
}

impl Order {
    /// Returns its line and its recipes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut recipes = Vec::new();
        let mut listed = |shelf: &Shelf| -> Vec<(String, u64)> {
            let one = |(path, recipe): (&String, &Recipe)| {
                let bytes = recipe.canonical();
                recipes.extend_from_slice(&bytes);
                (path.clone(), bytes.len() as u64)
            };
            shelf.iter().map(one).collect()
        };
        let (model, other) = (listed(&self.model), listed(&self.other));
        let mut line = line_of(&FromSite::Order(OrderLine {
            work: self.work.clone(),
            device: self.device,
            limit_bytes: self.limit_bytes,
            model,
            other,
        }));
        line.append(&mut recipes);
        line
    }

    fn read(from: &mut impl io::BufRead) -> io::Result<Self> {
        let FromSite::Order(order) = read_line(from)? else {
            return Err(wrong("an order was expected"));
        };
        let mut shelf = |listed: Vec<(String, u64)>| -> io::Result<Shelf> {
            let mut shelf = Shelf::new();
            for (path, size) in listed {
                let recipe = Recipe::decode(&read_bytes(from, size, u64::MAX)?);
                shelf.insert(path, recipe.map_err(|e| wrong(&e.to_string()))?);
            }
            Ok(shelf)
        };
        Ok(Self {
            work: order.work,
            device: order.device,
            limit_bytes: order.limit_bytes,
            model: shelf(order.model)?,
            other: shelf(order.other)?,
        })
    }
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

fn gone() -> io::Error {
    io::Error::other("stopped before the end, as asked")
}

fn read_line<T: DeserializeOwned>(from: &mut impl io::BufRead) -> io::Result<T> {
    let mut line = Vec::new();
    // What the site says of a release of many files may be long; the site is believed.
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(|e| wrong(&e.to_string()))
}

fn read_bytes(from: &mut impl Read, size: u64, most: u64) -> io::Result<Vec<u8>> {
    if size > most {
        return Err(wrong("more bytes are announced than there can be"));
    }
    let mut bytes = Vec::new();
    from.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// The weigher's end. Threads may ask side by side.
pub(super) struct Line {
    speaking: Mutex<Speaking>,
    passed: AtomicU64,
    /// True once nobody waits any more.
    cancel: Arc<AtomicBool>,
    /// True once the last word was said here.
    ended: Arc<AtomicBool>,
}

struct Speaking {
    to: UnixStream,
    answers: Receiver<Result<Bytes, String>>,
}

impl Line {
    /// Takes the order, and listens from then on. `on_hangup` is called when the site's end is closed before the last
    /// word was said.
    pub(super) fn open(
        stream: UnixStream,
        on_hangup: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, Order)> {
        let mut from = BufReader::with_capacity(1 << 18, stream.try_clone()?);
        let order = Order::read(&mut from)?;
        let (say, answers) = sync_channel(AHEAD);
        let cancel = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicBool::new(false));
        let (hangup, own_end) = (Arc::clone(&cancel), Arc::clone(&ended));
        std::thread::Builder::new()
            .name("ear".to_owned())
            .spawn(move || {
                // Whatever ends it: nothing more will be heard.
                let _ = listen(from, &say);
                hangup.store(true, Ordering::Relaxed);
                drop(say);
                if !own_end.load(Ordering::Relaxed) {
                    on_hangup();
                }
            })?;
        let line = Self {
            speaking: Mutex::new(Speaking { to: stream, answers }),
            passed: AtomicU64::new(0),
            cancel,
            ended,
        };
        Ok((line, order))
    }

    /// Is true once nobody waits any more.
    pub(super) fn cancel(&self) -> &AtomicBool {
        &self.cancel
    }

    /// Counts bytes that were measured; the site is told the next time that it is asked for something.
    pub(super) fn passed(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Hands these chunks over in this order, raw and checked, the next ones being on their way. Ends at the first error.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        chunks: &[ChunkDigest],
        mut take: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<(), E> {
        // A thread that panicked has left nothing half said: it panics where it takes.
        let mut speaking = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batches = chunks.chunks(BATCH);
        let (mut asked, mut open) = (chunks.iter(), 0);
        for batch in batches.by_ref().take(OPEN_MAX) {
            open += batch.len();
            self.ask(&mut speaking.to, batch)?;
        }
        let mut done = Ok(());
        while open > 0 {
            let answer = speaking.answers.recv().map_err(|_| gone())?;
            open -= 1;
            let Some(digest) = asked.next() else { break };
            if done.is_ok() {
                done = opened(answer, *digest).map_err(E::from).and_then(&mut take);
            }
            // What was asked for is awaited in any case, so that the next answer is to the next question.
            if done.is_ok()
                && open <= (OPEN_MAX - 1) * BATCH
                && let Some(batch) = batches.next()
            {
                open += batch.len();
                self.ask(&mut speaking.to, batch)?;
            }
        }
        done
    }

    fn ask(&self, to: &mut UnixStream, chunks: &[ChunkDigest]) -> io::Result<()> {
        to.write_all(&line_of(&FromWeigher::Get {
            chunks: chunks.to_vec(),
            passed: self.passed.swap(0, Ordering::Relaxed),
        }))
    }

    /// Says the last word.
    pub(super) fn end(&self, outcome: Result<Done, Failed>) -> io::Result<()> {
        let mut speaking = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Err(failed) => speaking.to.write_all(&line_of(&FromWeigher::Failed(failed))),
            Ok(done) => {
                let line = line_of(&FromWeigher::Done(DoneLine {
                    device: done.device,
                    fallback: done.fallback,
                    sections: done.sections,
                    passed: self.passed.swap(0, Ordering::Relaxed),
                    bytes: done.details.len() as u64,
                }));
                speaking.to.write_all(&line)?;
                speaking.to.write_all(&done.details)
            }
        }
    }
}

impl Drop for Line {
    /// Lets both the site and the ear know that nothing more comes: each has a socket of its own.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let speaking = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be closed already.
        let _ = speaking.to.shutdown(std::net::Shutdown::Both);
    }
}

fn listen(mut from: impl io::BufRead, say: &SyncSender<Result<Bytes, String>>) -> io::Result<()> {
    loop {
        let answer = match read_line(&mut from)? {
            FromSite::Chunk { bytes } => Ok(Bytes::from(read_bytes(&mut from, bytes, STORED_BYTES_MAX)?)),
            FromSite::Failed { why } => Err(why),
            FromSite::Order(_) => return Err(wrong("a second order came")),
        };
        if say.send(answer).is_err() {
            return Ok(());
        }
    }
}

fn opened(answer: Result<Bytes, String>, digest: ChunkDigest) -> io::Result<Bytes> {
    let stored = answer.map_err(io::Error::other)?;
    Content::opened(&stored, digest).ok_or_else(|| {
        io::Error::other(ContentError::Damaged {
            what: "chunk",
            digest,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::sync::mpsc::channel;

    use waag_schema::content::encoding::encode;
    use waag_schema::content::planner::PlannerId;
    use waag_schema::content::recipe::RecipeBuilder;

    use super::*;

    fn order() -> Order {
        let mut recipe = RecipeBuilder::new(PlannerId::FastCdc1);
        recipe.push_chunk(ChunkDigest::of(b"a chunk"), 7).unwrap();
        Order {
            work: Work::Language {
                bf16: true,
                memory_bytes: 7 << 20,
            },
            device: DeviceChoice::Cuda(3),
            limit_bytes: 9 << 30,
            model: Shelf::from([("model.safetensors".to_owned(), recipe.finish())]),
            other: Shelf::new(),
        }
    }

    /// The two ends: the site's is given the order, and left open.
    fn ends(on_hangup: impl FnOnce() + Send + 'static) -> (UnixStream, Line, Order) {
        let (mut site, weigher) = UnixStream::pair().unwrap();
        site.write_all(&order().to_bytes()).unwrap();
        let (line, order) = Line::open(weigher, on_hangup).unwrap();
        (site, line, order)
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let (_site, _line, arrived) = ends(|| {});
        let given = order();
        assert_eq!(
            (arrived.device, arrived.limit_bytes),
            (given.device, given.limit_bytes)
        );
        assert_eq!(arrived.model, given.model);
        assert!(arrived.other.is_empty());
        let Work::Language { bf16, memory_bytes } = arrived.work else {
            panic!("{:?}", arrived.work)
        };
        assert_eq!((bf16, memory_bytes), (true, 7 << 20));
    }

    /// Answers from the site's end until the other is closed: each chunk that is there.
    fn answer(site: UnixStream, chunks: &BTreeMap<ChunkDigest, Vec<u8>>) -> u64 {
        let mut to = site.try_clone().unwrap();
        let mut measured = 0;
        for line in BufReader::new(site).lines() {
            let Ok(FromWeigher::Get {
                chunks: wanted,
                passed,
            }) = serde_json::from_str(&line.unwrap())
            else {
                panic!("a question was expected")
            };
            assert!(wanted.len() <= BATCH);
            measured += passed;
            for digest in wanted {
                match chunks.get(&digest) {
                    Some(raw) => {
                        let stored = Bytes::from(encode(raw).unwrap().stored().to_vec());
                        to.write_all(&answer_line(Ok(&stored))).unwrap();
                        to.write_all(&stored).unwrap();
                    }
                    None => {
                        let what = "chunk";
                        let error = ContentError::Damaged { what, digest };
                        to.write_all(&answer_line(Err(&error))).unwrap();
                    }
                }
            }
        }
        measured
    }

    #[test]
    fn chunks_come_in_order_and_an_error_leaves_the_line_in_order_for_the_next_question() {
        let chunks: Vec<Vec<u8>> = (0..100_u8).map(|at| vec![at; 1000]).collect();
        let digests: Vec<ChunkDigest> = chunks.iter().map(|raw| ChunkDigest::of(raw)).collect();
        let mut held: BTreeMap<_, _> = digests.iter().copied().zip(chunks.clone()).collect();
        let missing = digests[70];
        held.remove(&missing);
        let (site, line, _) = ends(|| {});
        let site = std::thread::spawn(move || answer(site, &held));
        let get = |digests: &[ChunkDigest]| {
            let mut came = Vec::new();
            let done = line.each(digests, |raw| {
                line.passed(raw.len() as u64);
                came.push(raw.to_vec());
                Ok::<_, io::Error>(())
            });
            (came, done.map_err(|error| error.to_string()))
        };
        assert_eq!(get(&digests[..70]), (chunks[..70].to_vec(), Ok(())));
        let (came, done) = get(&digests[60..]);
        assert_eq!(came, chunks[60..70]);
        assert!(done.unwrap_err().contains(&missing.to_string()));
        assert_eq!(get(&[]), (Vec::new(), Ok(())));
        assert_eq!(get(&digests[71..]), (chunks[71..].to_vec(), Ok(())));
        // The last word would say the rest.
        assert_eq!(get(&digests[..1]).1, Ok(()));
        drop(line);
        assert_eq!(site.join().unwrap(), (70 + 10 + 29) * 1000);
    }

    #[test]
    fn when_the_site_has_gone_the_weigher_is_told_and_every_question_fails() {
        let (told, heard) = channel();
        let (site, line, order) = ends(move || told.send(()).unwrap());
        assert!(!line.cancel().load(Ordering::Relaxed));
        drop(site);
        heard.recv().unwrap();
        assert!(line.cancel().load(Ordering::Relaxed));
        let chunk = order.model["model.safetensors"].pieces()[0].chunk;
        assert!(line.each(&[chunk], |_| Ok::<_, io::Error>(())).is_err());
    }

    #[test]
    fn who_has_said_the_last_word_is_not_told_that_the_site_has_gone() {
        let (told, heard) = channel();
        let (mut site, line, _) = ends(move || told.send(()).unwrap());
        line.end(Err(Failed::Here("no room".to_owned()))).unwrap();
        drop(line);
        let mut said = String::new();
        site.read_to_string(&mut said).unwrap();
        assert_eq!(said, "{\"failed\":{\"here\":\"no room\"}}\n");
        // The ear has ended, and dropped what it would have told with.
        assert!(heard.recv().is_err());
    }
}
