//! The buffers of a connection that has something to keep, and the pool they come from.
//!
//! An idle connection has none. What a handler leaves unconsumed and what a socket doesn't take is
//! copied into a [`Buffers`], which goes back to the [`Pool`] when both halves are empty.

use crate::stats::Traffic;

/// Bytes in order: added at the end, taken from the front.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    storage: Vec<u8>,
    /// Bytes at the front of `storage` that were taken. Invariant: `head <= storage.len()`, and
    /// both are 0 when the buffer is empty.
    head: usize,
}

impl Buffer {
    /// What is there, oldest first.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.storage[self.head..]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.storage.len() - self.head
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `bytes` at the end; false, and nothing changed, when there is no memory for them. With
    /// `room` bytes of memory left for all, it takes more than it needs, against the next time,
    /// only while that is little of it.
    ///
    /// Room that was taken from the front is used first where moving what is left costs no more
    /// than what was taken: every byte is moved at most once for each time it's passed over, so the
    /// whole stays linear.
    #[must_use]
    pub(crate) fn push(&mut self, bytes: &[u8], room: usize) -> bool {
        let grows = self.storage.len() + bytes.len() > self.storage.capacity();
        if grows && self.head >= self.len() {
            self.storage.drain(..self.head);
            self.head = 0;
        }
        let reserved = match self.capacity() > room / 4 {
            true => self.storage.try_reserve_exact(bytes.len()),
            false => self.storage.try_reserve(bytes.len()),
        };
        if reserved.is_err() {
            return false;
        }
        self.storage.extend_from_slice(bytes);
        true
    }

    /// Takes `count` bytes from the front, of those that are there.
    pub(crate) fn take(&mut self, count: usize) {
        self.head = (self.head + count).min(self.storage.len());
        if self.head == self.storage.len() {
            self.clear();
        } else if self.capacity() > SMALLEST_SHRUNK && self.len() < self.capacity() / 8 {
            self.shrink_to(2 * self.len());
        }
    }

    /// Gives back memory that the content no longer needs: capacity outlives content, and a few
    /// bytes must not hold what a megabyte took. At most an eighth of what was taken since is
    /// copied, so the whole stays linear.
    #[cold]
    fn shrink_to(&mut self, capacity: usize) {
        let mut storage = Vec::new();
        // Without memory for a smaller one it stays as it is.
        if storage.try_reserve_exact(capacity).is_ok() {
            storage.extend_from_slice(self.bytes());
            (self.storage, self.head) = (storage, 0);
        }
    }

    /// Gives back what was taken from the front, where moving what is left costs little more than
    /// that: for when memory is short.
    pub(crate) fn fit(&mut self) {
        if 4 * self.head >= self.len() {
            self.shrink_to(self.len());
        }
    }

    /// Takes all. A rare large message doesn't stay in memory.
    pub(crate) fn clear(&mut self) {
        if self.capacity() > LARGEST_KEPT {
            self.storage = Vec::new();
        }
        self.storage.clear();
        self.head = 0;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.storage.capacity()
    }

    /// Bytes that can be added without more memory.
    pub(crate) fn spare(&self) -> usize {
        self.storage.capacity() - self.storage.len()
    }
}

/// A buffer up to this size, in bytes, is not worth a smaller one.
const SMALLEST_SHRUNK: usize = 16 << 10;
/// The most memory that an empty buffer holds on to, in bytes.
const LARGEST_KEPT: usize = 128 << 10;

/// What the running callback writes to its own connection, until it returns: bytes up to a bound.
///
/// Its size is fixed, so that adding to it is one comparison and one copy; a `Vec` would ask every
/// time whether it must grow, out of line.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    storage: Box<[u8]>,
    /// Invariant: `len <= storage.len()`.
    len: usize,
}

impl Gather {
    /// An empty one that takes `bound` bytes.
    pub(crate) fn new(bound: usize) -> Gather {
        Gather {
            storage: vec![0; bound].into_boxed_slice(),
            len: 0,
        }
    }

    /// Adds all of `bytes` if there's room for them; whether there was.
    #[inline(always)]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let end = self.len + bytes.len();
        match self.storage.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.storage[..self.len]
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// No time yet.
pub(crate) const UNTOLD: u32 = 0;

/// What one connection keeps while it has something to keep.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Read from the socket, not consumed by the handler.
    pub(crate) input: Buffer,
    /// Written by the handler, not taken by the socket.
    pub(crate) output: Buffer,
    /// A number that the connection's owner keeps here while output is pending: the reactor's tick
    /// when some of it last moved. It stands here so that an idle connection needs no room for it.
    pub(crate) mark: u32,
    /// Another such number beside unconsumed input: when the present frame began; [`UNTOLD`] until
    /// the owner says so.
    pub(crate) begun: u32,
    /// Bytes of memory behind the input while that is lent to the handler, and is not here.
    pub(crate) lent: usize,
    /// The connection's counters, where it has any: then the buffers are its own to its end.
    pub(crate) traffic: Option<Traffic>,
}

