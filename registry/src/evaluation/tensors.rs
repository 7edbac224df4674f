//! One safetensors file, measured while its bytes pass by.
//!
//! What a tensor gave is handed on as soon as its last byte has passed: a file of very many tensors takes no more memory
//! than its header does.

use std::collections::VecDeque;
use std::sync::Arc;

use waag_kernels::cuda::{Gpu, GpuError, GpuPass};
use waag_kernels::pass::Measured;
use waag_kernels::{Element, Pass, TallyError};
use waag_schema::content::safetensors::{Header, LENGTH_BYTES, Tensor, header_length};

use super::WeighError;

/// A tensor that was read, and measured if its elements are of a format that is.
pub(super) struct Read {
    pub(super) tensor: Tensor,
    pub(super) measured: Option<Measured>,
}

/// A file under way.
pub(super) struct Tensors {
    path: String,
    size: u64,
    /// How many of its bytes came by.
    at: u64,
    stage: Stage,
    /// How many tensors it may have.
    most: u64,
    gpu: Option<Arc<Gpu>>,
}

enum Stage {
    /// The header, as far as it is here.
    Header(Vec<u8>),
    /// The tensors that are to come; the first may have begun.
    Data(VecDeque<Tensor>, Option<Meter>),
}

/// A tensor under way, on the processor or on a GPU: the same integers come out.
enum Meter {
    Here(Box<Pass>),
    There(Box<GpuPass>),
}

impl Meter {
    fn new(element: Element, gpu: Option<&Arc<Gpu>>) -> Result<Self, GpuError> {
        Ok(match gpu {
            None => Self::Here(Box::new(Pass::new(element))),
            Some(gpu) => Self::There(Box::new(GpuPass::new(gpu, element)?)),
        })
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), GpuError> {
        match self {
            Self::Here(pass) => Ok(pass.add(bytes)?),
            Self::There(pass) => pass.add(bytes),
        }
    }

    fn finish(self) -> Result<Measured, GpuError> {
        match self {
            Self::Here(pass) => Ok(pass.finish()?),
            Self::There(pass) => pass.finish(),
        }
    }
}

/// Takes what was read, one tensor after the other.
type Taker<'t> = &'t mut dyn FnMut(Read) -> Result<(), TallyError>;

impl Tensors {
    pub(super) fn begin(path: &str, size: u64, most: u64, gpu: Option<Arc<Gpu>>) -> Self {
        Self {
            path: path.to_owned(),
            size,
            at: 0,
            stage: Stage::Header(Vec::new()),
            most,
            gpu,
        }
    }

    /// Takes the next bytes of the file, and hands on what was read.
    pub(super) fn take(&mut self, mut bytes: &[u8], taker: Taker<'_>) -> Result<(), WeighError> {
        while !bytes.is_empty() {
            let used = match &mut self.stage {
                Stage::Header(_) => self.take_header(bytes)?,
                Stage::Data(..) => self.take_data(bytes, taker)?,
            };
            bytes = &bytes[used..];
            self.at += used as u64;
        }
        Ok(())
    }

    /// Hands on what is left to be.
    pub(super) fn end(mut self, taker: Taker<'_>) -> Result<(), WeighError> {
        // Tensors without elements may stand at the end.
        self.finish_tensors(taker)?;
        match &self.stage {
            Stage::Data(tensors, _) if tensors.is_empty() && self.at == self.size => Ok(()),
            _ => Err(self.wrong(format!("{} of {} bytes came", self.at, self.size))),
        }
    }

    /// A tensor cannot be measured: because of its bytes, or because of the GPU.
    fn unmeasured(&self, error: GpuError) -> WeighError {
        let path = self.path.clone();
        match error {
            GpuError::Tally(error) => WeighError::Bytes {
                path,
                reason: error.to_string(),
            },
            error => WeighError::Gpu { path, error },
        }
    }

    fn wrong(&self, reason: String) -> WeighError {
        WeighError::Bytes {
            path: self.path.clone(),
            reason,
        }
    }

    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, WeighError> {
        let path = self.path.clone();
        let bad = |error| WeighError::Safetensors { path, error };
        let Stage::Header(head) = &mut self.stage else {
            return Ok(0);
        };
        let wanted = match head.first_chunk::<{ LENGTH_BYTES as usize }>() {
            None => LENGTH_BYTES,
            Some(first) => LENGTH_BYTES + header_length(first, self.size).map_err(bad.clone())?,
        };
        let lacking = wanted as usize - head.len();
        let used = lacking.min(bytes.len());
        head.extend_from_slice(&bytes[..used]);
        let whole =
            wanted > LENGTH_BYTES || head.first_chunk().is_some_and(|first: &[u8; 8]| *first == [0; 8]);
        if used == lacking && whole {
            let header = Header::parse(&head[LENGTH_BYTES as usize..], self.size).map_err(bad)?;
            let tensors = header.tensors().len() as u64;
            if tensors > self.most {
                return Err(WeighError::TooMany { tensors });
            }
            self.stage = Stage::Data(header.tensors().iter().cloned().collect(), None);
        }
        Ok(used)
    }

    fn take_data(&mut self, bytes: &[u8], taker: Taker<'_>) -> Result<usize, WeighError> {
        self.finish_tensors(taker)?;
        let at = self.at;
        let Stage::Data(tensors, pass) = &mut self.stage else {
            return Ok(0);
        };
        let Some(tensor) = tensors.front() else {
            return Err(self.wrong("bytes came behind its end".to_owned()));
        };
        let lacking = usize::try_from(tensor.bytes.end - at).unwrap_or(usize::MAX);
        let used = lacking.min(bytes.len());
        if pass.is_none() {
            let element = Element::from_name(&tensor.dtype.to_string());
            let begun = element.map(|element| Meter::new(element, self.gpu.as_ref()));
            *pass = match begun.transpose() {
                Ok(pass) => pass,
                Err(error) => return Err(self.unmeasured(error)),
            };
        }
        if let Some(pass) = pass {
            let added = pass.add(&bytes[..used]);
            added.map_err(|e| self.unmeasured(e))?;
        }
        Ok(used)
    }

    /// Ends the tensors of which nothing is to come.
    fn finish_tensors(&mut self, taker: Taker<'_>) -> Result<(), WeighError> {
        loop {
            let at = self.at;
            let Stage::Data(tensors, pass) = &mut self.stage else {
                return Ok(());
            };
            let Some(tensor) = tensors.pop_front_if(|tensor| tensor.bytes.end <= at) else {
                return Ok(());
            };
            let element = Element::from_name(&tensor.dtype.to_string());
            let pass = match (pass.take(), element) {
                (Some(pass), _) => Some(Ok(pass)),
                // Without elements there is nothing for a GPU to do.
                (None, element) => element.map(|element| Meter::new(element, None)),
            };
            let measured = pass.map(|pass| pass.and_then(Meter::finish)).transpose();
            let measured = measured.map_err(|error| match self.unmeasured(error) {
                WeighError::Bytes { path, reason } => WeighError::Bytes {
                    path,
                    reason: format!("{}: {reason}", tensor.name),
                },
                other => other,
            })?;
            taker(Read { tensor, measured }).map_err(|e| self.wrong(e.to_string()))?;
        }
    }
}
