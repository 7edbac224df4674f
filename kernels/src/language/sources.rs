//! What the numbers of the language section are made of.

/// For the digest that a scorecard names.
pub const SOURCES: [&str; 26] = [
    include_str!("../backend.rs"),
    include_str!("../cpu/attention.rs"),
    include_str!("../cpu/exponential.rs"),
    include_str!("../cpu/head.rs"),
    include_str!("../cpu/matrix.rs"),
    include_str!("../cpu/mod.rs"),
    include_str!("../cpu/precision.rs"),
    include_str!("../cpu/product.rs"),
    include_str!("../cpu/rows.rs"),
    include_str!("../cpu/single.rs"),
    include_str!("../cpu/tile.rs"),
    include_str!("config.rs"),
    include_str!("embedding.rs"),
    include_str!("error.rs"),
    include_str!("family.rs"),
    include_str!("forward.rs"),
    include_str!("layers.rs"),
    include_str!("reach.rs"),
    include_str!("request.rs"),
    include_str!("score.rs"),
    include_str!("source.rs"),
    include_str!("task.rs"),
    include_str!("template.rs"),
    include_str!("tensors.rs"),
    include_str!("tokens.rs"),
    include_str!("yaml.rs"),
];

/// The version of the numbers: raised whenever the same model and suite would give others, or more of them.
pub const REVISION: u32 = 1;