impl Buffers {
    pub(crate) fn is_empty(&self) -> bool {
        self.input.is_empty() && self.output.is_empty() && self.lent == 0 && self.traffic.is_none()
    }

    /// The bytes of memory that they take.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Buffers>() + self.input.capacity() + self.output.capacity() + self.lent
    }

    /// Frees the memory of one that is empty, where that is much, while the other is in use; and
    /// any, while only the counters are. It would be held, and counted, for nothing. Otherwise both
    /// are the pool's when they are empty.
    pub(crate) fn free_unused(&mut self) {
        let counted = self.traffic.is_some();
        let free = |unused: &mut Buffer, used: &Buffer| {
            let much = !used.is_empty() && unused.capacity() > SMALLEST_SHRUNK;
            if unused.is_empty() && (counted || much) {
                *unused = Buffer::default();
            }
        };
        free(&mut self.input, &self.output);
        free(&mut self.output, &self.input);
    }

    /// What they keep. Empty ones are the pool's, whose memory no connection keeps.
    pub(crate) fn kept(&self) -> Kept {
        if self.is_empty() {
            return Kept::default();
        }
        Kept {
            input: self.input.len(),
            output: self.output.len(),
            memory: self.memory(),
        }
    }
}

/// How much one connection keeps, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    /// Input, but for what is lent to the handler.
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// The memory behind both, with that of the lent input.
    pub(crate) memory: usize,
}

/// Buffers to be used again, so that a steady load allocates nothing.
#[derive(Debug)]
pub(crate) struct Pool {
    // The boxes are what connections hold: they are pooled as they are, to keep a slot small.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Buffers>>,
    /// Bytes that `free` holds on to. Invariant: at most `limit`.
    held: usize,
    limit: usize,
}

