//! Makes plugins of C, in two steps with a C compiler between them:
//!
//! ```console
//! $ componentize-c bindings providers/wasm/wit provider made
//! $ clang … made/*.c made/*.o plugin.c -o made/plugin.wasm
//! $ componentize-c component made/plugin.wasm plugin.wasm
//! ```
//!
//! It is what `wit-bindgen c` and `wasm-tools component new` do, of the versions that the tests use. `docs/providers/wasm.md` has the guide.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use wasm_encoder::{CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, TypeSection};
use wasmparser::{Parser, Payload, TypeRef, ValType};
use wit_bindgen_core::Files;
use wit_component::ComponentEncoder;
use wit_parser::Resolve;

const USAGE: &str = "\
usage: componentize-c bindings WIT WORLD DIRECTORY
           writes WORLD.h, WORLD.c and WORLD_component_type.o
       componentize-c component MODULE COMPONENT
           makes a component of what was compiled and linked with these";

/// What a C library takes for its operating system.
const WASI: &str = "wasi_snapshot_preview1";
/// What that says of a file that is not there.
const BADF: i32 = 8;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("componentize-c: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<()> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    match arguments.as_slice() {
        [step, wit, world, directory] if *step == "bindings" => bindings(wit.as_ref(), world, directory.as_ref()),
        [step, module, component] if *step == "component" => encoded(module.as_ref(), component.as_ref()),
        _ => bail!("{USAGE}"),
    }
}

/// Writes what C sees of a world.
fn bindings(wit: &Path, world: &OsStr, directory: &Path) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).with_context(|| format!("{}", wit.display()))?;
    let world = resolve.select_world(&[package], world.to_str())?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
    fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    for (name, bytes) in files.iter() {
        let path = directory.join(name);
        fs::write(&path, bytes).with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// Makes a component of a module. What that imports of WASI, because its libc does, is a part of the component and fails: plugins get none of it.
fn encoded(module: &Path, component: &Path) -> Result<()> {
    let bytes = fs::read(module).with_context(|| format!("{}", module.display()))?;
    let failing = failing(&bytes, WASI).with_context(|| format!("{}", module.display()))?;
    let encoder = ComponentEncoder::default().validate(true).module(&bytes)?.adapter(WASI, &failing);
    let encoded = encoder.and_then(|mut encoder| encoder.encode()).context("not a plugin")?;
    fs::write(component, encoded).with_context(|| format!("{}", component.display()))
}

/// A module with each function that another imports from a third. It answers [`BADF`], or traps where the answer is no number.
fn failing(module: &[u8], from: &str) -> Result<Vec<u8>> {
    let (mut types, mut functions, mut exports, mut code) =
        (TypeSection::new(), FunctionSection::new(), ExportSection::new(), CodeSection::new());
    let mut known = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => known = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?,
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let TypeRef::Func(of) = import.ty else { continue };
                    if import.module != from {
                        continue;
                    }
                    let of = known.get(of as usize).context("a function of no type")?;
                    let index = functions.len();
                    types.ty().func_type(&of.clone().try_into().map_err(|_| anyhow!("a function of another kind"))?);
                    functions.function(index);
                    exports.export(import.name, ExportKind::Func, index);
                    let mut body = Function::new([]);
                    match of.results() {
                        [ValType::I32] => body.instructions().i32_const(BADF).end(),
                        _ => body.instructions().unreachable().end(),
                    };
                    code.function(&body);
                }
            }
            _ => {}
        }
    }
    let mut made = Module::new();
    made.section(&types).section(&functions).section(&exports).section(&code);
    Ok(made.finish())
}
