//! The section `speed`: how fast a model is on this machine, beside what the machine could do at most.
//!
//! Three things take turns until the time is over: reading memory and multiplying in registers, as fast as this machine
//! can; a prompt through the model; tokens one after the other, each of which reads all weights. Of each the fastest round
//! counts, so that what else the machine does shows little, and in all of them alike. None of it can be compared with
//! another machine's, and none of it shows in any other section.

use std::time::{Duration, Instant};

use waag_kernels::cuda::{Gpu, GpuError};
use waag_kernels::language::{
    LanguageError, Model, ModelSource, Options, Precision, Residency, Sequence, Stop,
};
use waag_kernels::roofline;
use waag_schema::statement::scorecard::{Amount, Measure, Section};

pub use super::energy::Meter;

/// The section's name.
pub const SECTION: &str = "speed";
/// Why what is no model in plain files has no speed.
pub(super) const NO_MODEL: &str = "it is no model in plain files";

/// Tokens of the first prompt; a prompt that takes less than [`QUICK`] seconds is doubled.
const PROMPT_MIN: usize = 16;
const PROMPT_MAX: usize = 512;
const QUICK: f64 = 0.5;
/// Tokens that are written in a round, from an empty sequence on.
const WRITTEN: usize = 16;
/// Memory that is read in a round: beyond any cache.
const READ_BYTES: usize = 256 << 20;
/// Multiplications in a round, some ten milliseconds.
const FUSED_ROUNDS: u64 = 4_000_000;
/// The same on a GPU.
const GPU_READ_BYTES: usize = 1 << 30;
const GPU_READ_ROUNDS: u32 = 20;
const GPU_FUSED_ROUNDS: u32 = 20_000;

/// Measures a model for about so long, beside reading its weights, on the threads of the pool that this is called in: a
/// round that has begun is ended. All weights must fit into `options.memory_bytes`.
///
/// # Errors
/// When the model is broken or cannot be read, or the caller cancelled. What this engine does not know is no error.
pub fn measure(
    source: &dyn ModelSource,
    options: Options<'_>,
    time: Duration,
    meter: &Result<Meter, String>,
) -> Result<Section, LanguageError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "speed is measured by the machine's own clock"
    )]
    let begin = Instant::now();
    let now = || begin.elapsed().as_secs_f64();
    match rounds(source, options, time.as_secs_f64(), meter, &now) {
        Ok(section) => Ok(section),
        Err(Stop::NotMeasured(reason)) => {
            let reason = reason.to_string();
            let reason = reason.strip_prefix("not measured because ").unwrap_or(&reason);
            Ok(Section::not_measured(SECTION, reason))
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Returns the section where nobody asked for it.
pub(super) fn unasked() -> Section {
    Section::not_measured(SECTION, "it was not asked for")
}

/// Something that was done in each round.
#[derive(Default)]
struct Work {
    /// How much a second, in the fastest round.
    best: f64,
    /// How much in all rounds, and how many joules that took.
    done: f64,
    joules: f64,
}

/// What takes the time and the energy.
struct Watch<'w> {
    now: &'w dyn Fn() -> f64,
    meter: &'w Result<Meter, String>,
}

impl Watch<'_> {
    /// Does something, and returns how many seconds that took.
    fn time<E>(&self, work: &mut Work, deed: impl FnOnce() -> Result<f64, E>) -> Result<f64, E> {
        let meter = self.meter.as_ref().ok();
        let before = meter.and_then(Meter::read);
        let start = (self.now)();
        let done = deed()?;
        let seconds = (self.now)() - start;
        let after = meter.and_then(Meter::read);
        if let (Some(meter), Some(before), Some(after)) = (meter, &before, &after) {
            work.joules += meter.joules(before, after);
        }
        work.done += done;
        if seconds > 0.0 {
            work.best = work.best.max(done / seconds);
        }
        Ok(seconds)
    }
}

