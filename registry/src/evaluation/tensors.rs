//! One safetensors file, measured while its bytes pass by.

use std::collections::VecDeque;

use waag_kernels::pass::Measured;
use waag_kernels::{Element, Pass};
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
    read: Vec<Read>,
}

enum Stage {
    /// The header, as far as it is here.
    Header(Vec<u8>),
    /// The tensors that are to come; the first may have begun.
    Data(VecDeque<Tensor>, Option<Box<Pass>>),
}

impl Tensors {
    pub(super) fn begin(path: &str, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            size,
            at: 0,
            stage: Stage::Header(Vec::new()),
            read: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), WeighError> {
        while !bytes.is_empty() {
            let used = match &mut self.stage {
                Stage::Header(_) => self.take_header(bytes)?,
                Stage::Data(..) => self.take_data(bytes)?,
            };
            bytes = &bytes[used..];
            self.at += used as u64;
        }
        Ok(())
    }

    /// Returns what was read.
    pub(super) fn end(mut self) -> Result<Vec<Read>, WeighError> {
        // Tensors without elements may stand at the end.
        self.finish_tensors()?;
        match &self.stage {
            Stage::Data(tensors, _) if tensors.is_empty() && self.at == self.size => Ok(self.read),
            _ => Err(self.wrong(format!("{} of {} bytes came", self.at, self.size))),
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
            self.stage = Stage::Data(header.tensors().iter().cloned().collect(), None);
        }
        Ok(used)
    }

    fn take_data(&mut self, bytes: &[u8]) -> Result<usize, WeighError> {
        self.finish_tensors()?;
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
            *pass = element.map(|element| Box::new(Pass::new(element)));
        }
        if let Some(pass) = pass {
            let added = pass.add(&bytes[..used]);
            added.map_err(|e| self.wrong(e.to_string()))?;
        }
        Ok(used)
    }

    /// Ends the tensors of which nothing is to come.
    fn finish_tensors(&mut self) -> Result<(), WeighError> {
        loop {
            let at = self.at;
            let Stage::Data(tensors, pass) = &mut self.stage else {
                return Ok(());
            };
            let Some(tensor) = tensors.pop_front_if(|tensor| tensor.bytes.end <= at) else {
                return Ok(());
            };
            let element = Element::from_name(&tensor.dtype.to_string());
            let pass = pass
                .take()
                .or_else(|| element.map(|element| Box::new(Pass::new(element))));
            let measured = pass.map(|pass| pass.finish()).transpose();
            let measured = measured.map_err(|e| self.wrong(format!("{}: {e}", tensor.name)))?;
            self.read.push(Read { tensor, measured });
        }
    }
}
