//! Operations of the forward pass, one row each: on random numbers and on shapes at the edges of tiles, the bits of the CPU
//! on every device, and what the CPU gives close to plain `f64`.

use super::*;
use crate::backend::Cpu;
use crate::cpu::matrix::Matrix;

#[path = "attention.rs"]
mod attention;
#[path = "models.rs"]
mod models;
#[path = "units.rs"]
mod units;

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(1)
    }

    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// Between -1 and 1, with some that are very small, and zeros.
    fn number(&mut self) -> f32 {
        let x = (self.next() >> 8) as f32 / (1 << 23) as f32 - 1.0;
        match self.below(16) {
            0 => 0.0,
            1 => x * 1e-20,
            _ => x,
        }
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn each(mut with: impl FnMut(&Cuda, &mut Random)) {
    for gpu in crate::agree::devices() {
        with(&Cuda::new(gpu, false), &mut Random::new());
    }
}

/// All bits; what is not a number may be so in any way.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
        assert!(same, "{what}, {at}: {found:e} instead of {expected:e}");
    }
}

fn assert_close(found: f32, truth: f64, by: f64, what: &str) {
    assert!(
        (f64::from(found) - truth).abs() <= by,
        "{what}: {found:e}, in f64 {truth:e}"
    );
}

fn matrix(random: &mut Random, format: usize, rows: usize, columns: usize) -> Matrix {
    let numbers = random.numbers(rows * columns);
    let elements = match format {
        0 => Elements::Bf16(numbers.iter().map(|x| (x.to_bits() >> 16) as u16).collect()),
        1 => Elements::F16(
            numbers
                .iter()
                .map(|x| half::f16::from_f32(*x).to_bits())
                .collect(),
        ),
        _ => Elements::F32(numbers),
    };
    Matrix {
        rows,
        columns,
        elements,
    }
}

/// Runs the same on a backend, from rows to rows.
fn on<B: Backend>(backend: &B, x: &[f32], work: impl FnOnce(&mut B::Rows)) -> Vec<f32> {
    let mut rows = backend.place(x.to_vec()).unwrap();
    work(&mut rows);
    backend.fetch(rows).unwrap()
}

fn products<B: Backend>(backend: &B, x: &[f32], linear: &Linear, precision: Precision) -> Vec<f32> {
    let placed = backend.linear(linear.clone()).unwrap();
    let rows = backend.place(x.to_vec()).unwrap();
    let packed = backend.pack(rows, linear.matrix.columns, precision).unwrap();
    let y = backend.product(&packed, &placed, precision).unwrap();
    backend.fetch(y).unwrap()
}

#[test]
fn products_agree() {
    each(|cuda, random| {
        let shapes = [
            (1, 1, 1),
            (3, 130, 7),
            (129, 5, 256),
            (7, 128, 257),
            (130, 131, 520),
            (2, 3, 1025),
            // Rows that are few: blocks of 8, 16 and 32 outputs, with whole pieces of 16 bytes and without.
            (1, 21, 4616),
            (1, 131, 2115),
            (1, 140, 2120),
            (1, 290, 264),
            (8, 67, 1288),
            (5, 33, 1023),
        ];
        for (rows, outputs, depth) in shapes {
            for format in 0..3 {
                let x = random.numbers(rows * depth);
                let linear = Linear {
                    matrix: matrix(random, format, outputs, depth),
                    bias: (format != 1).then(|| random.numbers(outputs)),
                };
                for precision in PRECISIONS {
                    let expected = products(&Cpu, &x, &linear, precision);
                    let what = format!("{rows} x {outputs} x {depth}, format {format}");
                    assert_same(&products(cuda, &x, &linear, precision), &expected, &what);
                }
                let mut row = vec![0.0; depth];
                linear.matrix.elements.widen((outputs - 1) * depth, &mut row);
                let truth: f64 = x
                    .iter()
                    .zip(&row)
                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
                    .sum();
                let bias = linear
                    .bias
                    .as_ref()
                    .map_or(0.0, |bias| f64::from(bias[outputs - 1]));
                let found = products(&Cpu, &x, &linear, Precision::F32)[outputs - 1];
                assert_close(found, truth + bias, 1e-4, "a product");
            }
        }
    });
}