fn rounds(
    source: &dyn ModelSource,
    options: Options<'_>,
    time: f64,
    meter: &Result<Meter, String>,
    now: &dyn Fn() -> f64,
) -> Result<Section, Stop> {
    let look = Options {
        residency: Residency::Streaming,
        ..options
    };
    let needed = Model::open(source, look)?.pass_bytes();
    let allowed = options.gpu.map_or(options.memory_bytes, |gpu| gpu.memory_bytes());
    if needed > allowed {
        let reason = format!("its weights take {needed} bytes of memory, and {allowed} may be used");
        return Ok(Section::not_measured(SECTION, &reason));
    }
    let stay = Options {
        residency: Residency::Resident,
        ..options
    };
    let model = Model::open(source, stay)?;
    if let Some(error) = model.fallback() {
        return Ok(Section::not_measured(SECTION, &error.to_string()));
    }
    let watch = Watch { now, meter };
    let (mut read, mut peak, mut prefill, mut decode) =
        (Work::default(), Work::default(), Work::default(), Work::default());
    let longest = PROMPT_MAX.min(model.length_max());
    let mut prompt = PROMPT_MIN.min(longest);
    // The prompt of the fastest round.
    let mut of_best = prompt;
    // What is read has to be written once: pages of zeros could all be the same one.
    let memory: Vec<u64> = match options.gpu {
        None => (0..READ_BYTES as u64 / 8).collect(),
        Some(_) => Vec::new(),
    };
    let end = now() + time;
    loop {
        match options.gpu {
            None => {
                watch.time(&mut read, || {
                    std::hint::black_box(roofline::read(&memory));
                    Ok::<_, Stop>(READ_BYTES as f64)
                })?;
                watch.time(&mut peak, || {
                    Ok::<_, Stop>(roofline::fused_multiply_adds_everywhere(FUSED_ROUNDS) as f64)
                })?;
            }
            Some(gpu) => limits(gpu, &watch, &mut read, &mut peak)?,
        }
        let before = prefill.best;
        let took = watch.time(&mut prefill, || {
            model.ask(&[Sequence {
                tokens: (0..prompt).map(|at| token(&model, at)).collect(),
                asked: vec![(prompt - 1, Vec::new())],
            }])?;
            Ok::<_, Stop>(prompt as f64)
        })?;
        if prefill.best > before {
            of_best = prompt;
        }
        if took < QUICK && 2 * prompt <= longest {
            prompt *= 2;
        }
        watch.time(&mut decode, || {
            let mut decoder = model.decoder()?;
            let mut written = 0;
            while written < WRITTEN.min(model.length_max()) && (written == 0 || now() < end) {
                decoder.take(token(&model, written), &[])?;
                written += 1;
            }
            Ok::<_, Stop>(written as f64)
        })?;
        if now() >= end {
            break;
        }
    }
    let measured = Measured {
        model: &model,
        precision: match options.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        },
        meter,
        prompt: of_best,
    };
    Ok(measured.section(&read, &peak, &prefill, &decode))
}

/// Some token: which one makes no difference.
fn token(model: &Model<'_>, at: usize) -> u32 {
    u32::try_from(at * 7919 % model.vocabulary().max(1)).unwrap_or(0)
}

/// What a GPU can do at most.
fn limits(
    gpu: &std::sync::Arc<Gpu>,
    watch: &Watch<'_>,
    read: &mut Work,
    peak: &mut Work,
) -> Result<(), GpuError> {
    let begin = (watch.now)();
    gpu.read_rounds(GPU_READ_BYTES, 1)?;
    let middle = (watch.now)();
    gpu.read_rounds(GPU_READ_BYTES, 1 + GPU_READ_ROUNDS)?;
    // The first of them makes the memory ready: the difference is that of the others.
    let seconds = (watch.now)() - middle - (middle - begin);
    let bytes = GPU_READ_BYTES as f64 * f64::from(GPU_READ_ROUNDS);
    if seconds > 0.0 {
        read.best = read.best.max(bytes / seconds);
    }
    watch.time(peak, || gpu.fused_rounds(GPU_FUSED_ROUNDS))?;
    Ok(())
}

struct Measured<'m, 'a> {
    model: &'m Model<'a>,
    precision: &'static str,
    meter: &'m Result<Meter, String>,
    prompt: usize,
}

