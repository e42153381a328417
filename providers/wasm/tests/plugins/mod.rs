//! Plugins for the tests, in the text form of WebAssembly, so that no other compiler is needed.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses some of it, and may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sluice_provider::{Key, Provider, Result};
use sluice_provider_wasm::{Host, Places, Settings};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Memory that is handed out from the first page on and taken back after each call.
const ALLOCATOR: &str = r#"
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 65536))
  (func $allocate (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1))))))
    (local.get $at))
  (func $free (global.set $next (i32.const 65536)))
"#;

/// What a `get` of this plugin does is told by the first letter of the key: h answers hello, c counts the calls of the instance, l loops,
/// m eats memory, s takes stack without end, t traps, w tells a wrong size, e no entity tag, p points beyond its memory, o answers 5000
/// bytes, b 16 MiB, f an attribute that is not for it; everything else is not there. `list` is out of order.
const UNRULY: &str = r#"(module
  <allocator>
  (data (i32.const 1024) "hello") (data (i32.const 1040) "etag-1") (data (i32.const 1056) "owner")
  (global $calls (mut i32) (i32.const 0))
  (func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $found (param $size i64) (param $body i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 0))
    (i64.store (i32.const 8) (local.get $size))
    (i32.store (i32.const 16) (i32.const 1040)) (i32.store (i32.const 20) (i32.const 6))
    (i64.store (i32.const 24) (i64.const 1700000000))
    (i32.store (i32.const 32) (i32.const 0)) (i32.store (i32.const 36) (i32.const 0))
    (i32.store (i32.const 40) (local.get $body)) (i32.store (i32.const 44) (local.get $length))
    (i32.const 0))
  (func $failed (param $how i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 1)) (i32.store8 (i32.const 8) (local.get $how)) (i32.store8 (i32.const 4) (local.get $how))
    (i32.const 0))
  (func $get (export "sluice:provider/objects@1.0.0#get") (param $key i32) (param $length i32) (result i32)
    (local $letter i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (local.set $letter (i32.load8_u (local.get $key)))
    (if (i32.eq (local.get $letter) (i32.const 104)) (then (return (call $found (i64.const 5) (i32.const 1024) (i32.const 5)))))
    (if (i32.eq (local.get $letter) (i32.const 99)) (then
      (i32.store8 (i32.const 1072) (i32.add (i32.const 48) (global.get $calls)))
      (return (call $found (i64.const 1) (i32.const 1072) (i32.const 1)))))
    (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $forever (br $forever))))
    (if (i32.eq (local.get $letter) (i32.const 109)) (then (loop $more (drop (memory.grow (i32.const 16))) (br $more))))
    (if (i32.eq (local.get $letter) (i32.const 115)) (then (drop (call $deep (i32.const 0)))))
    (if (i32.eq (local.get $letter) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $letter) (i32.const 119)) (then (return (call $found (i64.const 6) (i32.const 1024) (i32.const 5)))))
    (if (i32.eq (local.get $letter) (i32.const 101)) (then
      (drop (call $found (i64.const 5) (i32.const 1024) (i32.const 5)))
      (i32.store (i32.const 20) (i32.const 0)) (return (i32.const 0))))
    (if (i32.eq (local.get $letter) (i32.const 112)) (then (return (call $found (i64.const 5) (i32.const -16) (i32.const 5)))))
    (if (i32.eq (local.get $letter) (i32.const 111)) (then (return (call $found (i64.const 5000) (i32.const 1024) (i32.const 5000)))))
    (if (i32.eq (local.get $letter) (i32.const 98)) (then
      (drop (memory.grow (i32.const 256)))
      (return (call $found (i64.const 16777216) (i32.const 0) (i32.const 16777216)))))
    (if (i32.eq (local.get $letter) (i32.const 102)) (then
      (i32.store (i32.const 1104) (i32.const 1056)) (i32.store (i32.const 1108) (i32.const 5))
      (i32.store (i32.const 1112) (i32.const 1024)) (i32.store (i32.const 1116) (i32.const 5))
      (drop (call $found (i64.const 5) (i32.const 1024) (i32.const 5)))
      (i32.store (i32.const 32) (i32.const 1104)) (i32.store (i32.const 36) (i32.const 1)) (return (i32.const 0))))
    (call $failed (i32.const 0)))
  (func (export "sluice:provider/objects@1.0.0#head") (param i32 i32) (result i32) (call $get (local.get 0) (local.get 1)))
  (func (export "sluice:provider/objects@1.0.0#put") (param i32 i32 i64 i32 i32 i64 i32 i32 i32 i32) (result i32)
    (call $failed (i32.const 1)))
  (func (export "sluice:provider/objects@1.0.0#delete") (param i32 i32) (result i32) (call $failed (i32.const 1)))
  (func (export "sluice:provider/objects@1.0.0#list") (param i32 i32 i32 i32 i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.const 2048)) (i32.store (i32.const 8) (i32.const 2)) (i32.store8 (i32.const 12) (i32.const 0))
    (i32.store (i32.const 2048) (i32.const 1025)) (i32.store (i32.const 2052) (i32.const 1))
    (i32.store (i32.const 2064) (i32.const 1040)) (i32.store (i32.const 2068) (i32.const 6))
    (i32.store (i32.const 2080) (i32.const 1025)) (i32.store (i32.const 2084) (i32.const 1))
    (i32.store (i32.const 2096) (i32.const 1040)) (i32.store (i32.const 2100) (i32.const 6))
    (i32.const 0))
  (func (export "cabi_post_sluice:provider/objects@1.0.0#get") (param i32) (call $free))
  (func (export "cabi_post_sluice:provider/objects@1.0.0#head") (param i32) (call $free))
  (func (export "cabi_post_sluice:provider/objects@1.0.0#put") (param i32) (call $free))
  (func (export "cabi_post_sluice:provider/objects@1.0.0#delete") (param i32) (call $free))
  (func (export "cabi_post_sluice:provider/objects@1.0.0#list") (param i32) (call $free))
)"#;

