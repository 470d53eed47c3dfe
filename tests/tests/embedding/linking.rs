//! What the functions that link do with a linker, and say of one that has the interfaces already.

use locket_tests::harness::{Host, State, runtime};
use locket_wasmtime::{API, p2};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

fn redefine(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut api = linker.instance(API)?;
    api.func_wrap(
        "[method]lock-file.acquire",
        |_: StoreContextMut<'_, State>, (): ()| Ok(()),
    )
}

#[test]
fn linking_for_synchronous_calls_keeps_the_setting_for_shadowing() {
    let mut linker = Linker::new(runtime());
    p2::add_to_linker_sync(&mut linker).unwrap();
    assert!(redefine(&mut linker).is_err());
    let mut linker = Linker::new(runtime());
    linker.allow_shadowing(true);
    p2::add_to_linker_sync(&mut linker).unwrap();
    redefine(&mut linker).unwrap();
}

#[test]
fn linking_twice_names_the_interface() {
    let mut linker: Linker<State> = Linker::new(runtime());
    p2::add_to_linker_async(&mut linker).unwrap();
    let error = p2::add_to_linker_async(&mut linker).unwrap_err();
    assert!(format!("{error:#}").contains(API), "{error:#}");
}

#[test]
fn data_without_a_view_can_be_linked_for_synchronous_calls() {
    struct Data(
        locket_wasmtime::LocketCtx,
        wasmtime::component::ResourceTable,
    );

    let host = Host::new();
    let mut linker = Linker::new(runtime());
    p2::add_to_linker_sync_with(&mut linker, |data: &mut Data| {
        locket_wasmtime::LocketCtxView {
            ctx: &mut data.0,
            table: &mut data.1,
        }
    })
    .unwrap();
    let data = Data(host.ctx().build(), Default::default());
    let mut store = wasmtime::Store::new(runtime(), data);
    store.set_epoch_deadline(1 << 60);
    let bare = locket_tests::harness::component("bare");
    let bare = linker.instantiate(&mut store, &bare).unwrap();
    let run = bare.get_typed_func::<(&str, Option<u32>), (String,)>(&mut store, "run");
    let answer = run.unwrap().call(&mut store, ("/locks/a", None)).unwrap();
    assert_eq!(answer.0, "ok");
}