impl Measured<'_, '_> {
    fn section(&self, read: &Work, peak: &Work, prefill: &Work, decode: &Work) -> Section {
        let of = |name: &str| format!("{name}.{}", self.precision);
        let real = |name: &str, value: f64| Measure::new(name, Amount::Real(value));
        let share = |of: f64, limit: f64| if limit > 0.0 { of / limit } else { 0.0 };
        let bytes = self.model.pass_bytes();
        let operations = self.model.operations(self.prompt) / self.prompt as f64 * prefill.best;
        let moved = bytes as f64 * decode.best;
        let mut results = vec![
            Measure::new("threads", Amount::Count(rayon::current_num_threads() as u64)),
            Measure::new("pass_bytes", Amount::Count(bytes)),
            Measure::new("prompt_tokens", Amount::Count(self.prompt as u64)),
            real("read_bytes_per_second", read.best),
            real("peak_flop_per_second", peak.best),
            real(&of("prefill_tokens_per_second"), prefill.best).over(prefill.done as u64),
            real(&of("prefill_flop_per_second"), operations),
            real(&of("prefill_of_peak"), share(operations, peak.best)),
            real(&of("decode_tokens_per_second"), decode.best).over(decode.done as u64),
            real(&of("decode_bytes_per_second"), moved),
            real(&of("decode_of_read"), share(moved, read.best)),
        ];
        let energy = [("prefill", prefill), ("decode", decode)]
            .map(|(name, work)| (of(&format!("{name}_joules_per_1000_tokens")), work));
        if self.meter.is_ok() {
            for (metric, work) in &energy {
                results.push(real(metric, 1000.0 * work.joules / work.done.max(1.0)).over(work.done as u64));
            }
        }
        let section = Section::measured(SECTION, results);
        match self.meter {
            Ok(_) => section,
            Err(reason) => energy
                .iter()
                .fold(section, |section, (metric, _)| section.without(metric, reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::{Path, PathBuf};

    use waag_kernels::language::MemorySource;

    use super::super::language::DirectorySource;
    use super::*;

    fn fixture(family: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../kernels/tests/fixtures")
            .join(family)
    }

    /// Measures by a clock that goes on by a hundredth of a second whenever it is read.
    fn measured(family: &str, options: Options<'_>, meter: &Result<Meter, String>) -> Result<Section, Stop> {
        let source = DirectorySource {
            path: fixture(family),
            passed: &|_| {},
        };
        let ticks = Cell::new(0_u32);
        let now = || {
            ticks.set(ticks.get() + 1);
            f64::from(ticks.get()) / 100.0
        };
        rounds(&source, options, 0.7, meter, &now)
    }

    fn number(section: &Section, metric: &str) -> f64 {
        section
            .result(metric)
            .unwrap_or_else(|| panic!("{metric}"))
            .to_f64()
    }

    #[test]
    fn rates_and_shares_follow_from_the_clock_and_the_shapes() {
        let none = Err("no meter is here".to_owned());
        let options = Options {
            precision: Precision::Bf16,
            ..Options::default()
        };
        let section = measured("llama", options, &none).unwrap();
        assert_eq!((section.name.as_str(), &section.not_measured), (SECTION, &None));
        let number = |metric: &str| number(&section, metric);
        assert_eq!(number("read_bytes_per_second").round(), READ_BYTES as f64 * 100.0);
        // Prompts are doubled as long as they are quick and the model is long enough.
        let prompt = number("prompt_tokens");
        assert!(prompt > PROMPT_MIN as f64, "{prompt}");
        assert_eq!(number("prefill_tokens_per_second.bf16").round(), prompt * 100.0);
        let decode = number("decode_tokens_per_second.bf16");
        assert_eq!(
            number("decode_bytes_per_second.bf16"),
            decode * number("pass_bytes")
        );
        for (share, of, limit) in [
            (
                "prefill_of_peak",
                "prefill_flop_per_second",
                "peak_flop_per_second",
            ),
            (
                "decode_of_read",
                "decode_bytes_per_second",
                "read_bytes_per_second",
            ),
        ] {
            let truth = number(&format!("{of}.bf16")) / number(limit);
            assert_eq!(number(&format!("{share}.bf16")), truth);
        }
        let missing: Vec<_> = section.missing.iter().map(|m| m.metric.as_str()).collect();
        let energy = [
            "prefill_joules_per_1000_tokens.bf16",
            "decode_joules_per_1000_tokens.bf16",
        ];
        assert_eq!(missing, energy);
        assert_eq!(section.missing[0].reason, "no meter is here");
    }

    #[test]
    fn a_model_that_cannot_be_run_says_why() {
        let none = Err("none".to_owned());
        let little = Options {
            memory_bytes: 1000,
            ..Options::default()
        };
        let reason = measured("llama", little, &none).unwrap().not_measured.unwrap();
        assert!(reason.contains("bytes of memory"), "{reason}");
        let encoder = measure(
            &DirectorySource {
                path: fixture("bert"),
                passed: &|_| {},
            },
            Options::default(),
            Duration::from_secs(1),
            &none,
        );
        let reason = encoder.unwrap().not_measured.unwrap();
        assert!(reason.contains("encoder"), "{reason}");
        let empty = measure(
            &MemorySource::default(),
            Options::default(),
            Duration::from_secs(1),
            &none,
        );
        assert!(empty.unwrap().not_measured.unwrap().contains("config.json"));
    }
}
