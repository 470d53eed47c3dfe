//! The promises, for the threads of one process: each with an engine of its own, which is to the
//! others like another process, and all in one engine.

mod engines {
    use locket_test_support::stands::Engines;
    locket_test_support::promises!(Engines[#[cfg(feature = "sqlite")]]);
}

mod threads {
    use locket_test_support::stands::Threads;
    locket_test_support::promises!(Threads[#[cfg(feature = "sqlite")]]);
}
