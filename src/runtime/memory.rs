//! The memory of the process: what is not needed is given back to the system, the program's own pages and what the allocator holds.

#![allow(unsafe_code, reason = "neither madvise(2) on mapped code nor the allocator's options have safe wrappers")]

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::num::NonZero;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How long the allocator keeps what was freed, in milliseconds: a second unless told, in which as much again is taken for what comes next.
const PURGE_DELAY: c_long = 100;
/// The number of `mi_option_purge_delay` in mimalloc.h of version 3.
const OPTION_PURGE_DELAY: c_int = 15;

/// Keeps the memory of the process small. Called once, before there are threads.
///
/// Pages are of 4 KiB: huge ones take 2 MiB for the first byte that is used of each, half of what an idle gateway held, and no operation was
/// measured to be dearer without them. (That the allocator asks for none before this is called, its feature `no_thp` sees to.) What is freed
/// goes back to the system soon; what the environment says of that (`MIMALLOC_PURGE_DELAY`) goes before, until [`give_back_freed`] comes by.
pub fn settle() {
    // Where the kernel has no huge pages there is nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // SAFETY: writes a number into the allocator's own table, after it has checked that the option is one of it; no pointer is passed.
    // Nobody else is there yet who could read it at the same time.
    unsafe { libmimalloc_sys::mi_option_set_default(OPTION_PURGE_DELAY, PURGE_DELAY) };
}

/// How often the threads of the runtime together give back what was freed at most, about.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(125);
/// How often one of them does.
static EACH_GIVES_BACK: LazyLock<Duration> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    GIVE_BACK_EVERY * u32::try_from(threads).unwrap_or(u32::MAX)
});

/// Gives back what the allocator holds and nobody uses: of this thread what others have freed, and whatever waits to be given back to the system,
/// which does not wait any longer then. Called by the threads of the runtime before they wait for something to do; most calls look at a clock and
/// no further.
///
/// Without it memory that one thread took and another freed stays with the first until that takes as much again: after a thousand connections
/// their buffers would be held beside those of the uploads that come next. What is freed when a thread waits already stays until it is woken.
pub fn give_back_freed() {
    thread_local!(static LAST: Cell<Option<Instant>> = const { Cell::new(None) });
    let now = Instant::now();
    match LAST.get() {
        Some(last) if now.duration_since(last) < *EACH_GIVES_BACK => return,
        // SAFETY: works on the heap of this thread and takes no pointer; blocks in use stay where they are.
        Some(_) => unsafe { libmimalloc_sys::mi_collect(true) },
        // The thread has only begun.
        None => {}
    }
    LAST.set(Some(now));
}

/// When a start is over, its first rounds of tasks and checks of health with it.
const START: Duration = Duration::from_secs(5);

/// Waits until the start is over, and gives back what only that needed.
pub async fn give_back_after_start() {
    tokio::time::sleep(START).await;
    if let Ok(bytes) = tokio::task::spawn_blocking(give_back).await {
        tracing::debug!(bytes, "the program's pages were given back");
    }
}

/// Gives back the pages of this program's code and constants: those of the start, and what came before. Whatever is needed again is mapped again
/// from the page cache, with what lies around it. Answers how many bytes of address space that was about.
fn give_back() -> usize {
    let segments = constant_segments();
    for range in &segments {
        // SAFETY: the range lies in a segment of the running program that is mapped from its file and was never writable, so its pages are the
        // file's: nothing was relocated in it. MADV_DONTNEED takes them out of the page table; whoever touches one next, this very code among
        // them, finds the same bytes of the file there (madvise(2)). The program's own segments are mapped for as long as it runs.
        let advised = unsafe { libc::madvise(range.start as *mut c_void, range.len(), libc::MADV_DONTNEED) };
        if advised != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "pages of the program stay mapped");
        }
    }
    segments.iter().map(Range::len).sum()
}

/// The whole pages of the program's segments that are not writable.
fn constant_segments() -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    // SAFETY: dl_iterate_phdr(3) calls `of_program` with what it says, and passes on the pointer, behind which is a `Vec` that nobody else uses
    // until it returns.
    unsafe { libc::dl_iterate_phdr(Some(of_program), (&raw mut found).cast()) };
    found
}

