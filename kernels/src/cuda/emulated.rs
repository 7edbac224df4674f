//! A device that is a process: `kernels/cuda/host.cpp`, which runs the kernels' own text on the processor.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::error::GpuError;
use super::machine::{Arguments, Fence, Machine};

/// A device of the tests.
pub(crate) struct Emulated(Mutex<Process>);

struct Process {
    child: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Emulated {
    /// Starts a device with so much memory, or says why there is none.
    pub(crate) fn start(memory: usize) -> Result<Self, String> {
        static BUILT: OnceLock<Result<File, String>> = OnceLock::new();
        let program = BUILT.get_or_init(build).as_ref().map_err(Clone::clone)?;
        let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg(memory.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = BufWriter::new(child.stdin.take().unwrap());
        let from = BufReader::new(child.stdout.take().unwrap());
        Ok(Self(Mutex::new(Process { child, to, from })))
    }

    fn tell(&self, command: u8, numbers: &[u64], bytes: &[u8]) {
        let mut process = self.0.lock().unwrap();
        process.put(&[command]);
        numbers
            .iter()
            .for_each(|number| process.put(&number.to_le_bytes()));
        process.put(bytes);
    }
}

/// Compiles the kernels for this processor. Without a compiler there is no such device. The program has no name any more
/// when this returns, so nothing is left of it when the tests end.
fn build() -> Result<File, String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("device");
    let built = Command::new(&compiler)
        .args([
            "-std=c++17",
            "-O2",
            "-march=native",
            "-ffp-contract=off",
            "-Wno-unknown-pragmas",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/cuda/host.cpp"))
        .arg("-o")
        .arg(&program)
        .output()
        .map_err(|error| format!("{compiler} cannot be started: {error}"))?;
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    Ok(File::open(&program).unwrap())
}

impl Process {
    fn put(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).expect("the emulated device has ended");
    }

    fn get(&mut self, into: &mut [u8]) {
        self.to.flush().expect("the emulated device has ended");
        self.from.read_exact(into).expect("the emulated device has ended");
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.get(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.to.flush());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Machine for Emulated {
    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.tell(b'a', &[bytes as u64], &[]);
        let mut process = self.0.lock().unwrap();
        let (address, _left) = (process.number(), process.number());
        if address == 0 {
            return Err(GpuError::Memory { wanted: bytes });
        }
        Ok(address)
    }

    fn free(&self, address: u64) {
        self.tell(b'f', &[address], &[]);
    }

    fn fence(&self) -> Result<Fence, GpuError> {
        Ok(Fence(0))
    }

    fn write(&self, to: u64, bytes: &[u8], _after: Option<Fence>) -> Result<(), GpuError> {
        self.tell(b'w', &[to, bytes.len() as u64], bytes);
        Ok(())
    }

    fn join(&self) -> Result<(), GpuError> {
        Ok(())
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), GpuError> {
        self.tell(b'z', &[at, bytes as u64], &[]);
        Ok(())
    }

    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), GpuError> {
        self.tell(b'r', &[from, into.len() as u64], &[]);
        self.0.lock().unwrap().get(into);
        Ok(())
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        arguments: Arguments,
    ) -> Result<(), GpuError> {
        let mut bytes = Vec::new();
        let word = |word: u32, bytes: &mut Vec<u8>| bytes.extend_from_slice(&word.to_le_bytes());
        word(kernel.len() as u32, &mut bytes);
        bytes.extend_from_slice(kernel.as_bytes());
        for size in grid.into_iter().chain([threads, arguments.starts.len() as u32]) {
            word(size, &mut bytes);
        }
        for start in &arguments.starts {
            word(*start, &mut bytes);
        }
        word(arguments.slots.len() as u32, &mut bytes);
        for slot in &arguments.slots {
            bytes.extend_from_slice(&slot.to_le_bytes());
        }
        self.tell(b'l', &[], &bytes);
        Ok(())
    }

    fn wait(&self) -> Result<(), GpuError> {
        self.0
            .lock()
            .unwrap()
            .to
            .flush()
            .expect("the emulated device has ended");
        Ok(())
    }
}
