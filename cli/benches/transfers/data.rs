//! What is moved: weights that look like weights (bf16, normal, sigma 0.02), many small files, one sparse file. All of
//! it the same in every run.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::fresh;

/// A tensor of 1024 x 4096 bf16.
const TENSOR_BYTES: u64 = 8 << 20;

struct Noise(u64);

impl Noise {
    /// xorshift64 (Marsaglia, 2003): quick, and no part of what is measured.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub(crate) struct Model {
    pub(crate) directory: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) files: Vec<PathBuf>,
}

/// 65,536 quantiles of a normal distribution as bf16, by summing uniform numbers: near enough to weights.
fn weights(noise: &mut Noise) -> Vec<u16> {
    let uniform = |noise: &mut Noise| (noise.next() >> 40) as f32 / (1 << 24) as f32;
    (0..1 << 16)
        .map(|_| {
            let sum: f32 = (0..12).map(|_| uniform(noise)).sum();
            (((sum - 6.0) * 0.02).to_bits() >> 16) as u16
        })
        .collect()
}

fn tensor(table: &[u16], seed: u64) -> Vec<u8> {
    let mut noise = Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = Vec::with_capacity(TENSOR_BYTES as usize);
    while (bytes.len() as u64) < TENSOR_BYTES {
        let four = noise.next();
        for shift in [0, 16, 32, 48] {
            bytes.extend_from_slice(&table[(four >> shift) as usize & 0xffff].to_le_bytes());
        }
    }
    bytes
}

impl Model {
    pub(crate) fn make(directory: &Path, bytes: u64, shards: u64) -> Self {
        fresh(directory);
        let table = weights(&mut Noise(7));
        let per_shard = (bytes / shards / TENSOR_BYTES).max(1);
        let mut files = Vec::new();
        let mut total = 0;
        for shard in 0..shards {
            let path = directory.join(format!("model-{:05}-of-{shards:05}.safetensors", shard + 1));
            let entries: Vec<String> = (0..per_shard)
                .map(|index| {
                    let (name, begin) = (shard * per_shard + index, index * TENSOR_BYTES);
                    format!(
                        r#""layers.{name}.w":{{"dtype":"BF16","shape":[1024,4096],"data_offsets":[{begin},{}]}}"#,
                        begin + TENSOR_BYTES
                    )
                })
                .collect();
            let mut header = format!("{{{}}}", entries.join(","));
            while !header.len().is_multiple_of(8) {
                header.push(' ');
            }
            let mut file = BufWriter::new(File::create(&path).expect("a file can be made"));
            let mut write = |bytes: &[u8]| file.write_all(bytes).expect("there is room");
            write(&(header.len() as u64).to_le_bytes());
            write(header.as_bytes());
            for index in 0..per_shard {
                write(&tensor(&table, shard * per_shard + index + 1));
            }
            total += 8 + header.len() as u64 + per_shard * TENSOR_BYTES;
            files.push(path);
        }
        Self {
            directory: directory.to_owned(),
            bytes: total,
            files,
        }
    }

    /// Writes other weights into the last tensor of the first file.
    pub(crate) fn change_one_tensor(&self) {
        let file = File::options()
            .write(true)
            .open(&self.files[0])
            .expect("it was made");
        let size = file.metadata().expect("it was made").len();
        let other = tensor(&weights(&mut Noise(8)), 999);
        file.write_all_at(&other, size - TENSOR_BYTES)
            .expect("it was made");
    }

    pub(crate) fn remove(&self) {
        fresh(&self.directory);
    }
}

pub(crate) fn small_files(directory: &Path, count: u64, bytes: usize) {
    fresh(directory);
    let mut noise = Noise(11);
    for index in 0..count {
        if index.is_multiple_of(1000) {
            fresh(&directory.join(format!("{:03}", index / 1000)));
        }
        let content: Vec<u8> = (0..bytes / 8).flat_map(|_| noise.next().to_le_bytes()).collect();
        let path = directory.join(format!("{:03}/{index:06}.bin", index / 1000));
        std::fs::write(path, content).expect("there is room");
    }
}

pub(crate) fn sparse_file(path: &Path, bytes: u64) {
    let mut file = File::create(path).expect("a file can be made");
    file.set_len(bytes).expect("a sparse file takes no room");
    file.seek(SeekFrom::Start(bytes / 2)).expect("within the file");
    file.write_all(b"not only zeroes").expect("there is room");
}
