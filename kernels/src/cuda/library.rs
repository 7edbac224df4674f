//! A device of NVIDIA's, by the driver's own interface, which is loaded at run time.
//!
//! Each device has a thread of its own, and only that thread calls the driver: it owns the context, two streams (one
//! computes, one copies) and [`SLOTS`] buffers of pinned memory that transfers go through by turns. Others send it jobs.
//! Launches are only sent; what gives an answer is waited for. An error that nobody waited for is given to the next who
//! waits.
//!
//! All `unsafe` of the CUDA backend is in this file. What it rests on: pointers and handles are made and used on one
//! thread, in the order of jobs; addresses come from [`Machine::allocate`] and callers keep within them; a kernel is
//! launched with arguments of its own types, which the tests hold against the CPU.
#![allow(unsafe_code, reason = "the driver's interface is one of C")]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{Builder, JoinHandle};

use cudarc::driver::{DriverError, result, sys};

use super::error::{GpuError, NoGpu};
use super::gpu::Description;
use super::images;
use super::machine::{Arguments, Fence, Machine};

/// Buffers of pinned memory.
const SLOTS: usize = 4;
const SLOT_BYTES: usize = 8 << 20;
/// Fences that are told apart. An older one stands for a newer one, which is later.
const FENCES: u64 = 1024;
/// Jobs that may wait for the thread.
const JOBS: usize = 4096;

type Job<'a> = Box<dyn FnOnce(&mut Device) + Send + 'a>;

/// A device's thread, seen from others.
pub(super) struct Library {
    jobs: Option<SyncSender<Job<'static>>>,
    thread: Option<JoinHandle<()>>,
    fences: AtomicU64,
}

impl Library {
    /// Opens a device.
    pub(super) fn open(ordinal: usize) -> Result<(Self, Description), NoGpu> {
        // SAFETY: this tries to load a library of this name, and runs what NVIDIA's runs when it is loaded.
        if !unsafe { sys::is_culib_present() } {
            return Err(NoGpu::NoDriver);
        }
        let (jobs, waiting) = mpsc::sync_channel::<Job<'static>>(JOBS);
        let (tell, told) = mpsc::sync_channel(1);
        let work = move || {
            // A driver that lacks a function makes `cudarc` panic.
            let opened = catch_unwind(|| Device::open(ordinal))
                .unwrap_or_else(|_| Err(refused("opening it", "it panicked")));
            match opened {
                Ok((mut device, description)) => {
                    if tell.send(Ok(description)).is_ok() {
                        for job in waiting {
                            if catch_unwind(AssertUnwindSafe(|| job(&mut device))).is_err() {
                                device.fail(failed("a job", "it panicked"));
                            }
                        }
                    }
                }
                Err(reason) => drop(tell.send(Err(reason))),
            }
        };
        let thread = Builder::new()
            .name(format!("waag-gpu-{ordinal}"))
            .spawn(work)
            .map_err(|error| refused("starting a thread", error))?;
        let description = told
            .recv()
            .unwrap_or_else(|_| Err(refused("opening it", "its thread ended")))?;
        let library = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            fences: AtomicU64::new(0),
        };
        Ok((library, description))
    }

    /// Lets the device's thread do something, and does not wait. What it reports is given to the next who waits.
    fn send(
        &self,
        job: impl FnOnce(&mut Device) -> Result<(), GpuError> + Send + 'static,
    ) -> Result<(), GpuError> {
        let job: Job<'static> = Box::new(move |device| {
            if device.failed.is_none()
                && let Err(error) = job(device)
            {
                device.fail(error);
            }
        });
        self.jobs
            .as_ref()
            .ok_or_else(ended)?
            .send(job)
            .map_err(|_| ended())
    }

    /// Lets the device's thread do something, and waits for the result.
    fn call<R: Send>(
        &self,
        job: impl FnOnce(&mut Device) -> Result<R, GpuError> + Send,
    ) -> Result<R, GpuError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job<'_> = Box::new(move |device| {
            let result = match &device.failed {
                Some(error) => Err(error.clone()),
                None => job(device),
            };
            // Who asked is waiting.
            drop(answer.send(result));
        });
        // SAFETY: what the job borrows outlives it: this waits until `answer` was used or dropped, and after either the job
        // touches nothing that it borrows. Only references are captured, which do nothing when they are dropped.
        let job: Job<'static> = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        self.jobs
            .as_ref()
            .ok_or_else(ended)?
            .send(job)
            .map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())?
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It catches what panics.
            drop(thread.join());
        }
    }
}

