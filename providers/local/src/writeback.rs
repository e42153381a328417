//! Writing out without waiting, sync_file_range(2).

#![allow(unsafe_code, reason = "sync_file_range(2) has no safe wrapper")]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the kernel begin to write out what is dirty of a file. Promises nothing; it makes the flush that follows shorter, and lets
/// several files share a commit of the journal: their blocks are all allocated before the first of them is flushed. A file system
/// that cannot do it says so, and nobody minds.
pub(crate) fn begin(file: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open as long as it is borrowed, and no memory is passed.
    let _: libc::c_int = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_bytes_are_what_they_were_and_can_be_flushed_and_overwritten() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 9000]).unwrap();
        begin(file.as_fd());
        file.write_all(b"more").unwrap();
        file.sync_all().unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.len(), &bytes[8998..]), (9004, &b"\x07\x07more"[..]));
        // No file system is behind it.
        let (reader, _writer) = std::io::pipe().unwrap();
        begin(reader.as_fd());
    }
}
