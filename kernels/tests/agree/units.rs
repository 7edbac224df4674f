//! Products by matrix units, held against the CPU within the bound that the README states.

use super::*;

/// What matrix units may be off for each term, of the magnitudes that are added: 2^-22.
const OFF: f64 = 1.0 / 4_194_304.0;

#[test]
fn products_by_matrix_units_are_near() {
    each(|cuda, random| {
        let units = Cuda::new(Arc::clone(&cuda.gpu), true);
        let shapes = [(1, 3, 8), (3, 130, 40), (129, 5, 256), (130, 131, 520)];
        for (rows, outputs, depth) in shapes {
            let x = random.numbers(rows * depth);
            let linear = Linear {
                matrix: matrix(random, 0, outputs, depth),
                bias: (rows != 3).then(|| random.numbers(outputs)),
            };
            let expected = products(&Cpu, &x, &linear, Precision::Bf16);
            let found = products(&units, &x, &linear, Precision::Bf16);
            let mut weights = vec![0.0; outputs * depth];
            linear.matrix.elements.widen(0, &mut weights);
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                let terms = x[row * depth..]
                    .iter()
                    .zip(&weights[output * depth..])
                    .take(depth);
                let sum: f64 = terms.map(|(x, w)| f64::from((x * w).abs())).sum();
                let bias = linear
                    .bias
                    .as_ref()
                    .map_or(0.0, |bias| f64::from(bias[output].abs()));
                let bound = depth as f64 * OFF * (sum + bias);
                let what = format!("{rows} x {outputs} x {depth}, {at}");
                assert_close(*found, f64::from(*expected), bound, &what);
            }
            // Neighbours do not show.
            let last = products(&units, &x[(rows - 1) * depth..], &linear, Precision::Bf16);
            assert_same(&last, &found[(rows - 1) * outputs..], "a row alone");
            // And without rounding there is nothing for them to do.
            assert_same(
                &products(&units, &x, &linear, Precision::F32),
                &products(&Cpu, &x, &linear, Precision::F32),
                "in f32",
            );
        }
        // What they cannot take goes in chains.
        for (format, depth) in [(0, 44), (1, 64), (2, 64)] {
            let x = random.numbers(20 * depth);
            let linear = Linear {
                matrix: matrix(random, format, 9, depth),
                bias: None,
            };
            assert_same(
                &products(&units, &x, &linear, Precision::Bf16),
                &products(&Cpu, &x, &linear, Precision::Bf16),
                "in chains",
            );
        }
    });
}
