//! A world of an embedder's own that shares the types of `locket:lock`: at the root of its crate, and
//! in a module.
#![allow(missing_docs, reason = "generated")]

// `locket` alone is ambiguous where the generated module of this name is.
use ::locket::sandbox::Rights;
use ::locket::{Engine, Mode, OnRelease, State};
use locket_wasmtime::{LockFile, LocketCtx};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};

macro_rules! own_world {
    () => {
        wasmtime::component::bindgen!({
            inline: "
                package my:host;

                interface audit {
                    use locket:lock/api@0.1.0.{lock-file};
                    note: func(lock: borrow<lock-file>) -> string;
                }

                world plugin {
                    import locket:lock/api@0.1.0;
                    import audit;
                }
            ",
            path: "wit",
            world: "my:host/plugin",
            imports: { default: trappable },
            with: { "locket:lock": ::locket_wasmtime::bindings },
            require_store_data_send: true,
        });
    };
}

own_world!();

mod module {
    own_world!();
}

/// The data of a store.
struct Data {
    locket: LocketCtx,
    table: ResourceTable,
}

impl locket_wasmtime::LocketView for Data {
    fn locket(&mut self) -> locket_wasmtime::LocketCtxView<'_> {
        locket_wasmtime::LocketCtxView {
            ctx: &mut self.locket,
            table: &mut self.table,
        }
    }
}

fn note(data: &Data, lock: &Resource<LockFile>) -> Result<String> {
    let lock = data.table.get(lock)?;
    let held = lock.state() == State::Held;
    Ok(format!("{} held={held}", lock.path()))
}

impl my::host::audit::Host for Data {
    fn note(&mut self, lock: Resource<LockFile>) -> Result<String> {
        note(self, &lock)
    }
}

impl module::my::host::audit::Host for Data {
    fn note(&mut self, lock: Resource<LockFile>) -> Result<String> {
        note(self, &lock)
    }
}

#[test]
fn both_link_beside_the_locks() {
    let engine = wasmtime::Engine::default();
    let mut linker = Linker::<Data>::new(&engine);
    locket_wasmtime::p2::add_to_linker_async(&mut linker).unwrap();
    my::host::audit::add_to_linker::<_, HasSelf<Data>>(&mut linker, |data| data).unwrap();
    let mut linker = Linker::<Data>::new(&engine);
    locket_wasmtime::p2::add_to_linker_sync(&mut linker).unwrap();
    module::my::host::audit::add_to_linker::<_, HasSelf<Data>>(&mut linker, |data| data).unwrap();
}

#[test]
fn a_function_of_the_host_asks_a_lock_that_it_borrows() {
    let dir = tempfile::tempdir().unwrap();
    let locket = LocketCtx::builder(&Engine::new())
        .grant_dir(dir.path(), "/locks", Rights::LOCKS)
        .unwrap()
        .build();
    let mut table = ResourceTable::new();
    let lock = locket.open("/locks/a", None, OnRelease::Keep).unwrap();
    let hold = lock.acquire(Mode::Exclusive, None).unwrap();
    let lock = table.push(lock).unwrap();
    let mut data = Data { locket, table };
    let borrow = || Resource::new_borrow(lock.rep());
    let held = my::host::audit::Host::note(&mut data, borrow()).unwrap();
    assert_eq!(held, "/locks/a held=true");
    hold.release().unwrap();
    let free = module::my::host::audit::Host::note(&mut data, borrow()).unwrap();
    assert_eq!(free, "/locks/a held=false");
}
