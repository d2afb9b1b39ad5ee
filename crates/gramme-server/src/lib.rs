//! The outside of a node: threads and sockets around [`gramme_node`], which knows neither.
//!
//! Reading order: [`settings`] (what an operator decides), [`cluster_file`] and [`identity`] (who this node
//! is), [`run`] and [`shard`] (the threads and what they own), [`tokio_env`] and [`peers`] (the world as a
//! shard sees it), [`doors`] (HTTP and RESP), [`health`] (what is wrong, and what to do), [`metrics`] and [`logs`].
//!
//! Invariant: a shard's state is touched by its own thread alone; everything that crosses goes through its
//! [`mailbox`], in batches.
#![forbid(unsafe_code)]

pub mod cluster_file;
mod doors;
pub mod figures;
mod ground;
mod health;
pub mod identity;
mod inbox;
pub mod load;
pub mod logs;
mod mailbox;
mod metrics;
mod peers;
mod random;
pub mod run;
pub mod settings;
mod shard;
mod store;
mod tally;
pub mod time;
mod tls;
mod tokio_env;

/// The known word that a mistyped one is nearest to, if any is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