/// Lets everything be written whose body does not begin with a `!`.
const CHECK: &str = r#"(module
  <allocator>
  (func (export "sluice:provider/write-check@1.0.0#check") (param i32 i32 i64 i32 i32 i64 i32 i32 i32 i32) (result i32)
    (i32.store8 (i32.const 0) (i32.const 0))
    (if (i32.ne (local.get 9) (i32.const 0)) (then
      (if (i32.eq (i32.load8_u (local.get 8)) (i32.const 33)) (then
        (i32.store8 (i32.const 0) (i32.const 1)) (i32.store8 (i32.const 4) (i32.const 1))))))
    (i32.const 0))
  (func (export "cabi_post_sluice:provider/write-check@1.0.0#check") (param i32) (call $free))
)"#;

/// Answers all but the first byte, which it replaces by the one in <mark>, as a type of its own. <slow> is what it does before.
const TRANSFORM: &str = r#"(module
  <allocator>
  (data (i32.const 1024) "text/x-made")
  (func (export "sluice:provider/read-transform@1.0.0#transform") (param i32 i32 i64 i32 i32 i64 i32 i32 i32 i32) (result i32)
    <slow>
    (if (i32.ne (local.get 9) (i32.const 0)) (then (i32.store8 (local.get 8) (i32.const <mark>))))
    (i32.store8 (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get 8)) (i32.store (i32.const 8) (local.get 9))
    (i32.store8 (i32.const 12) (i32.const 1)) (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 11))
    (i32.const 0))
  (func (export "cabi_post_sluice:provider/read-transform@1.0.0#transform") (param i32) (call $free))
)"#;

const SLOW: &str = "(local $n i64)
    (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 115)) (then
      (loop $more
        (local.set $n (i64.add (local.get $n) (i64.const 1)))
        (br_if $more (i64.lt_u (local.get $n) (i64.const <count>))))))";

