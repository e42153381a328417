//! What Apache OpenDAL reaches as a mount: Azure Blob Storage, Google Cloud Storage, Backblaze B2, WebDAV, SFTP, FTP and HTTP.
//!
//! Each service is a cargo feature. Bodies are streamed both ways. What a service cannot keep (ETags that clients know, attributes)
//! lies in an [`Overlay`] under the key, and counts only while the service tells of the same object: the same ETag, or the same size and
//! time. Conditions go to the service that keeps them, and are refused elsewhere. What cannot be published whole is not written at all:
//! FTP and HTTP are read. `docs/providers/opendal.md` tells what each service can do.

mod credentials;
mod error;
mod list;
mod locks;
mod multipart;
mod name;
mod overlay;
mod provider;
mod publish;
mod read;
mod service;
mod settings;
mod transport;
mod write;

pub use overlay::{MemoryOverlay, Overlay};
pub use provider::OpenDal;
pub use service::Service;
pub use settings::{AttributesKept, KNOWN_SETTINGS, Layout, Settings};
