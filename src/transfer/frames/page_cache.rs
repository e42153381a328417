//! What the page cache holds of a file, cachestat(2).

#![allow(unsafe_code, reason = "cachestat(2) has no safe wrapper yet")]

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

use rustix::io::{ReadWriteFlags, preadv2};
use rustix::param::page_size;

/// The same number on every architecture that Linux numbers alike (all but alpha and the 32-bit MIPS ABIs, where the call fails).
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    offset: u64,
    bytes: u64,
}

/// Counts of pages, `struct cachestat` of linux/mman.h.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Whether all of a range is in memory, so that sending it waits for no disk. `false` when the kernel cannot tell (cachestat came
/// with Linux 6.5; later kernels tell it of files that the caller owns or may write).
pub(super) fn holds(file: &File, offset: u64, bytes: u64) -> bool {
    let Some(last) = offset.checked_add(bytes).and_then(|end| end.checked_sub(1)) else { return false };
    if bytes == 0 {
        return true;
    }
    let page = page_size() as u64;
    // The last page first: it is the one that is missing while the file is still being read. Pages that are on their way from the
    // disk are counted below; they cannot be read without waiting.
    cached(counts(file, offset, bytes), last / page - offset / page + 1) && at_hand(file, last) && at_hand(file, offset)
}

fn cached(counts: Option<Counts>, pages: u64) -> bool {
    counts.is_some_and(|counts| counts.cached == pages)
}

/// Whether the byte can be read without waiting.
fn at_hand(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
}

fn counts(file: &File, offset: u64, bytes: u64) -> Option<Counts> {
    let range = Range { offset, bytes };
    let mut counts = Counts::default();
    let (range, into): (*const Range, *mut Counts) = (&raw const range, &raw mut counts);
    // SAFETY: the descriptor is open as long as `file` is borrowed. The kernel reads a `cachestat_range` and writes a `cachestat`,
    // whose layouts `Range` and `Counts` have; both live on this frame until after the call. It keeps neither pointer.
    let answer = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range, into, 0_u32) };
    (answer == 0).then_some(counts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::FileExt;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    fn file(pages: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; (pages * page_size() as u64) as usize], 0).unwrap();
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn what_was_evicted_is_not_held() {
        let file = file(8);
        let page = page_size() as u64;
        if !holds(&file, 0, 8 * page) {
            // An old kernel: everything goes the plain way.
            return;
        }
        assert!(holds(&file, 5, 3) && holds(&file, page - 1, 2) && holds(&file, 3, 0));
        assert!(!holds(&file, 0, 8 * page + 1), "there is no ninth page");
        assert!(!holds(&file, u64::MAX, 2));
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        if holds(&file, 0, page) {
            // A file system that lives in memory keeps it all.
            return;
        }
        let mut all = vec![0; 8 * page as usize];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(holds(&file, 0, 8 * page));
        fadvise(&file, 2 * page, std::num::NonZeroU64::new(2 * page), Advice::DontNeed).unwrap();
        assert!(!holds(&file, 0, 8 * page), "two pages in the middle are gone");
        assert!(holds(&file, 0, 2 * page) && holds(&file, 4 * page, 4 * page));
    }
}