/// Decides by the last letter of the key: d is denied, about n it has no opinion, u is denied to those who do not sign, r to whatever
/// does not begin with a G; l loops, m eats memory, t traps, w answers what is no decision. Everything else is allowed.
const AUTHORISER: &str = r#"(module
  <allocator>
  (func (export "sluice:provider/authorise@1.0.0#decide") (param $request i32) (result i32)
    (local $letter i32) (local $length i32)
    (local.set $length (i32.load (i32.add (local.get $request) (i32.const 48))))
    (if (i32.eqz (local.get $length)) (then (return (i32.const 2))))
    (local.set $letter (i32.load8_u (i32.sub
      (i32.add (i32.load (i32.add (local.get $request) (i32.const 44))) (local.get $length)) (i32.const 1))))
    (if (i32.eq (local.get $letter) (i32.const 100)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $letter) (i32.const 110)) (then (return (i32.const 2))))
    (if (i32.eq (local.get $letter) (i32.const 117)) (then (return (i32.eqz (i32.load8_u (local.get $request))))))
    (if (i32.eq (local.get $letter) (i32.const 114)) (then
      (return (i32.ne (i32.load8_u (i32.load (i32.add (local.get $request) (i32.const 28)))) (i32.const 71)))))
    (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $forever (br $forever))))
    (if (i32.eq (local.get $letter) (i32.const 109)) (then (loop $more (drop (memory.grow (i32.const 16))) (br $more))))
    (if (i32.eq (local.get $letter) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $letter) (i32.const 119)) (then (return (i32.const 7))))
    (i32.const 0))
  (func (export "cabi_post_sluice:provider/authorise@1.0.0#decide") (param i32) (call $free))
)"#;

/// A component of a module in text form.
fn component(text: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text.replace("<allocator>", ALLOCATOR)).unwrap();
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/wit")).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

pub(crate) fn unruly() -> Vec<u8> {
    component(UNRULY, "provider")
}

pub(crate) fn check() -> Vec<u8> {
    component(CHECK, "check")
}

pub(crate) fn authoriser() -> Vec<u8> {
    component(AUTHORISER, "authoriser")
}

pub(crate) fn transform(mark: char) -> Vec<u8> {
    component(&TRANSFORM.replace("<slow>", "").replace("<mark>", &u32::from(mark).to_string()), "transform")
}

/// The same, which counts to this number when the key begins with an s.
pub(crate) fn slow_transform(mark: char, count: u64) -> Vec<u8> {
    let slow = SLOW.replace("<count>", &count.to_string());
    component(&TRANSFORM.replace("<slow>", &slow).replace("<mark>", &u32::from(mark).to_string()), "transform")
}

/// Of another version of the interface.
pub(crate) fn newer() -> Vec<u8> {
    let bytes = check();
    let (from, to) = (b"write-check@1.0.0", b"write-check@2.0.0");
    let mut newer = bytes.clone();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            newer[at..at + to.len()].copy_from_slice(to);
        }
    }
    newer
}

/// A host with a plugin directory and a cache of its own.
pub(crate) struct Place {
    pub(crate) root: tempfile::TempDir,
    pub(crate) host: Host,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path());
        Self { root, host }
    }

    /// One that keeps machine code where other such places keep it: what many tests use is compiled once.
    pub(crate) fn sharing() -> Self {
        let root = tempfile::tempdir().unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins");
        let host = Host::new(Places { plugins: root.path().join("plugins"), cache: Some(cache) }).unwrap();
        Self { root, host }
    }

    /// Puts a plugin there, whole at once.
    pub(crate) fn install(&self, name: &str, wasm: &[u8]) {
        let new = self.root.path().join("new");
        std::fs::write(&new, wasm).unwrap();
        std::fs::rename(new, self.root.path().join(format!("plugins/{name}.wasm"))).unwrap();
    }

    pub(crate) async fn mount(&self, settings: &[(&str, &str)], over: Option<Arc<dyn Provider>>) -> Result<Arc<dyn Provider>> {
        sluice_provider_wasm::open(&self.host, read(settings), over).await
    }
}

/// A host over a directory, as another process would make it.
pub(crate) fn host(root: &Path) -> Host {
    Host::new(Places { plugins: root.join("plugins"), cache: Some(root.join("cache")) }).unwrap()
}

pub(crate) fn read(settings: &[(&str, &str)]) -> Settings {
    let map: BTreeMap<String, String> = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Settings::from_map(&map).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}
