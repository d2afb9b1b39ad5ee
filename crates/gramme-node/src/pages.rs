//! Going through all rows that begin alike, a page at a time, in order.
//!
//! Rows that change meanwhile are shown as they are when the walk comes to them, or not at all. Who calls decides what
//! a damaged page means.

use bytes::Bytes;
use gramme_storage::{EngineError, Page, Scan};
use std::future::Future;

/// See the module.
pub(crate) struct Pages {
    /// The page that comes next; `None` after the last.
    next: Option<Scan>,
}

impl Pages {
    /// All rows with this prefix, at most so many a page, of about so many bytes.
    pub(crate) fn of(prefix: Bytes, rows_max: usize, bytes_max: usize) -> Pages {
        Pages { next: Some(Scan { prefix, after: None, rows_max, bytes_max }) }
    }

    /// Only rows greater than this one.
    pub(crate) fn after(mut self, row: Option<Bytes>) -> Pages {
        if let Some(scan) = &mut self.next {
            scan.after = row;
        }
        self
    }

    /// The next page, read by `read`; `None` once there is none. After an error the walk is over.
    pub(crate) async fn next<F>(&mut self, read: impl FnOnce(Scan) -> F) -> Result<Option<Page>, EngineError>
    where
        F: Future<Output = Result<Page, EngineError>>,
    {
        let Some(scan) = self.next.take() else { return Ok(None) };
        let page = read(scan.clone()).await?;
        if let Some((last, _)) = page.rows.last().filter(|_| page.more) {
            self.next = Some(Scan { after: Some(last.clone()), ..scan });
        }
        Ok(Some(page))
    }
}
