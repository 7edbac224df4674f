//! Writes safetensors files, right ones and wrong ones.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

/// A bf16 tensor whose values follow from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) seed: u64,
}

impl Tensor {
    /// Names a tensor; its values follow from `content`, so that they stay when it is called otherwise.
    pub(crate) fn new(name: impl Into<String>, shape: &[u64], content: u64) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            // No two seeds near each other, and never zero.
            seed: (content + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * 2
    }
}

/// Writes a file of these tensors, in this order.
pub(crate) fn write(path: &Path, tensors: &[Tensor]) {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.bytes();
        let entry = json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [at, end]});
        assert!(header.insert(tensor.name.clone(), entry).is_none());
        at = end;
    }
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    file.write_all(&framed(&Value::Object(header).to_string()))
        .unwrap();
    for tensor in tensors {
        write_weights(&mut file, tensor);
    }
    file.flush().unwrap();
}

/// Returns a header with its length before it, padded to eight bytes as the usual writer does.
pub(crate) fn framed(header: &str) -> Vec<u8> {
    let mut header = header.as_bytes().to_vec();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes
}

/// Values as trained weights have them: any sign and mantissa, magnitudes from 2^-7 to 2.
fn write_weights(file: &mut impl Write, tensor: &Tensor) {
    let mut state = tensor.seed;
    let mut left = usize::try_from(tensor.bytes()).unwrap();
    let mut block = vec![0; 64 << 10];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let values = (state & 0x83ff_83ff_83ff_83ff) | 0x3c00_3c00_3c00_3c00;
            word.copy_from_slice(&values.to_le_bytes());
        }
        let now = left.min(block.len());
        file.write_all(&block[..now]).unwrap();
        left -= now;
    }
}