impl Machine for Library {
    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        // SAFETY: the context is current on that thread.
        self.call(move |_| match unsafe { result::malloc_sync(bytes) } {
            Err(DriverError(sys::cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(GpuError::Memory { wanted: bytes })
            }
            other => named("cuMemAlloc", other),
        })
    }

    fn free(&self, address: u64) {
        // SAFETY: the address came from `allocate`, and whoever gives it back uses it no more. A device that has failed
        // gives its memory back when the process ends.
        drop(self.send(move |_| named("cuMemFree", unsafe { result::free_sync(address) })));
    }

    fn fence(&self) -> Result<Fence, GpuError> {
        let fence = self.fences.fetch_add(1, Ordering::Relaxed);
        self.send(move |device| {
            let event = device.event(Fence(fence))?;
            // SAFETY: the event and the stream are the device's, and live.
            named("cuEventRecord", unsafe {
                result::event::record(event, device.compute)
            })
        })?;
        Ok(Fence(fence))
    }

    fn write(&self, to: u64, bytes: &[u8], after: Option<Fence>) -> Result<(), GpuError> {
        self.call(move |device| device.write(to, bytes, after))
    }

    fn join(&self) -> Result<(), GpuError> {
        self.send(|device| {
            // SAFETY: the event and both streams are the device's, and live.
            unsafe {
                named("cuEventRecord", result::event::record(device.joined, device.copy))?;
                let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
                named(
                    "cuStreamWaitEvent",
                    result::stream::wait_event(device.compute, device.joined, flags),
                )
            }
        })
    }

    fn zero(&self, at: u64, bytes: usize) -> Result<(), GpuError> {
        self.send(move |device| {
            // SAFETY: the caller keeps within what was allocated.
            named("cuMemsetD8Async", unsafe {
                result::memset_d8_async(at, 0, bytes, device.compute)
            })
        })
    }

    fn read(&self, from: u64, into: &mut [u8]) -> Result<(), GpuError> {
        self.call(move |device| {
            // SAFETY: the caller keeps within what was allocated, and waits until the stream is through.
            unsafe {
                named(
                    "cuMemcpyDtoHAsync",
                    result::memcpy_dtoh_async(into, from, device.compute),
                )?;
                named("cuStreamSynchronize", result::stream::synchronize(device.compute))
            }
        })
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        arguments: Arguments,
    ) -> Result<(), GpuError> {
        self.send(move |device| device.launch(kernel, grid, threads, arguments))
    }

    fn wait(&self) -> Result<(), GpuError> {
        self.call(|device| {
            // SAFETY: both streams are the device's, and live.
            unsafe {
                named("cuStreamSynchronize", result::stream::synchronize(device.copy))?;
                named("cuStreamSynchronize", result::stream::synchronize(device.compute))
            }
        })
    }
}

/// A device, on its thread.
struct Device {
    number: sys::CUdevice,
    module: sys::CUmodule,
    functions: HashMap<&'static str, sys::CUfunction>,
    compute: sys::CUstream,
    copy: sys::CUstream,
    joined: sys::CUevent,
    fences: HashMap<u64, sys::CUevent>,
    slots: Vec<Slot>,
    next: usize,
    failed: Option<GpuError>,
}

/// Pinned memory, and the event that is recorded behind its last transfer.
struct Slot {
    memory: *mut u8,
    done: sys::CUevent,
}

impl Device {
    fn open(ordinal: usize) -> Result<(Self, Description), NoGpu> {
        let mut driver = 0;
        // SAFETY: the driver writes one number, and may be asked for it at any time.
        let asked = unsafe { sys::cuDriverGetVersion(&raw mut driver) }.result();
        named("cuDriverGetVersion", asked).map_err(NoGpu::Refused)?;
        if driver < images::CUDA_MIN {
            let (found, needed) = (driver, images::CUDA_MIN);
            return Err(NoGpu::DriverTooOld { found, needed });
        }
        match result::init() {
            Err(DriverError(sys::cudaError_enum::CUDA_ERROR_NO_DEVICE)) => return Err(NoGpu::NoDevice),
            other => named("cuInit", other).map_err(NoGpu::Refused)?,
        }
        let found = named("cuDeviceGetCount", result::device::get_count()).map_err(NoGpu::Refused)?;
        let found = usize::try_from(found).unwrap_or(0);
        let number = i32::try_from(ordinal).ok().filter(|_| ordinal < found);
        let Some(number) = number else {
            return Err(match found {
                0 => NoGpu::NoDevice,
                _ => NoGpu::NoSuchDevice {
                    wanted: ordinal,
                    found,
                },
            });
        };
        Self::of(number, driver)
    }

