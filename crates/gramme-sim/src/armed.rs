//! The library's half of the trip-wire: a mark, per thread, that simulated code is running right now.
//!
//! While a thread is armed, nothing on it may read a clock, ask the system for chance, start a thread, open
//! a file or make a socket: each would make two runs of one seed differ. The binary defines the C functions
//! behind those calls and asks [`is_armed`]; a library cannot, so under `cargo test` the wire is silent and
//! only the hashes watch.

use std::cell::{Cell, RefCell};

/// Whether simulated code is being polled on this thread.
pub fn is_armed() -> bool {
    ARMED.with(Cell::get)
}

/// Takes the mark off and returns whether it was set, so that the caller may report in peace.
pub fn disarm() -> bool {
    ARMED.with(|armed| armed.replace(false))
}

/// Records that the wire was touched; the run on this thread fails with the first such text.
pub fn report(call: String) {
    TOUCHED.with(|touched| touched.borrow_mut().get_or_insert(call).len());
}

/// What touched the wire on this thread since the last call, if anything did.
pub fn take_report() -> Option<String> {
    TOUCHED.with(|touched| touched.borrow_mut().take())
}

/// Runs `work` with the mark set.
pub fn while_armed<T>(work: impl FnOnce() -> T) -> T {
    ARMED.with(|armed| armed.set(true));
    let result = work();
    ARMED.with(|armed| armed.set(false));
    result
}

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static TOUCHED: RefCell<Option<String>> = const { RefCell::new(None) };
}
