//! A provider with one object in it: GET hello answers the greeting of the mount.

wit_bindgen::generate!({ path: "../../wit", world: "provider" });

use exports::sluice::provider::objects::{Entry, Guest, Page};
use self::sluice::provider::settings;
use self::sluice::provider::types::{Failure, Info, Object};

const KEY: &str = "hello";
/// Seconds since 1970.
const MODIFIED: u64 = 1_700_000_000;

struct Hello;

fn greeting() -> Object {
    let body = settings::get("greeting").unwrap_or_else(|| "Hello, World!".to_owned()) + "\n";
    // Another tag whenever the bytes are others (FNV-1a).
    let hash = body.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let info = Info {
        size: body.len() as u64,
        etag: format!("{hash:08x}"),
        modified: MODIFIED,
        attributes: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
    };
    Object { info, body: body.into_bytes() }
}

impl Guest for Hello {
    fn head(key: String) -> Result<Info, Failure> {
        Self::get(key).map(|object| object.info)
    }

    fn get(key: String) -> Result<Object, Failure> {
        if key == KEY { Ok(greeting()) } else { Err(Failure::NotFound) }
    }

    fn put(_: String, _: Object) -> Result<(), Failure> {
        Err(Failure::Denied)
    }

    fn delete(_: String) -> Result<Option<u64>, Failure> {
        Err(Failure::Denied)
    }

    fn list(prefix: String, start: String, _: u32) -> Result<Page, Failure> {
        let Info { size, etag, modified, .. } = greeting().info;
        let wanted = KEY.starts_with(&prefix) && *KEY >= *start;
        let entries = if wanted { vec![Entry { key: KEY.to_owned(), size, etag, modified }] } else { Vec::new() };
        Ok(Page { entries, more: false })
    }
}

export!(Hello);
