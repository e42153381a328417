//! What of the bytes that were written to a connection its peer has not taken yet: `SIOCOUTQ`, tcp(7).

#![allow(unsafe_code, reason = "SIOCOUTQ has no safe wrapper")]

use std::os::fd::AsRawFd;

use tokio::net::TcpStream;

/// Bytes that are written and not acknowledged; `None` when the system does not tell.
pub(super) fn unsent(socket: &TcpStream) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as `socket` is borrowed. Of a TCP socket the request, which has the number of TIOCOUTQ,
    // writes one int through the pointer, which lives on this frame until after the call and is not kept.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| answer == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_the_peer_has_not_taken_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        assert_eq!(unsent(&near), Some(0));
        // More than the system holds for both ends.
        let block = vec![0; 64 * 1024];
        let mut written = 0;
        while let Ok(Ok(more)) = tokio::time::timeout(std::time::Duration::from_millis(50), near.write(&block)).await {
            written += more;
        }
        let full = unsent(&near).unwrap();
        assert!(full > 0);
        let mut taken = vec![0; written / 2];
        far.read_exact(&mut taken).await.unwrap();
        // The acknowledgements come when they come.
        while unsent(&near).unwrap() >= full {
            tokio::task::yield_now().await;
        }
    }
}
