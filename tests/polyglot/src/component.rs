//! Components of the modules that compilers without components produce, as `wasm-tools component`
//! and `wac plug` make them.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use wac_graph::{CompositionGraph, EncodeOptions};
use wac_types::Package;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;
use wit_parser::{Resolve, WorldId};

pub use wit_component::StringEncoding;

use crate::root;

/// The folder of the world `polyglot`.
pub fn wit() -> PathBuf {
    root().join("tests/polyglot/wit")
}

/// A world of the package in a folder.
///
/// # Errors
///
/// Where the folder does not parse, or has no such world.
pub fn world(wit: &Path, world: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}

/// The world of an example: a file that needs only the interface of locks.
///
/// # Errors
///
/// If the file does not parse, or has no such world.
pub fn example_world(wit: &Path, world: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    resolve.push_dir(root().join("wit"))?;
    let package = resolve.push_file(wit)?;
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}

/// Adds to a module which world it implements, and how it encodes strings.
///
/// # Errors
///
/// Where there is no such world, or the module is not one.
pub fn embed(
    module: &mut Vec<u8>,
    (resolve, world): &(Resolve, WorldId),
    encoding: StringEncoding,
) -> Result<()> {
    // Names with whole versions, as in what the generators embed.
    let canonical_names = false;
    wit_component::embed_component_metadata(module, resolve, *world, encoding, canonical_names)
}

/// Makes a component of a module that says which worlds it implements, and whose other imports are
/// of WASI 0.1 at most. A module that exports `_start` becomes a command.
///
/// # Errors
///
/// Where the module is not what it says.
pub fn new(module: &[u8]) -> Result<Vec<u8>> {
    // The name as it is in the binary, among the exports.
    let is_command = module.windows(7).any(|name| name == b"\x06_start");
    let adapter = match is_command {
        true => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    ComponentEncoder::default()
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
        .encode()
}

/// Satisfies the imports of one component by the exports of another.
///
/// # Errors
///
/// Where none of them fits.
pub fn plug(socket: Vec<u8>, plug: Vec<u8>) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let mut register = |name: &str, component: Vec<u8>| -> Result<_> {
        let package = Package::from_bytes(name, None, component, graph.types_mut())
            .with_context(|| format!("the {name} is no component"))?;
        Ok(graph.register_package(package)?)
    };
    let socket = register("socket", socket)?;
    let plug = register("plug", plug)?;
    wac_graph::plug(&mut graph, vec![plug], socket)?;
    Ok(graph.encode(EncodeOptions::default())?)
}