    fn of(number: i32, driver: i32) -> Result<(Self, Description), NoGpu> {
        use sys::CUdevice_attribute as Attribute;
        let known = |call, result| named(call, result).map_err(NoGpu::Refused);
        let number = known("cuDeviceGet", result::device::get(number))?;
        let name = named("cuDeviceGetName", result::device::get_name(number)).map_err(NoGpu::Refused)?;
        let attribute = |attribute| {
            // SAFETY: the number is a device's.
            known("cuDeviceGetAttribute", unsafe {
                result::device::get_attribute(number, attribute)
            })
        };
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?.unsigned_abs();
        if capability < (8, 0) {
            return Err(NoGpu::DeviceTooOld { name, capability });
        }
        // SAFETY: the number is a device's; the context is made current on the thread that uses it.
        let memory = unsafe {
            let context = named("cuDevicePrimaryCtxRetain", result::primary_ctx::retain(number))
                .map_err(NoGpu::Refused)?;
            named("cuCtxSetCurrent", result::ctx::set_current(context)).map_err(NoGpu::Refused)?;
            named("cuDeviceTotalMem", result::device::total_mem(number)).map_err(NoGpu::Refused)?
        };
        let (module, assembled) = load(capability).map_err(NoGpu::Refused)?;
        let device = Self::with(number, module).map_err(NoGpu::Refused)?;
        // Without it the device works as well; only its energy is not found.
        let uuid = result::device::get_uuid(number).ok();
        let description = Description {
            name,
            capability,
            driver,
            memory: memory as u64,
            multiprocessors,
            assembled,
            uuid: uuid.map(|uuid| uuid.bytes.map(|byte| byte.to_ne_bytes()[0])),
        };
        Ok((device, description))
    }

    fn with(number: sys::CUdevice, module: sys::CUmodule) -> Result<Self, GpuError> {
        let stream = || {
            named(
                "cuStreamCreate",
                result::stream::create(result::stream::StreamKind::NonBlocking),
            )
        };
        let slot = |_| {
            // Written by this process only, from its beginning: that is what write-combined memory is for.
            let flags = sys::CU_MEMHOSTALLOC_WRITECOMBINED;
            // SAFETY: the context is current, and the memory is given back when the device is dropped.
            let memory = named("cuMemHostAlloc", unsafe {
                result::malloc_host(SLOT_BYTES, flags)
            })?;
            let memory = memory.cast();
            Ok(Slot {
                memory,
                done: event()?,
            })
        };
        Ok(Self {
            number,
            module,
            functions: HashMap::new(),
            compute: stream()?,
            copy: stream()?,
            joined: event()?,
            fences: HashMap::new(),
            slots: (0..SLOTS).map(slot).collect::<Result<_, GpuError>>()?,
            next: 0,
            failed: None,
        })
    }

    fn fail(&mut self, error: GpuError) {
        self.failed.get_or_insert(error);
    }

    fn event(&mut self, fence: Fence) -> Result<sys::CUevent, GpuError> {
        let at = fence.0 % FENCES;
        if let Some(event) = self.fences.get(&at) {
            return Ok(*event);
        }
        let event = event()?;
        self.fences.insert(at, event);
        Ok(event)
    }