impl Pool {
    /// A pool that keeps at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Pool {
        Pool {
            free: Vec::new(),
            held: 0,
            limit,
        }
    }

    /// Empty buffers.
    pub(crate) fn take(&mut self) -> Box<Buffers> {
        match self.free.pop() {
            Some(buffers) => {
                self.held -= buffers.memory();
                buffers
            }
            None => Box::default(),
        }
    }

    /// Takes buffers back, whatever is in them.
    pub(crate) fn give_back(&mut self, mut buffers: Box<Buffers>) {
        buffers.input.clear();
        buffers.output.clear();
        buffers.traffic = None;
        let cost = buffers.memory();
        if self.held + cost <= self.limit {
            self.held += cost;
            self.free.push(buffers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::default();
        assert!(buffer.push(b"hello ", usize::MAX));
        buffer.take(2);
        assert!(buffer.push(b"world", usize::MAX));
        assert_eq!(buffer.bytes(), b"llo world");
        buffer.take(9);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_queue_that_never_empties_does_not_grow() {
        let mut buffer = Buffer::default();
        assert!(buffer.push(&[1; 1000], usize::MAX));
        for _ in 0..10_000 {
            assert!(buffer.push(&[2; 100], usize::MAX));
            buffer.take(100);
        }
        assert_eq!(buffer.len(), 1000);
        assert!(
            buffer.capacity() < 8000,
            "{} bytes for 1,000",
            buffer.capacity()
        );
    }

    #[test]
    fn capacity_does_not_outlive_content() {
        let mut buffer = Buffer::default();
        assert!(buffer.push(&[1; 1 << 20], usize::MAX));
        buffer.take((1 << 20) - 1);
        assert_eq!(buffer.bytes(), [1]);
        assert!(buffer.capacity() < 100, "{} for 1", buffer.capacity());
        buffer.take(1);
        assert!(buffer.is_empty());
    }

    /// A buffer with a memory of `capacity`, in which `head` of `len` bytes were taken.
    fn buffer(capacity: usize, len: usize, head: usize) -> Buffer {
        let mut storage = Vec::with_capacity(capacity);
        storage.resize(len, 7);
        Buffer { storage, head }
    }

    #[test]
    fn room_at_the_front_is_used_when_there_is_none_behind_and_moving_is_cheap() {
        // Capacity, length, head, bytes to add; the head and the capacity after it.
        let cases = [
            ((100, 80, 50, 20), (50, 100)),
            ((100, 80, 50, 21), (0, 100)),
            ((100, 80, 40, 21), (0, 100)),
            ((100, 80, 39, 21), (39, 101)),
            ((100, 80, 0, 20), (0, 100)),
        ];
        for ((capacity, len, head, more), after) in cases {
            let mut buffer = buffer(capacity, len, head);
            assert!(buffer.push(&vec![8; more], 0));
            assert_eq!((buffer.head, buffer.capacity()), after);
            assert_eq!(buffer.len(), len - head + more);
            assert!(buffer.bytes().starts_with(&vec![7; len - head]));
        }
    }

    #[test]
    fn it_grows_against_the_next_time_only_while_it_has_little_of_the_memory_that_is_left() {
        for (room, capacity) in [(0, 101), (399, 101), (400, 200), (usize::MAX, 200)] {
            let mut buffer = buffer(100, 100, 0);
            assert!(buffer.push(b"x", room));
            assert_eq!(buffer.capacity(), capacity, "with room for {room}");
        }
    }

    #[test]
    fn a_large_buffer_shrinks_when_less_than_an_eighth_of_it_is_left() {
        // Capacity, bytes left; the capacity after it.
        let cases = [
            ((16 << 10, 1), 16 << 10),
            ((32 << 10, 4096), 32 << 10),
            ((32 << 10, 4095), 8190),
        ];
        for ((capacity, left), after) in cases {
            let mut buffer = buffer(capacity, capacity, 0);
            buffer.take(capacity - left);
            assert_eq!((buffer.len(), buffer.capacity()), (left, after));
        }
    }

    #[test]
    fn when_memory_is_short_what_was_taken_is_given_back_where_moving_the_rest_is_cheap() {
        for (head, after) in [(0, 100), (19, 100), (20, 80), (99, 1)] {
            let mut buffer = buffer(100, 100, head);
            buffer.fit();
            assert_eq!((buffer.len(), buffer.capacity()), (100 - head, after));
        }
    }

    #[test]
    fn an_empty_buffer_keeps_128_kib_at_most() {
        for (capacity, after) in [(128 << 10, 128 << 10), ((128 << 10) + 1, 0)] {
            let mut buffer = buffer(capacity, 5, 2);
            assert_eq!(buffer.spare(), capacity - 5);
            buffer.clear();
            assert_eq!((buffer.len(), buffer.capacity()), (0, after));
        }
    }

    #[test]
    fn an_empty_half_gives_a_large_memory_back_while_the_other_is_in_use() {
        for (capacity, after) in [(16 << 10, 16 << 10), ((16 << 10) + 1, 0)] {
            let mut buffers = Buffers {
                begun: UNTOLD,
                input: buffer(capacity, 0, 0),
                output: buffer(50, 10, 0),
                mark: 0,
                lent: 7,
                traffic: None,
            };
            assert_eq!(buffers.memory(), size_of::<Buffers>() + capacity + 57);
            buffers.free_unused();
            assert_eq!(
                (buffers.input.capacity(), buffers.output.capacity()),
                (after, 50)
            );
        }
    }

    #[test]
    fn what_is_gathered_is_whole_writes_up_to_the_bound() {
        let mut gather = Gather::new(8);
        assert!(gather.push(b"abcde") && !gather.push(b"fghi") && gather.push(b"fgh"));
        assert_eq!(gather.bytes(), b"abcdefgh");
        assert!(!gather.push(b"i") && gather.push(b""));
        gather.clear();
        assert!(gather.is_empty() && gather.push(b"12345678"));
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let used = || {
            let mut buffers = Box::<Buffers>::default();
            assert!(buffers.input.push(&[0; 400], usize::MAX));
            buffers
        };
        let limit = used().memory() * 5 / 2;
        let mut pool = Pool::new(limit);
        for _ in 0..100 {
            pool.give_back(used());
        }
        assert!(pool.held <= limit);
        assert_eq!(pool.free.len(), 2);
        assert!(pool.take().is_empty());
        assert_eq!(pool.held, pool.free[0].memory());
        while !pool.free.is_empty() {
            pool.take();
        }
        assert_eq!(pool.held, 0);
    }

    #[test]
    fn buffers_beyond_the_limit_are_not_pooled() {
        let mut pool = Pool::new(100);
        pool.give_back(Box::new(Buffers {
            input: buffer(100, 0, 0),
            ..Buffers::default()
        }));
        assert!(pool.free.is_empty());
    }

    #[test]
    fn a_large_buffer_is_not_pooled() {
        let mut pool = Pool::new(100 << 20);
        let mut buffers = Box::<Buffers>::default();
        assert!(buffers.output.push(&vec![0; LARGEST_KEPT + 1], usize::MAX));
        pool.give_back(buffers);
        assert_eq!(pool.take().output.capacity(), 0);
    }
}
