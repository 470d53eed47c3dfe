//! `locket componentize`: makes a component of a core module.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as WASI, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER as COMMAND,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER as REACTOR,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, SourceMap};

use crate::exit::{self, ExitError};
use crate::output::shown_path;

/// Make a component of a core module, as compilers for WASI 0.1 write one.
///
/// What the module imports from WASI 0.1, the component imports from WASI 0.2. A module that is linked
/// with C bindings records which interfaces it uses. For others, `--wit` names the world that the module
/// implements.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  locket componentize job.core.wasm -o job.wasm
  locket componentize --wit job.wit job.core.wasm -o job.wasm
  locket componentize --wit job.wit --string-encoding utf16 job.core.wasm -o job.wasm

Exit status:
  0, 64 invalid usage, 65 MODULE is not a core module or does not implement its world, or the world is
  not valid, 66 MODULE or the world cannot be read, or COMPONENT cannot be
  written")]
pub(crate) struct Componentize {
    /// World that the module implements: a file, which may use `locket:lock` without having it, or a folder
    /// with all that it uses, as for other tools
    #[arg(long, value_name = "PATH")]
    wit: Option<PathBuf>,

    /// Name of the world, if there are several, for example example:app/job
    #[arg(long, requires = "wit")]
    world: Option<String>,

    /// How the module encodes strings; AssemblyScript's are utf16
    #[arg(long, requires = "wit", value_enum, default_value_t = Encoding::Utf8)]
    string_encoding: Encoding,

    /// Core module, for example job.core.wasm
    module: PathBuf,

    /// Where the component goes, for example job.wasm
    #[arg(short, long, value_name = "COMPONENT")]
    output: PathBuf,
}

/// How a module encodes strings.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encoding {
    Utf8,
    Utf16,
}

impl Componentize {
    pub(crate) fn run(self) -> Result<u8> {
        let module = fs::read(&self.module);
        let mut module = module.map_err(|error| cannot_read(&self.module, &error))?;
        if let Some(wit) = &self.wit {
            fs::metadata(wit).map_err(|error| cannot_read(wit, &error))?;
        }
        let component = self.encode(&mut module).map_err(|error| {
            let path = shown_path(&self.module);
            ExitError::new(
                exit::DATA,
                format_args!("cannot make a component of `{path}`: {error:#}"),
            )
        })?;
        fs::write(&self.output, component).map_err(|error| {
            let path = shown_path(&self.output);
            ExitError::new(
                exit::NO_INPUT,
                format_args!("cannot write `{path}`: {error}"),
            )
        })?;
        Ok(0)
    }

    fn encode(&self, module: &mut Vec<u8>) -> Result<Vec<u8>> {
        let adapter = if is_command(module)? {
            COMMAND
        } else {
            REACTOR
        };
        if let Some(wit) = &self.wit {
            let mut resolve = Resolve::default();
            let package = if wit.is_dir() {
                resolve.push_dir(wit)?.0
            } else {
                push_locket(&mut resolve)?;
                resolve.push_file(wit)?
            };
            let world = resolve.select_world(&[package], self.world.as_deref())?;
            let encoding = match self.string_encoding {
                Encoding::Utf8 => StringEncoding::UTF8,
                Encoding::Utf16 => StringEncoding::UTF16,
            };
            // Names with whole versions, as compilers import them.
            let canonical_names = false;
            embed_component_metadata(module, &resolve, world, encoding, canonical_names)?;
        }
        let component = ComponentEncoder::default()
            .validate(true)
            .module(module)?
            .adapter(WASI, adapter)?
            .encode();
        match component {
            Err(error) if self.wit.is_none() => Err(error.context(
                "if the module does not say which world it implements, name the world with `--wit`",
            )),
            component => component,
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> ExitError {
    let path = shown_path(path);
    ExitError::new(
        exit::NO_INPUT,
        format_args!("cannot read `{path}`: {error}"),
    )
}

/// `locket:lock`, and what it uses of WASI.
const LOCKET: [&[(&str, &str)]; 4] = [
    &[("io.wit", include_str!("../wit/deps/io.wit"))],
    &[("clocks.wit", include_str!("../wit/deps/clocks.wit"))],
    &[("filesystem.wit", include_str!("../wit/deps/filesystem.wit"))],
    &[
        ("lock.wit", include_str!("../wit/lock.wit")),
        ("ranges.wit", include_str!("../wit/ranges.wit")),
        ("descriptors.wit", include_str!("../wit/descriptors.wit")),
        ("world.wit", include_str!("../wit/world.wit")),
    ],
];

fn push_locket(resolve: &mut Resolve) -> Result<()> {
    for package in LOCKET {
        let mut files = SourceMap::default();
        for (name, text) in package {
            files.push_str(name, *text);
        }
        let package = files.parse().map_err(|(_, error)| error)?;
        resolve.push_group(package)?;
    }
    Ok(())
}

/// Whether a module is a program, which WASI 0.1 starts by the name `_start`.
fn is_command(module: &[u8]) -> Result<bool> {
    ensure!(
        !Parser::is_component(module),
        "it is a component already, which `locket run` runs"
    );
    ensure!(Parser::is_core_wasm(module), "it is not WebAssembly");
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(exports) = payload? {
            for export in exports {
                if export?.name == "_start" {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
