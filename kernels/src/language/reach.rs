//! How far each layer of a rotating model sees, and by which angles it rotates.

use serde_json::Value;

use super::config::{Config, LAYERS_MAX, POSITIONS_MAX, narrow, to_f64, variant};
use super::error::{LanguageError, Stop};
use super::family::Family;

/// A layer's part in attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) window: Option<usize>,
    /// Which of the shape's rotations it uses.
    pub(crate) rotation: usize,
}

/// Reads which layers see how far and rotate how.
pub(super) fn layers(
    config: &Config<'_>,
    family: Family,
    head_width: usize,
) -> Result<(Vec<Reach>, Vec<Vec<f32>>), Stop> {
    let count = config.count("num_hidden_layers", LAYERS_MAX)?;
    let window = config.maybe_count("sliding_window", POSITIONS_MAX)?;
    let types = config.get("layer_types").and_then(Value::as_array);
    if let Some(types) = types.filter(|types| types.len() != count) {
        return Err(LanguageError::config(
            "layer_types",
            format!("names {} layers of {count}", types.len()),
        ));
    }
    let qwen = matches!(family, Family::Qwen2 | Family::Qwen3);
    let pattern = config
        .maybe_count("sliding_window_pattern", LAYERS_MAX)?
        .or(config.maybe_count("_sliding_window_pattern", LAYERS_MAX)?)
        .unwrap_or(6);
    let first_windowed = config
        .get("max_window_layers")
        .and_then(Value::as_u64)
        .unwrap_or(28);
    let mut reaches = Vec::with_capacity(count);
    for layer in 0..count {
        let slides = match (types.and_then(|types| types[layer].as_str()), family) {
            (Some("full_attention"), _) => false,
            (Some("sliding_attention"), _) => true,
            (Some(other), _) => return Err(variant("layer_types", &Value::from(other))),
            (None, Family::Mistral) => true,
            (None, Family::Gemma2) => layer % 2 == 0,
            (None, Family::Gemma3) => (layer + 1) % pattern != 0,
            (None, Family::Qwen2 | Family::Qwen3) => layer as u64 >= first_windowed,
            (None, _) => false,
        };
        let slides = slides && (!qwen || config.flag("use_sliding_window", false)?);
        let window = match (slides, window, family) {
            (false, ..) => None,
            (true, None, Family::Gemma2 | Family::Gemma3) => Some(4096),
            (true, window, _) => window,
        };
        reaches.push(Reach {
            window,
            rotation: usize::from(slides && family == Family::Gemma3),
        });
    }
    let rotations = if family == Family::Gemma3 {
        vec![
            rotation(config, Some("full_attention"), 1_000_000.0, head_width)?,
            rotation(config, Some("sliding_attention"), 10_000.0, head_width)?,
        ]
    } else {
        vec![rotation(config, None, 10_000.0, head_width)?]
    };
    Ok((reaches, rotations))
}

/// Reads the frequencies of a rotation; they are computed in `f32`, as models were trained with.
fn rotation(
    config: &Config<'_>,
    layer_type: Option<&str>,
    default: f64,
    head_width: usize,
) -> Result<Vec<f32>, Stop> {
    let nothing = Value::Null;
    let parameters = config
        .get("rope_parameters")
        .or_else(|| config.get("rope_scaling"))
        .unwrap_or(&nothing);
    let parameters = match layer_type {
        Some(layer_type) if parameters.get(layer_type).is_some() => &parameters[layer_type],
        // In the older spelling, layers with a window are not scaled and have their own base.
        Some("sliding_attention") => &nothing,
        _ => parameters,
    };
    let scaling = Config(parameters);
    let base = match (scaling.positive("rope_theta")?, layer_type) {
        (Some(base), _) => base,
        (None, Some("sliding_attention")) => config.positive("rope_local_base_freq")?.unwrap_or(default),
        (None, _) => config.positive("rope_theta")?.unwrap_or(default),
    };
    let base = f64::from(narrow(base));
    let mut frequencies: Vec<f32> = (0..head_width / 2)
        .map(|i| {
            let exponent = narrow(to_f64(2 * i)) / narrow(to_f64(head_width));
            1.0 / narrow(libm::pow(base, f64::from(exponent)))
        })
        .collect();
    let need = |name: &str| -> Result<f32, Stop> {
        let number = scaling.positive(name)?;
        number
            .map(narrow)
            .ok_or_else(|| LanguageError::config(name, "is missing"))
    };
    match scaling
        .text("rope_type")
        .or_else(|| scaling.text("type"))
        .unwrap_or("default")
    {
        "default" => {}
        "linear" => {
            let factor = need("factor")?;
            frequencies.iter_mut().for_each(|f| *f /= factor);
        }
        "llama3" => {
            let (factor, low, high) = (
                need("factor")?,
                need("low_freq_factor")?,
                need("high_freq_factor")?,
            );
            let original = need("original_max_position_embeddings")?;
            for frequency in &mut frequencies {
                let wavelength = std::f32::consts::TAU / *frequency;
                if wavelength > original / low {
                    *frequency /= factor;
                } else if wavelength >= original / high {
                    let smooth = (original / wavelength - low) / (high - low);
                    *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
                }
            }
        }
        other => return Err(variant("rope_type", &Value::from(other))),
    }
    Ok(frequencies)
}