    fn write(&mut self, to: u64, bytes: &[u8], after: Option<Fence>) -> Result<(), GpuError> {
        if let Some(fence) = after {
            let event = self.event(fence)?;
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            // SAFETY: the event and the stream are the device's, and live.
            named("cuStreamWaitEvent", unsafe {
                result::stream::wait_event(self.copy, event, flags)
            })?;
        }
        for (part, bytes) in bytes.chunks(SLOT_BYTES).enumerate() {
            let slot = &self.slots[self.next];
            self.next = (self.next + 1) % SLOTS;
            // SAFETY: once its last transfer is done, nobody uses the slot, and the part is not longer than it is. The
            // transfer reads the slot, which lives on, and writes within what the caller allocated.
            unsafe {
                named("cuEventSynchronize", result::event::synchronize(slot.done))?;
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot.memory, bytes.len());
                let pinned = std::slice::from_raw_parts(slot.memory, bytes.len());
                let to = to + (part * SLOT_BYTES) as u64;
                named(
                    "cuMemcpyHtoDAsync",
                    result::memcpy_htod_async(to, pinned, self.copy),
                )?;
                named("cuEventRecord", result::event::record(slot.done, self.copy))?;
            }
        }
        Ok(())
    }

    fn launch(
        &mut self,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        mut arguments: Arguments,
    ) -> Result<(), GpuError> {
        let function = match self.functions.get(kernel) {
            Some(function) => *function,
            None => {
                let name = CString::new(kernel).map_err(|error| failed(kernel, error))?;
                // SAFETY: the module is the device's, and live.
                let function = named(kernel, unsafe { result::module::get_function(self.module, name) })?;
                self.functions.insert(kernel, function);
                function
            }
        };
        let slots = arguments.slots.as_mut_ptr();
        let starts = arguments.starts.iter();
        let mut parameters: Vec<*mut c_void> = starts
            .map(|start| slots.wrapping_add(*start as usize).cast())
            .collect();
        let (grid, block) = ((grid[0], grid[1], grid[2]), (threads, 1, 1));
        // SAFETY: the driver copies the arguments before it returns. Each begins at the start of its slot, is little-endian
        // as the device is, and no longer than its slots.
        let launched =
            unsafe { result::launch_kernel(function, grid, block, 0, self.compute, &mut parameters) };
        named(kernel, launched)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: everything is the device's, and used no more once the streams are through. What fails now fails for the
        // last time.
        unsafe {
            let _ = result::stream::synchronize(self.copy);
            let _ = result::stream::synchronize(self.compute);
            for slot in &self.slots {
                let _ = result::free_host(slot.memory.cast());
                let _ = result::event::destroy(slot.done);
            }
            for event in self.fences.values().chain([&self.joined]) {
                let _ = result::event::destroy(*event);
            }
            let _ = result::stream::destroy(self.copy);
            let _ = result::stream::destroy(self.compute);
            let _ = result::module::unload(self.module);
            let _ = result::primary_ctx::release(self.number);
        }
    }
}

/// Loads the kernels that were made for a device, or lets the driver assemble them.
fn load(capability: (i32, i32)) -> Result<(sys::CUmodule, bool), GpuError> {
    if capability == (9, 0) {
        // The driver reads it as structures of 8 bytes: an allocation of its own begins where those may.
        let image = images::HOPPER.to_vec();
        // SAFETY: the image is a whole one, whose length it knows itself.
        if let Ok(module) = unsafe { result::module::load_data(image.as_ptr().cast()) } {
            return Ok((module, false));
        }
    }
    let text = CString::new(images::PORTABLE).map_err(|error| failed("cuModuleLoadData", error))?;
    // SAFETY: the text ends with a zero.
    let module = named("cuModuleLoadData", unsafe {
        result::module::load_data(text.as_ptr().cast())
    })?;
    Ok((module, true))
}

fn event() -> Result<sys::CUevent, GpuError> {
    named(
        "cuEventCreate",
        result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING),
    )
}

fn named<R>(call: &str, result: Result<R, DriverError>) -> Result<R, GpuError> {
    result.map_err(|error| failed(call, format_args!("{error:?}")))
}

fn failed(call: &str, problem: impl std::fmt::Display) -> GpuError {
    GpuError::Driver {
        call: call.to_owned(),
        problem: problem.to_string(),
    }
}

fn refused(call: &str, problem: impl std::fmt::Display) -> NoGpu {
    NoGpu::Refused(failed(call, problem))
}

fn ended() -> GpuError {
    failed("a job", "the GPU's thread has ended")
}

/// Numbers that are their bytes, and that any bytes are.
pub(super) trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for f32 {}
impl Plain for u32 {}
impl Plain for u64 {}

/// Returns the bytes of numbers, as this machine and the device have them.
pub(super) fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: the bytes are those of the slice, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Returns the bytes of numbers, to be written.
pub(super) fn bytes_of_mut<T: Plain>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: the bytes are those of the slice, bytes need no alignment, and whatever they become is a number.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}
