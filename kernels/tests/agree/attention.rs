//! Attention within sequences, and of one row to what was kept: the bits of the CPU on every device.

use super::*;

#[test]
fn attention_agrees() {
    let plain = Attention {
        heads: 4,
        kv_heads: 2,
        width: 16,
        scale: 0.25,
        cap: None,
        causal: true,
        window: None,
        precision: Precision::F32,
    };
    each(|cuda, random| {
        for (attention, lengths) in [
            (plain, vec![1, 3, 40]),
            (
                Attention {
                    causal: false,
                    ..plain
                },
                vec![130, 5],
            ),
            (
                Attention {
                    window: Some(7),
                    cap: Some(5.0),
                    ..plain
                },
                vec![150],
            ),
            (
                Attention {
                    window: Some(200),
                    ..plain
                },
                vec![700],
            ),
            (
                Attention {
                    precision: Precision::Bf16,
                    scale: 1.0,
                    ..plain
                },
                vec![97],
            ),
            (
                Attention {
                    heads: 3,
                    kv_heads: 1,
                    width: 130,
                    ..plain
                },
                vec![20, 131],
            ),
        ] {
            let rows: usize = lengths.iter().sum();
            let q: Vec<f32> = random.numbers(rows * attention.heads * attention.width);
            let k = random.numbers(rows * attention.kv_heads * attention.width);
            let v = random.numbers(rows * attention.kv_heads * attention.width);
            let expected = attention.apply(&q, &k, &v, &lengths);
            let [q, k, v] = [q, k, v].map(|x| cuda.place(x).unwrap());
            let found = cuda.attend(&attention, &q, &k, &v, &lengths).unwrap();
            assert_same(
                &cuda.fetch(found).unwrap(),
                &expected,
                &format!("{attention:?} {lengths:?}"),
            );
        }
    });
}

#[test]
fn attention_to_what_was_kept_agrees() {
    let plain = Attention {
        heads: 4,
        kv_heads: 2,
        width: 16,
        scale: 0.25,
        cap: None,
        causal: true,
        window: None,
        precision: Precision::F32,
    };
    let ways = [
        (plain, 300),
        (
            Attention {
                window: Some(7),
                cap: Some(5.0),
                ..plain
            },
            40,
        ),
        (
            Attention {
                window: Some(200),
                precision: Precision::Bf16,
                ..plain
            },
            540,
        ),
        (
            Attention {
                heads: 20,
                kv_heads: 1,
                width: 130,
                ..plain
            },
            140,
        ),
        (
            Attention {
                heads: 1,
                kv_heads: 1,
                width: 300,
                ..plain
            },
            20,
        ),
    ];
    each(|cuda, random| {
        for (attention, rows) in ways {
            let (mut here, mut there) = (Default::default(), Kept::default());
            for row in 0..rows {
                let q = random.numbers(attention.heads * attention.width);
                let k = random.numbers(attention.kv_heads * attention.width);
                let v = random.numbers(attention.kv_heads * attention.width);
                let expected = Cpu.attend_kept(&attention, &q, &k, &v, &mut here).unwrap();
                let [q, k, v] = [q, k, v].map(|x| cuda.place(x).unwrap());
                let found = cuda.attend_kept(&attention, &q, &k, &v, &mut there).unwrap();
                let what = format!("{attention:?}, row {row}");
                assert_same(&cuda.fetch(found).unwrap(), &expected, &what);
            }
        }
    });
}
