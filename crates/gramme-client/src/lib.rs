//! Gramme for Rust programs, over its HTTP door: any node takes any request, so the client's whole work is to
//! know several nodes and to be honest about what a broken attempt may have done.
//!
//! Invariant: one call is one write. An attempt that broke, or that a node could not serve, is sent once to
//! another node under the same request id, so that the cluster knows it again; only after that has it failed,
//! and then [`Error::outcome`] says whether anything of it may exist.
//!
//! ```no_run
//! # async fn example() -> Result<(), gramme_client::Error> {
//! use gramme_client::{Client, Got, Options};
//! let db = Client::connect(&["http://127.0.0.1:7400"], Options::default()).await?;
//! db.put("carts", b"u42", "pen").await?;
//! match db.get("carts", b"u42").await? {
//!     Got::One(value) => println!("{} bytes", value.bytes.len()),
//!     Got::Siblings(several) => println!("{} siblings", several.siblings.len()),
//!     Got::Deleted(_) | Got::Missing => println!("nothing"),
//! }
//! db.update("carts", b"u42", |siblings| format!("{} versions seen", siblings.len()).into()).await?;
//! # Ok(()) }
//! ```
//!
//! It refuses to retry more than once, to retry beyond a tenth of its calls, and to know where keys live.
#![forbid(unsafe_code)]

mod client;
mod error;
mod exchange;
mod list;
mod nodes;
mod request;
mod value;

pub use client::{Client, Options, Records};
pub use error::{Error, Kind};
pub use list::{Entry, List, Listing};
pub use request::{Expected, Read, Write};
pub use value::{ContextToken, Got, Sibling, Siblings, Value, Via, Written};