#[test]
fn rows_beside_a_row_do_not_show_in_its_products() {
    each(|cuda, random| {
        let linear = Linear {
            matrix: matrix(random, 0, 33, 300),
            bias: None,
        };
        let x = random.numbers(200 * 300);
        let all = products(cuda, &x, &linear, Precision::F32);
        let alone = products(cuda, &x[150 * 300..151 * 300], &linear, Precision::F32);
        assert_same(&alone, &all[150 * 33..151 * 33], "a row alone");
    });
}

#[test]
fn norms_agree() {
    each(|cuda, random| {
        for (rows, width) in [(1, 1), (5, 7), (33, 128), (2, 1000)] {
            for kind in [NormKind::Layer, NormKind::RootMeanSquare { offset: 1.0 }] {
                for bias in [None, Some(random.numbers(width))] {
                    let norm = Norm {
                        kind,
                        epsilon: 1e-5,
                        weight: random.numbers(width),
                        bias,
                    };
                    let x = random.numbers(rows * width);
                    let expected = on(&Cpu, &x, |rows| Cpu.normalise(rows, &norm).unwrap());
                    let found = on(cuda, &x, |rows| {
                        let placed = cuda.norm(norm.clone()).unwrap();
                        cuda.arrive().unwrap();
                        cuda.normalise(rows, &placed).unwrap();
                    });
                    assert_same(&found, &expected, &format!("{rows} x {width}"));
                    let row: Vec<f64> = x[..width].iter().map(|x| f64::from(*x)).collect();
                    let (mean, offset) = match kind {
                        NormKind::Layer => (row.iter().sum::<f64>() / width as f64, 0.0),
                        NormKind::RootMeanSquare { offset } => (0.0, f64::from(offset)),
                    };
                    let square = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    let truth = (row[0] - mean) / (square + 1e-5).sqrt()
                        * (f64::from(norm.weight[0]) + offset)
                        + norm.bias.as_ref().map_or(0.0, |bias| f64::from(bias[0]));
                    assert_close(expected[0], truth, 1e-4, "a norm");
                }
            }
        }
    });
}

#[test]
fn rotations_agree() {
    each(|cuda, random| {
        for (half, heads, lengths) in [(1, 1, vec![1]), (8, 3, vec![5, 1, 17]), (64, 2, vec![40])] {
            let frequencies: Vec<f32> = (0..half)
                .map(|i| 10_000_f32.powf(-(i as f32) / half as f32))
                .collect();
            let rotation = Rotation::new(&frequencies, 0..64);
            let x = random.numbers(lengths.iter().sum::<usize>() * heads * half * 2);
            let expected = on(&Cpu, &x, |rows| Cpu.rotate(rows, &rotation, &lengths).unwrap());
            let found = on(cuda, &x, |rows| {
                let placed = cuda.rotation(rotation.clone()).unwrap();
                cuda.rotate(rows, &placed, &lengths).unwrap();
            });
            assert_same(&found, &expected, "rotations");
        }
    });
}

