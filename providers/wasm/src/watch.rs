//! The watch of the plugin directory.
//!
//! The files of what is mounted are looked at, a few dozen times a second: that costs a `stat` each, sees what others write on network
//! file systems, and needs nothing of the kernel that containers or small kernels do not have.

use std::sync::Weak;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::host::Shared;

/// How often. A file that is another one has to stay as it is from one look to the next before it is loaded: a copy takes a while.
const LOOK: Duration = Duration::from_millis(40);
/// How often instances that have waited for long are let go.
const TEND: Duration = Duration::from_secs(30);

/// Looks until the host is gone, or the task is aborted.
pub(crate) fn start(host: Weak<Shared>) -> AbortHandle {
    tokio::spawn(run(host)).abort_handle()
}

async fn run(host: Weak<Shared>) {
    let mut tended = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(host) = host.upgrade() else { return };
        let loaded = host.look().await;
        if loaded || tended.elapsed() >= TEND {
            host.tend().await;
            tended = Instant::now();
        }
    }
}