/// Takes the segments of the first object, which is the program, and ends the walk.
unsafe extern "C" fn of_program(info: *mut libc::dl_phdr_info, _: libc::size_t, found: *mut c_void) -> c_int {
    // SAFETY: the caller passes an object that is valid during the call, with as many program headers as it says, and the pointer that
    // `constant_segments` gave it.
    let (base, headers, found) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum));
        (info.dlpi_addr as usize, headers, &mut *found.cast::<Vec<Range<usize>>>())
    };
    let page = rustix::param::page_size();
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = base.wrapping_add(header.p_vaddr as usize);
        let end = start.saturating_add(header.p_filesz as usize);
        // What it may share with a neighbour stays.
        let (start, end) = (start.next_multiple_of(page), end / page * page);
        if start < end {
            found.push(start..end);
        }
    }
    1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_allocator_has_the_option() {
        // SAFETY: reads a number from the allocator's own table.
        let delay = unsafe { libmimalloc_sys::mi_option_get(OPTION_PURGE_DELAY) };
        // What version 3 of mimalloc has unless told. (To set it takes a process without other threads.)
        assert_eq!(delay, 1000);
    }

    /// How many of the addresses lie in memory that is in use.
    fn resident(addresses: &[usize]) -> usize {
        let page = rustix::param::page_size();
        let is_resident = |address: &&usize| {
            let mut state = 0;
            // SAFETY: writes one byte for one page, and fails where nothing is mapped, mincore(2).
            let told = unsafe { libc::mincore((**address / page * page) as *mut c_void, page, &raw mut state) };
            told == 0 && state & 1 == 1
        };
        addresses.iter().filter(is_resident).count()
    }

    #[test]
    fn what_another_thread_freed_is_given_back() {
        const BLOCKS: usize = 2048;
        const BYTES: usize = 8192;
        give_back_freed();
        let blocks: Vec<usize> = (0..BLOCKS)
            .map(|_| {
                // SAFETY: a new block of the allocator, written within its bounds.
                unsafe {
                    let block = libmimalloc_sys::mi_malloc(BYTES);
                    assert!(!block.is_null());
                    std::ptr::write_bytes(block.cast::<u8>(), 7, BYTES);
                    block as usize
                }
            })
            .collect();
        assert_eq!(resident(&blocks), BLOCKS);
        let freed = blocks.clone();
        let other = std::thread::spawn(move || {
            for block in freed {
                // SAFETY: allocated above, and freed nowhere else.
                unsafe { libmimalloc_sys::mi_free(block as *mut c_void) };
            }
        });
        other.join().unwrap();
        std::thread::sleep(*EACH_GIVES_BACK);
        give_back_freed();
        let left = resident(&blocks);
        assert!(left < BLOCKS / 10, "{left} of {BLOCKS}");
    }

    #[test]
    fn code_and_constants_are_given_back_and_nothing_else() {
        static CONSTANT: [u8; 1 << 16] = [7; 1 << 16];
        static VARIABLE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(7);
        let segments = constant_segments();
        let holds = |address: usize| segments.iter().any(|range| range.contains(&address));
        assert!(holds(constant_segments as *const () as usize), "the code of the program");
        assert!(holds(CONSTANT[1 << 15..].as_ptr() as usize), "its constants");
        assert!(!holds((&raw const VARIABLE) as usize), "what it changes");
        let on_heap = Box::new(7);
        assert!(!holds((&raw const *on_heap) as usize) && !holds((&raw const on_heap) as usize));
        // Tables of functions are filled in when the program is loaded.
        let object: &dyn std::fmt::Debug = &*on_heap;
        let table: [usize; 2] = {
            // SAFETY: a reference to a trait object is two pointers, to the object and to its table.
            unsafe { std::mem::transmute(object) }
        };
        assert!(!holds(table[1]), "tables with addresses");
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let before = format!("{:?}", (1..1000).collect::<Vec<u32>>());
        // This program's code, at least.
        assert!(give_back() > 1 << 20);
        assert_eq!(format!("{:?}", (1..1000).collect::<Vec<u32>>()), before);
    }
}
