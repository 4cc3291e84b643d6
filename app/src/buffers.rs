//! A pool of reusable buffers for bulk data.
//!
//! Buffers of a frame's size are so large that the allocator returns them to the system on every free, and the kernel
//! zeroes each page when they are allocated again: a third of a transfer's kernel time. The pool keeps the buffer of
//! one frame for the next.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use handover_core::limits::GROUP;

/// Size of a pooled buffer in bytes: one group plus the header that usually comes with it. A larger frame gets its own
/// allocation: room for the largest header would make each buffer a fifth larger, and a window consists of such
/// buffers.
const SIZE: usize = GROUP as usize + 16 * 1024;
/// Maximum number of buffers kept in the pool.
const KEPT: usize = 32;
/// Requests below this many bytes get their own allocation: in a pooled buffer most of the memory would be unused, and
/// data of small files waits long for the disk.
const SMALL: usize = SIZE / 2;

/// A pool of buffers, shared by all threads of a driver.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer of `len` bytes that returns to its pool when dropped. Its initial contents are unspecified: they may be
/// left over from an earlier use.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    len: usize,
    stock: Option<Arc<Buffers>>,
}

impl Buffers {
    /// Returns a buffer of `len` bytes.
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
    /// Shortens the buffer to its first `len` bytes. Does nothing if it is shorter already.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Converts the buffer into shared [`Bytes`], without copying.
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
