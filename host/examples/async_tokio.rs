//! Ten tasks take turns, on a single thread. A wait that is dropped leaves the queue: here by a timeout
//! of the runtime, which is as good as one of the lock.
//!
//! `cargo run -p locket-host --example async_tokio -- turns.lock`

use std::time::Duration;

use locket::{Engine, Mode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: async_tokio LOCK")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let lock = Engine::new().open(path)?;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..10 {
            let lock = lock.clone();
            tasks.spawn(async move {
                let acquire = lock.acquire_async(Mode::Exclusive, None);
                match tokio::time::timeout(Duration::from_secs(5), acquire).await {
                    Ok(Ok(_guard)) => println!("task {task} has the lock"),
                    Ok(Err(error)) => println!("task {task}: {error}"),
                    Err(_) => println!("task {task} gave up"),
                }
            });
        }
        tasks.join_all().await;
        Ok(())
    })
}
