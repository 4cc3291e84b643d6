//! Buffers for bulk bytes, used again and again.
//!
//! A frame's worth of memory is large enough that an allocator gives it back to the system each time, and the system
//! clears it page by page when it is next asked for: a third of the time that a transfer spent in the kernel. So what
//! has carried one frame is kept for the next one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use handover_core::limits::GROUP;

/// Bytes in each kept buffer: a group, and as much header as there is with one. A frame may have more, and has memory of
/// its own then: with room for the largest header each buffer would be a fifth larger, and a window is made of them.
const SIZE: usize = GROUP as usize + 16 * 1024;
/// Buffers kept at the most.
const KEPT: usize = 32;
/// What is smaller gets memory of its own: in one of these it would hold far more than it has bytes in, and what came
/// of small files waits long for the disk.
const SMALL: usize = SIZE / 2;

/// A stock of buffers, shared by all threads of a driver.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// So many bytes of memory, which go back to their stock when nobody holds them any more. What is in them at first is
/// left from before.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    len: usize,
    stock: Option<Arc<Buffers>>,
}

impl Buffers {
    /// A buffer of `len` bytes.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        if !(SMALL..=SIZE).contains(&len) {
            return Buffer {
                memory: vec![0; len],
                len,
                stock: None,
            };
        }
        let kept = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Buffer {
            memory: kept.unwrap_or_else(|| vec![0; SIZE]),
            len,
            stock: Some(Arc::clone(self)),
        }
    }
}

impl Buffer {
    /// Leaves only the first `len` bytes, if there are more.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes, to be shared.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(stock) = &self.stock else {
            return;
        };
        let mut free = stock.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_last_of_its_bytes_is_gone() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(SIZE - 1);
        buffer.truncate(SMALL);
        let address = buffer.as_ref().as_ptr();
        let bytes = buffer.freeze();
        let part = bytes.slice(5..9);
        drop(bytes);
        assert_ne!(
            buffers.take(SIZE).as_ref().as_ptr(),
            address,
            "somebody still reads it"
        );
        drop(part);
        let again = buffers.take(SMALL);
        assert_eq!(again.as_ref().len(), SMALL);
        assert!(buffers.free.lock().unwrap().len() <= 1);
    }

    #[test]
    fn no_more_are_kept_than_are_of_use() {
        let buffers = Arc::new(Buffers::default());
        let many: Vec<_> = (0..KEPT + 5).map(|_| buffers.take(SIZE)).collect();
        drop(many);
        assert_eq!(buffers.free.lock().unwrap().len(), KEPT);
    }
}
