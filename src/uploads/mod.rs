//! Multipart uploads as durable rows: sessions and parts in the metadata store, bytes on the mount.
//!
//! What the room promises:
//! - **A part is safe before it counts.** Its bytes are stored before its row points at them, and the part that it replaces is
//!   discarded only afterwards.
//! - **A Complete happens once, and can be asked for again.** The object is published first, with the upload's id beside it, then
//!   the rows go. Whatever stops in between leaves an upload that can be completed or an object that is complete; the same Complete
//!   asked again finds out which by looking at the object.
//! - **An Abort frees first and forgets last**, so that nothing is forgotten that still holds space.

mod complete;
mod layout;
mod list;
mod parts;
mod request;
mod sessions;
mod settings;
mod sweep;

pub use layout::{CHECKSUM_TYPE_ATTRIBUTE, ObjectPart, PARTS_ATTRIBUTE, UPLOAD_ATTRIBUTE, format_parts, parse_parts};
pub use request::{CompleteRequest, NamedPart, NewUpload, UploadPage};
pub use sessions::{MIN_PART_BYTES, Uploads, session_checksum};
pub use settings::Settings;
