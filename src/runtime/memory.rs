//! The memory of the process: what is not needed is given back to the system, the program's own pages and what the allocator holds.

#![allow(unsafe_code, reason = "neither madvise(2) on mapped code nor the allocator's options have safe wrappers")]

use std::ffi::{c_int, c_long, c_void};
use std::fs;
use std::ops::Range;
use std::time::Duration;

/// How long the allocator keeps what was freed, in milliseconds: a second unless told, in which as much again is taken for what comes next.
const PURGE_DELAY: c_long = 100;
/// The number of `mi_option_purge_delay` in mimalloc.h of version 3.
const OPTION_PURGE_DELAY: c_int = 15;

/// Keeps the memory of the process small. Called once, before there are threads.
///
/// Pages are of 4 KiB: huge ones take 2 MiB for the first byte that is used of each, half of what an idle gateway held, and no operation was
/// measured to be dearer without them. (That the allocator asks for none before this is called, its feature `no_thp` sees to.) What is freed
/// goes back to the system soon; what the environment says of that (`MIMALLOC_PURGE_DELAY`) goes before.
pub fn settle() {
    // Where the kernel has no huge pages there is nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // SAFETY: writes a number into the allocator's own table, after it has checked that the option is one of it; no pointer is passed.
    // Nobody else is there yet who could read it at the same time.
    unsafe { libmimalloc_sys::mi_option_set_default(OPTION_PURGE_DELAY, PURGE_DELAY) };
}

/// When a start is over, its first rounds of tasks and checks of health with it.
const START: Duration = Duration::from_secs(5);

/// Waits until the start is over, and gives back what only that needed.
pub async fn give_back_after_start() {
    tokio::time::sleep(START).await;
    if let Ok(Some(bytes)) = tokio::task::spawn_blocking(give_back).await {
        tracing::debug!(bytes, "the program's pages were given back");
    }
}

/// Gives back the pages of this program's file that are mapped and unchanged: code and tables of the start, and of what came before. Whatever is
/// needed again is mapped again from the page cache, sixteen pages at a time. Answers how many bytes of address space that was about; `None` when
/// the system does not tell (no `/proc`).
fn give_back() -> Option<usize> {
    let program = fs::read_link("/proc/self/exe").ok()?;
    let maps = fs::read_to_string("/proc/self/smaps").ok()?;
    let ranges = unchanged(&maps, program.to_str()?);
    for range in &ranges {
        // SAFETY: the range is a mapping of the program's own file that nobody can write to and that holds no page of its own (`Anonymous` of
        // smaps is 0), so that every page of it is a page of that file. MADV_DONTNEED only takes pages out of the page table: whoever touches
        // one next, this very code among them, finds the same bytes of the file there (madvise(2)). Nothing unmaps or
        // protects mappings of the program after its start, so the range is still what smaps said.
        let advised = unsafe { libc::madvise(range.start as *mut c_void, range.len(), libc::MADV_DONTNEED) };
        if advised != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "pages of the program stay mapped");
        }
    }
    Some(ranges.iter().map(Range::len).sum())
}

/// The mappings of a file that cannot be written to and hold no page of their own, as smaps (proc(5)) tells them.
fn unchanged(smaps: &str, file: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        if let Some(found) = mapped(line, file) {
            mapping = found;
        } else if line.split_ascii_whitespace().eq(["Anonymous:", "0", "kB"]) {
            ranges.extend(mapping.take());
        }
    }
    ranges
}

/// Of a line that begins a mapping: its range, if it is one of that file and cannot be written to.
fn mapped(line: &str, file: &str) -> Option<Option<Range<usize>>> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let range = number(start)?..number(end)?;
    let permissions = fields.next()?;
    // Private: of a shared mapping of a file nothing is our own.
    let wanted = permissions.starts_with('r') && permissions.get(1..2) == Some("-") && permissions.ends_with('p');
    let name = fields.nth(3).unwrap_or_default().trim_start();
    Some((wanted && name == file).then_some(range))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn only_what_is_unchanged_and_cannot_be_written_to() {
        let smaps = "\
00400000-00500000 r--p 00000000 fe:00 12     /usr/bin/sluice
Size:               1024 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
00500000-00900000 r-xp 00100000 fe:00 12     /usr/bin/sluice
Anonymous:             0 kB
00900000-00a00000 r--p 00500000 fe:00 12     /usr/bin/sluice
Anonymous:            16 kB
00a00000-00b00000 rw-p 00600000 fe:00 12     /usr/bin/sluice
Anonymous:             0 kB
00c00000-00d00000 r-xp 00000000 fe:00 13     /usr/bin/sluice (deleted)
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 14     /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000300000 r--p 00000000 00:00 0
Anonymous:             0 kB
";
        assert_eq!(unchanged(smaps, "/usr/bin/sluice"), [0x40_0000..0x50_0000, 0x50_0000..0x90_0000]);
        assert!(unchanged(smaps, "/usr/bin/other").is_empty());
        assert!(unchanged("", "/usr/bin/sluice").is_empty());
    }

    #[test]
    fn the_option_has_this_number() {
        // SAFETY: reads a number from the allocator's own table.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(OPTION_PURGE_DELAY) };
        // What version 3 of mimalloc has unless told.
        assert_eq!(delay(), 1000);
        settle();
        assert_eq!(delay(), PURGE_DELAY);
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let before = format!("{:?}", (1..1000).collect::<Vec<u32>>());
        let given_back = give_back().unwrap();
        // This program's code, at least.
        assert!(given_back > 1 << 20, "{given_back}");
        assert_eq!(format!("{:?}", (1..1000).collect::<Vec<u32>>()), before);
    }
}