#[test]
fn activations_agree() {
    let truths: [fn(f64) -> f64; 3] = [
        |x| x / (1.0 + libm::exp(-x)),
        |x| 0.5 * x * (1.0 + libm::tanh(0.797_884_560_8 * (x + 0.044_715 * x * x * x))),
        |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
    ];
    each(|cuda, random| {
        let mut x: Vec<f32> = (-9000..9000).map(|i| i as f32 / 1000.0).collect();
        x.extend([
            0.0,
            -0.0,
            1e-30,
            -1e-40,
            80.0,
            -80.0,
            1e30,
            -1e30,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ]);
        x.extend((0..3000).map(|i| f32::from_bits(0x3100_0000 + i * 0x9_3a7d)));
        let partner = random.numbers(x.len());
        let kinds = [Activation::Silu, Activation::GeluTanh, Activation::GeluErf];
        for (kind, truth) in kinds.into_iter().zip(truths) {
            for partner in [None, Some(&partner)] {
                let expected = on(&Cpu, &x, |rows| Cpu.activate(kind, rows, partner).unwrap());
                let found = on(cuda, &x, |rows| {
                    let placed = partner.map(|partner| cuda.place(partner.clone()).unwrap());
                    cuda.activate(kind, rows, placed.as_ref()).unwrap();
                });
                assert_same(&found, &expected, &format!("{kind:?}"));
                if partner.is_none() {
                    for (x, y) in x.iter().zip(&expected).take(18_000) {
                        assert_close(*y, truth(f64::from(*x)), 3e-6, &format!("{kind:?} of {x}"));
                    }
                }
            }
        }
    });
}

#[test]
fn sums_and_copies_agree() {
    each(|cuda, random| {
        let (x, y) = (random.numbers(1000), random.numbers(77));
        for at in [0, 1, 923] {
            let expected = on(&Cpu, &x, |rows| Cpu.add(rows, at, &y).unwrap());
            let found = on(cuda, &x, |rows| {
                let part = cuda.place(y.clone()).unwrap();
                cuda.add(rows, at, &part).unwrap();
            });
            assert_same(&found, &expected, "sums");
        }
        let rows = cuda.place(x.clone()).unwrap();
        let copy = cuda.copy(&rows, 100..777).unwrap();
        assert_same(&cuda.fetch(copy).unwrap(), &x[100..777], "a copy");
    });
}

fn losses<B: Backend>(
    backend: &B,
    rows: &[f32],
    head: &Matrix,
    cap: Option<f32>,
    at_once: usize,
) -> Vec<(usize, Vec<u64>)> {
    let count = rows.len() / head.columns;
    let asked =
        (0..count).map(|row| Loss::new([0, row * 37 % head.rows, head.rows - 1].into_iter().take(row % 4)));
    let mut asked = backend
        .ask(asked.collect(), rows.to_vec(), head.columns, Precision::F32)
        .unwrap();
    for first in (0..head.rows).step_by(at_once) {
        let rows = at_once.min(head.rows - first);
        let mut elements = vec![0.0; rows * head.columns];
        head.elements.widen(first * head.columns, &mut elements);
        let part = Matrix {
            rows,
            columns: head.columns,
            elements: Elements::F32(elements),
        };
        let part = backend.matrix(part).unwrap();
        backend.arrive().unwrap();
        backend
            .show(&mut asked, &part, first, cap, Precision::F32)
            .unwrap();
    }
    let losses = backend.answer(asked).unwrap();
    let bits = |loss: &Loss| loss.log_probabilities().map(f64::to_bits).collect();
    losses.iter().map(|loss| (loss.best(), bits(loss))).collect()
}

#[test]
fn losses_agree() {
    each(|cuda, random| {
        let ways = [
            (1, 5, None),
            (9, 1024, Some(3.0)),
            (5, 2500, None),
            (1, 9000, Some(2.0)),
        ];
        for (rows, vocabulary, cap) in ways {
            let mut head = matrix(random, 2, vocabulary, 24);
            if let Elements::F32(elements) = &mut head.elements {
                // Two tokens that are the same: the first of them is the best, if one is.
                let last = elements.len() - 24;
                elements.copy_within(last - 24..last, last);
            }
            let x = random.numbers(rows * 24);
            let expected = losses(&Cpu, &x, &head, cap, 1 << 20);
            assert_eq!(losses(cuda, &x, &head, cap, 1 << 20), expected);
            assert_eq!(losses(cuda, &x, &head, cap, 1024), expected);
        }
    });
}
