//! Locks of real servers, through the engine.
#![cfg(all(target_os = "linux", not(any(loom, shuttle))))]

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(feature = "etcd", feature = "postgres"))]
mod fork;
#[cfg(feature = "postgres")]
mod postgres;
